"""`replay.policy: prototypes`: the pseudo-features against the statistics they are drawn from, the
nodes, and steps that replay them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_params, make_plan
from plan_places import changed, places
from project import Project, make_project
from ssl_models import METHODS
from stream_project import ARRIVALS, append, make_stream
from test_ssl_training import CHANGES, Nodes
from torch import Tensor

from kaizen.errors import Interrupted, KaizenError
from kaizen.evaluation.head_files import read_heads
from kaizen.files import read_json
from kaizen.heads.statistics import ClassStatistics
from kaizen.plan.specs import PrototypesSpec
from kaizen.store.node_id import Kind
from kaizen.training.prototypes import Prototypes

REPLAY: dict[str, Any] = {"replay.policy": "prototypes", "replay.proportion": None}
BASE: dict[str, Any] = REPLAY | {"grid.variants": ["kaizen", "kaizen_no_replay", "no_distill"]}
AFFINE = PrototypesSpec("affine", True, "auto")
CPU = torch.device("cpu")


def rows_of(count: int, size: int, seed: int) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def statistics(per_class: bool = False) -> ClassStatistics:
    """Of classes 2, 5 and 7, of different shapes, and of one row of class 9."""
    spread = torch.tensor([1.0, 0.2, 3.0, 0.5])
    features = [rows_of(50, 4, k) * spread.roll(k) + 4 * k for k in range(3)]
    features.append(torch.full((1, 4), -3.0))
    labels = torch.tensor([2] * 50 + [5] * 50 + [7] * 50 + [9])
    return ClassStatistics.of(torch.cat(features), labels, per_class)


def prototypes(
    params: PrototypesSpec = AFFINE, count: int = 32, per_class: bool = False
) -> Prototypes:
    return Prototypes(statistics(per_class), params, count=count, rows=16, device=CPU)


# -- the numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize("per_class", [False, True])
def test_many_draws_have_the_means_and_covariances_of_the_statistics(per_class: bool) -> None:
    known = statistics(per_class)
    drawn = prototypes(PrototypesSpec("none", True, "auto"), 4000, per_class)
    found: dict[int, list[Tensor]] = {2: [], 5: [], 7: [], 9: []}
    for batch in range(4):
        drawn.prepare(batch, batch)
        old, new = drawn((rows_of(16, 4, 0),) * 2, (rows_of(16, 4, 1),) * 2)
        assert old is new
        for view in old:
            for label, rows in found.items():
                rows.append(view[drawn.labels == label])
    for place, rows in enumerate(found.values()):
        features = torch.cat(rows).double()
        assert len(features) == 8000
        covariance = known.covariance()
        if per_class and known.counts[place] > 1:
            covariance = known.scatter[place] / (known.counts[place] - 1)
        deviations = covariance.diagonal().sqrt()
        assert ((features.mean(0) - known.means[place]).abs() < 0.06 * deviations).all()
        error = (features.T.cov() - covariance).abs()
        assert (error < 0.08 * torch.outer(deviations, deviations)).all()


def test_classes_take_turns_and_a_seed_decides_a_draw() -> None:
    one, two = prototypes(count=10), prototypes(count=10)
    seen = torch.zeros(10)
    for seed in range(200):
        one.prepare(seed, 0)
        counts = torch.bincount(one.labels, minlength=10)[[2, 5, 7, 9]]
        assert counts.sum() == 10 and counts.min() >= 2 and counts.max() <= 3
        seen += torch.bincount(one.labels, minlength=10)
    assert seen[[2, 5, 7, 9]].min() > 450
    two.prepare(199, 7)
    features = (rows_of(16, 4, 0), rows_of(16, 4, 1))
    assert torch.equal(one.labels, two.labels)
    assert torch.equal(one(features, features)[0][0], two(features, features)[0][0])
    two.prepare(198, 8)
    assert not torch.equal(one(features, features)[0][0], two(features, features)[0][0])


@pytest.mark.parametrize("drift", ["linear", "affine"])
@pytest.mark.parametrize("residual", [False, True])
def test_a_known_map_is_found(drift: Any, residual: bool) -> None:
    drawn = prototypes(PrototypesSpec(drift, residual, 0.0))
    weight = torch.eye(4) + 0.3 * rows_of(4, 4, 5)
    offset = torch.tensor([1.0, -2.0, 0.0, 0.5]) if drift == "affine" else torch.zeros(4)
    for step in range(5):
        drawn.prepare(step, step)
        before = (rows_of(16, 4, 10 + step) + 3, rows_of(16, 4, 20 + step) + 3)
        now = (before[0] @ weight.T + offset, before[1] @ weight.T + offset)
        old, new = drawn(before, now)
    for one, mapped in zip(old, new, strict=True):
        torch.testing.assert_close(mapped, one @ weight.T + offset, rtol=1e-4, atol=1e-4)


def test_what_the_map_leaves_over_widens_the_mapped_classes() -> None:
    narrow, wide = (
        prototypes(PrototypesSpec("affine", residual, "auto"), 4000) for residual in (False, True)
    )
    spread = {}
    for drawn in (narrow, wide):
        for step in range(30):
            drawn.prepare(step, step)
            before = (rows_of(16, 4, 100 + step), rows_of(16, 4, 200 + step))
            noise = (rows_of(16, 4, 300 + step), rows_of(16, 4, 400 + step))
            _, new = drawn(before, (before[0] + 2 * noise[0], before[1] + 2 * noise[1]))
        spread[drawn] = new[0][drawn.labels == 2].var(0).sum().item()
    # The noise's variance in four features, from 16 images.
    assert 8 < spread[wide] - spread[narrow] < 26


def test_the_map_is_identity_where_the_encoder_did_not_move() -> None:
    drawn = prototypes()
    for step in range(5):
        drawn.prepare(step, step)
        features = (rows_of(16, 4, step).relu(), rows_of(16, 4, 9 + step).relu())
        # A feature that never varies does no harm.
        features[0][:, 2] = features[1][:, 2] = 0
        old, new = drawn(features, features)
    for view in (0, 1):
        torch.testing.assert_close(old[view], new[view], rtol=1e-5, atol=1e-5)


# -- the plan ----------------------------------------------------------------------------------


def test_a_step_reads_the_statistics_behind_the_prior_step() -> None:
    plan = make_plan(BASE)
    run, plain, last = plan.runs
    assert [run.point.label, plain.point.label] == [
        "simclr kaizen prototypes",
        "simclr kaizen_no_replay",
    ]
    assert not run.replays and not run.heads and not plain.statistics and not last.statistics
    assert not any(node.kind is Kind.REPLAY for node in plan.nodes.values())
    assert len(run.statistics) == 4
    for number, (node, step) in enumerate(zip(run.statistics, run.steps[1:], strict=True)):
        assert step.inputs["head"] is node and step.inputs["prior"] is run.steps[number]
        assert node.spec.kinds == [] and node.spec.first == number
        assert node.inputs[f"step-{number:02d}"] is run.steps[number]
        assert node.inputs.get("prior") is (run.statistics[number - 1] if number else None)
        assert step.spec.prototypes == AFFINE and step.spec.replay_batch_size == 32
    assert run.steps[0] is plain.steps[0] and run.steps[0].spec.prototypes is None


def test_nodes_without_prototypes_keep_their_keys() -> None:
    others = {"grid.variants": ["kaizen_no_replay", "no_distill", "joint"]}
    before, after = make_plan(others), make_plan(others | REPLAY)
    assert changed(before, after) <= {"summary"}
    written = json.dumps([node.job().to_json() for node in before.nodes.values()])
    assert "prototypes" not in written.replace('"prototypes": 100', "")
    with_images, without = make_plan(), make_plan(REPLAY)
    same = {name for name, key in places(without).items() if places(with_images).get(name) == key}
    assert {"step/kaizen/0", "step/no_distill/4", "evaluation/cassle", "reference"} <= same
    assert not {f"step/kaizen/{task}" for task in range(1, 5)} & same


@pytest.mark.parametrize(
    ("change", "reaches"),
    [
        ({"grid.heads": ["trained", "lda"]}, False),
        ({"heads.shrinkage": 0.1}, False),
        ({"heads.random_features": 50}, False),
        ({"replay.seed": 3}, False),
        ({"heads.covariance": "per_class"}, True),
        ({"heads.residual": False}, True),
        ({"heads.map_ridge": 0.1}, True),
        ({"train.replay_batch_size": 8}, True),
    ],
)
def test_what_pseudo_features_depend_on_trains_again(change: dict[str, Any], reaches: bool) -> None:
    before, after = make_plan(BASE), make_plan(BASE | change)
    again = {place for place in changed(before, after) if place.startswith("step/")}
    assert again == ({f"step/kaizen/{task}" for task in range(1, 5)} if reaches else set())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replay.proportion": [0.1]}, "replay.proportion: .*keeps no images.*to null"),
        ({"replay.memory": [10]}, "replay.memory: .*keeps no images"),
        ({"reference_compat.teacher_train_mode": True}, "teacher_train_mode: .*false"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(KaizenError, match=message):
        make_params(BASE | changes)


# -- the nodes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Nodes:
    """Two tasks with half of the labels, planned for all methods; shards and step 0 are made."""
    root = tmp_path_factory.mktemp("prototypes") / "project"
    own = {"grid.variants": ["kaizen"], "dataset.path": str(root / "images")}
    nodes = Nodes(make_project(root, CHANGES | REPLAY | own))
    for node in nodes.all:
        if node["kind"] == "shards":
            nodes.make(node)
    return nodes


@pytest.mark.parametrize("method", METHODS)
def test_every_method_replays_and_resumes_to_the_bit(nodes: Nodes, method: str) -> None:
    first, second = nodes.steps(method)
    nodes.make(first)
    (head,) = (
        node
        for node in nodes.all
        if node["kind"] == "head" and node["inputs"]["step-00"]["key"] == first["key"]
    )
    nodes.make(head)
    nodes.make(second)
    expected = nodes.contents(second)
    nodes.forget(second)
    for _ in range(9):
        with pytest.raises(Interrupted):
            nodes.make(second, stop=True)
    nodes.make(second)
    assert nodes.contents(second) == expected


# The first digits, so small a network that a run takes seconds.
DIGITS: dict[str, Any] = REPLAY | {
    "dataset": {"source": "digits"},
    "split": {"sizes": [2, 2, 2], "seed": 5},
    "grid.variants": ["kaizen", "kaizen_no_replay"],
    "grid.heads": ["trained"],
    "grid.specialists": False,
    "model": {"backbone": "small_resnet", "width": 8, "classifier_hidden": [32]},
    "train": {"epochs": 8, "batch_size": 32, "replay_batch_size": 32, "lr": 2.0},
    "image": {"size": 8, "channels": 1, "mean": [0.305], "std": [0.376]},
    "evaluation": {"probe_iterations": 1},
}


def old_tasks(project: Project, run: str) -> float:
    """Accuracy after the last step, mean over the tasks before it, 0..1."""
    matrix = read_json(project.root / f"results/evaluations/{run}/accuracy.json")["matrices"]
    *old, _ = matrix["classifier"][-1]
    return float(sum(old) / len(old))


@pytest.mark.parametrize(
    ("change", "margin"),
    [
        ({}, 0.1),
        (
            {
                "labels.fraction": 0.05,
                "heads.covariance": "per_class",
                "distill.classifier.logits": "old",
            },
            0.05,
        ),
    ],
)
def test_old_classes_are_remembered_without_an_image(
    tmp_path: Path, change: dict[str, Any], margin: float
) -> None:
    project = make_project(tmp_path / "project", DIGITS | change)
    project.kaizen("run").good()
    drawn = old_tasks(project, "simclr-kaizen-prototypes-seed0")
    plain = old_tasks(project, "simclr-kaizen_no_replay-seed0")
    assert drawn > plain + margin
    assert "Kaizen, prototypes" in (project.root / "results/summary/table.md").read_text()
    assert (
        "pseudo-features"
        in (project.root / "results/models/simclr-kaizen-prototypes-seed0/README.md").read_text()
    )
    folder = project.root / "data/replay/prototypes/simclr-kaizen-prototypes-seed0"
    assert sorted(path.name for path in folder.iterdir()) == ["step-01", "step-02"]


@pytest.mark.parametrize(("labels", "classes"), [(0.005, 4), (0.0, 0)])
def test_one_labelled_image_of_each_class_suffices_and_none_is_said(
    tmp_path: Path, labels: float, classes: int
) -> None:
    change = {
        "labels.fraction": labels,
        "heads.covariance": "per_class",
        "grid.variants": ["kaizen"],
        "train.epochs": 2,
        "train.warmup_epochs": 0,
    }
    project = make_project(tmp_path / "project", DIGITS | change)
    output = project.kaizen("run").good()
    run = "simclr-kaizen-prototypes-seed0"
    path = project.root / f"data/replay/prototypes/{run}/step-02/step-01.safetensors"
    assert read_heads(path).statistics.counts.tolist() == [1.0] * classes
    said = f"of {classes} earlier classes" if classes else "no earlier image had a label"
    assert said in output


def test_a_stream_grows_and_its_images_may_be_given_up(tmp_path: Path) -> None:
    """One arrival after the other, each given up after its step, gives the bytes of all at once."""
    change = REPLAY | {"grid.variants": ["kaizen"]}
    at_once = make_stream(tmp_path / "at_once", change)
    for number in range(len(ARRIVALS)):
        append(at_once, number)
    at_once.kaizen("run").good()
    project = make_stream(tmp_path / "project", change)
    for number in range(len(ARRIVALS)):
        append(project, number)
        project.kaizen("run").good()
        if number < len(ARRIVALS) - 1:
            project.kaizen("retire", f"day-{number}", "--delete").good()
    for pattern in ("results/models/*kaizen*/*/model.safetensors", "data/replay/**/*.safetensors"):
        expected = {
            path.relative_to(at_once.root): path.read_bytes() for path in at_once.root.glob(pattern)
        }
        assert len(expected) == len(ARRIVALS)
        for path, content in expected.items():
            assert (project.root / path).read_bytes() == content, path
