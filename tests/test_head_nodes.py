"""The nodes of analytic heads: what they depend on, what they hold, and what is read by them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import MadeOnce, make_params, make_plan
from plan_places import changed, matching, places
from project import Project, make_project
from stream_project import ARRIVALS, append, make_stream

from kaizen.errors import KaizenError
from kaizen.evaluation.head_files import StepHeads, read_heads, write_heads
from kaizen.files import read_json, sha256_file
from kaizen.heads.kinds import solve_heads
from kaizen.heads.statistics import ClassStatistics
from kaizen.inference.loading import load
from kaizen.store.node_id import Kind
from kaizen.views.augment import evaluation_transform
from kaizen.views.decode import load_shard

VARIANTS = ["kaizen", "no_distill", "joint"]
ALL = {"grid.heads": ["trained", "ncm", "lda", "ridge"]}
BASE = {"grid.variants": VARIANTS}
RUN = "simclr-no_distill-seed0"


# -- the plan ----------------------------------------------------------------------------------


def test_heads_reach_no_step_and_no_run_without_them() -> None:
    before, after = make_plan(BASE), make_plan(BASE | ALL)
    assert not any(node.kind is Kind.HEAD for node in before.nodes.values())
    found = {f"head/{name}" for name in VARIANTS} | {f"evaluation/{name}" for name in VARIANTS}
    assert changed(before, after) == found | {"summary"}
    trained = {key for key, node in before.nodes.items() if node.kind in (Kind.STEP, Kind.REPLAY)}
    assert trained <= after.nodes.keys()
    only = make_plan(BASE | {"grid.heads": ["trained", "lda"]})
    other_order = make_plan(BASE | {"grid.heads": ["lda", "trained"]})
    assert places(only) == places(other_order)
    assert not set(places(only).values()) & {places(after)["head/kaizen"]}


def test_a_closed_runs_heads_are_one_node_of_all_its_steps_and_replay_shards() -> None:
    plan = make_plan(BASE | ALL)
    kaizen, _, joint = plan.runs
    (head,) = kaizen.heads
    assert head.inputs == {
        "shards": plan.shards[0],
        **{f"step-{number:02d}": step for number, step in enumerate(kaizen.steps)},
        **{f"replay-{number:02d}": node for number, node in enumerate(kaizen.replays, start=1)},
    }
    assert head.spec.tasks == [[0], [1], [2], [3], [4]]
    assert set(head.identities) == head.inputs.keys() - {"shards"} | {
        f"task-{task:02d}" for task in range(5)
    }
    assert joint.heads[0].spec.tasks == [[0, 1, 2, 3, 4]]
    assert kaizen.evaluations[0].inputs["head"] is head
    assert "head" not in plan.references[0].evaluation.inputs


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ({"heads.drift": "none"}, {"heads.residual": False}),
        ({"heads.drift": "none"}, {"heads.map_ridge": 0.1}),
        ({}, {"heads.seed": 3}),
        ({"grid.heads": ["trained", "ncm"]}, {"heads.shrinkage": 0.1}),
        ({"grid.heads": ["trained"]}, {"heads.drift": "none"}),
    ],
)
def test_a_parameter_without_effect_makes_nothing_again(
    base: dict[str, Any], change: dict[str, Any]
) -> None:
    start = BASE | ALL | base
    assert make_params(start) != make_params(start | change)
    assert not changed(make_plan(start), make_plan(start | change))


def test_other_training_images_reach_the_heads_and_other_test_images_do_not() -> None:
    before = make_plan(BASE | ALL)
    facts = before.facts
    tested = dataclasses.replace(facts, test=("new images", *facts.test[1:]))
    reached = matching(before, ["shards", "evaluation/*", "reference", "summary"])
    assert changed(before, make_plan(BASE | ALL, tested)) == reached
    trained = dataclasses.replace(facts, train=("new images", *facts.train[1:]))
    assert changed(before, make_plan(BASE | ALL, trained)) >= matching(before, ["head/*"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid.heads": ["trained", "lad"]}, "grid.heads: .*'lad' is not a head.*lda"),
        ({"grid.heads": ["lda"]}, "grid.heads: trained is not among them.*add it"),
        ({"grid.heads": ["trained", "lda", "lda"]}, "grid.heads: .*twice"),
        ({"deploy.head": "lda"}, r"deploy.head: 'lda' is none of grid.heads \(trained\)"),
        ({"heads.shrinkage": 1.5}, "heads.shrinkage"),
        ({"heads.map_ridge": -1}, "heads.map_ridge"),
        ({"heads.drift": "cubic"}, "heads.drift"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(KaizenError, match=message):
        make_params(changes)


# -- the files ---------------------------------------------------------------------------------


def test_a_file_of_heads_reads_back(tmp_path: Path) -> None:
    rows = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    statistics = ClassStatistics.of(rows, torch.arange(20) % 3)
    heads = solve_heads(["ncm", "lda"], statistics, statistics)
    write_heads(StepHeads(statistics, heads), tmp_path / "one.safetensors")
    write_heads(StepHeads(statistics, heads), tmp_path / "two.safetensors")
    found = read_heads(tmp_path / "one.safetensors")
    assert sha256_file(tmp_path / "one.safetensors") == sha256_file(tmp_path / "two.safetensors")
    assert found.readers() == ["ncm", "lda"]
    for kind in heads:
        assert found.predict(kind, rows).tolist() == heads[kind].predict(rows).tolist()
    assert torch.equal(found.statistics.scatter, statistics.scatter)
    safetensors.torch.save_file({"classes": torch.zeros(1)}, tmp_path / "bad.safetensors")
    with pytest.raises(KaizenError, match=r"bad\.safetensors lacks the tensor 'counts'"):
        read_heads(tmp_path / "bad.safetensors")


# -- a closed run ------------------------------------------------------------------------------


def first_run_with_heads(folder: Path) -> None:
    """A project with all heads, after its first run."""
    project = make_project(folder, {**ALL, "grid.variants": VARIANTS, "deploy.head": "ridge"})
    project.kaizen("run").good()


@pytest.fixture(scope="module")
def with_heads(made_once: MadeOnce) -> Project:
    """The same, which no test changes."""
    return Project(made_once("with heads", first_run_with_heads))


@pytest.fixture
def own(with_heads: Project, tmp_path: Path) -> Project:
    """A copy of it."""
    shutil.copytree(with_heads.root, tmp_path / "own", symlinks=True)
    return Project(tmp_path / "own")


def features(project: Project, run: str, step: int, part: str, task: int) -> tuple[Any, Any]:
    """Features float32 [N, F] of a task's images by a step's model, and labels."""
    model = load(project.root / f"results/models/{run}/step-{step:02d}")
    image = model.config.image
    shard = project.root / f"data/shards/task-{task:02d}.{part}.parquet"
    images, labels = load_shard(shard, image)
    with torch.no_grad():
        found = model.encoder(evaluation_transform(torch.from_numpy(images), image, 1.0))
    return found.double().numpy(), labels


def accuracies(project: Project, run: str) -> dict[str, Any]:
    content: dict[str, Any] = read_json(project.root / f"results/evaluations/{run}/accuracy.json")[
        "matrices"
    ]
    return content


def test_the_first_steps_heads_are_those_of_the_images_themselves(with_heads: Project) -> None:
    """And they never predict a class that has not come."""
    x, y = features(with_heads, RUN, 0, "train", 0)
    test, truth = features(with_heads, RUN, 0, "test", 0)
    means = np.stack([x[y == label].mean(0) for label in np.unique(y)])
    nearest = np.unique(y)[((test[:, None] - means) ** 2).sum(-1).argmin(1)]
    found = accuracies(with_heads, RUN)
    assert found["ncm"][0][0] == pytest.approx((nearest == truth).mean())
    heads = read_heads(with_heads.root / f"results/heads/{RUN}/step-00.safetensors")
    np.testing.assert_allclose(heads.statistics.means, means, rtol=1e-5)
    np.testing.assert_allclose(heads.statistics.counts, [12, 12])
    for kind in ("ncm", "lda", "ridge"):
        assert found[kind][0][1] == 0
        predicted = heads.predict(kind, torch.from_numpy(test))
        assert found[kind][0][0] == pytest.approx(np.mean(predicted.numpy() == truth))


def test_the_second_steps_statistics_are_mapped_and_joined_by_the_new(with_heads: Project) -> None:
    """Against numpy: the map of least squares with what the facts say was chosen."""
    old, _ = features(with_heads, RUN, 0, "train", 1)
    new, labels = features(with_heads, RUN, 1, "train", 1)
    folder = with_heads.root / f"results/heads/{RUN}"
    facts = read_json(folder / "step-01.json")
    ridge = facts["drift"]["ridge"]
    x, y = old - old.mean(0), new - new.mean(0)
    system = x.T @ x + len(x) * ridge * (x**2).sum() / len(x) / x.shape[1] * np.eye(x.shape[1])
    before, after = (read_heads(folder / f"step-0{k}.safetensors").statistics for k in (0, 1))
    candidates = []
    for centre in (0, 1):
        weight = np.linalg.solve(system, x.T @ (y - centre * x)).T + centre * np.eye(x.shape[1])
        candidates.append((before.means.numpy() - old.mean(0)) @ weight.T + new.mean(0))
    earlier = torch.isin(after.classes, before.classes)
    assert any(
        np.allclose(after.means[earlier], candidate, rtol=1e-4, atol=1e-4)
        for candidate in candidates
    )
    own = np.stack([new[labels == label].mean(0) for label in np.unique(labels)])
    np.testing.assert_allclose(after.means[~earlier], own, rtol=1e-4, atol=1e-6)
    assert facts["rows"] == {"labelled": 24, "map": 24}
    assert facts["classes"] == 4


def test_replayed_images_fit_the_map_and_make_no_statistics(with_heads: Project) -> None:
    folder = with_heads.root / "results/heads/simclr-kaizen-replay25pct-seed0"
    assert read_json(folder / "step-01.json")["rows"] == {"labelled": 24, "map": 24 + 6}
    counts = read_heads(folder / "step-01.safetensors").statistics.counts
    assert counts.tolist() == [12] * 4


def test_joint_trainings_heads_are_of_all_tasks_without_a_map(with_heads: Project) -> None:
    run = "simclr-joint-seed0"
    facts = read_json(with_heads.root / f"results/heads/{run}/step-00.json")
    assert facts["drift"] is None and facts["classes"] == 4 and facts["rows"]["labelled"] == 48
    found = accuracies(with_heads, run)["lda"]
    assert found[0] == found[1]


def test_heads_are_among_the_results(with_heads: Project) -> None:
    summary = with_heads.root / "results/summary"
    metrics = read_json(with_heads.root / "results/metrics.json")["simclr"]["no_distill"]
    full = read_json(summary / "metrics_full.json")["simclr"]["no_distill"]
    for kind in ("ncm", "lda", "ridge"):
        matrix = accuracies(with_heads, RUN)[kind]
        assert metrics[kind]["FA"] == pytest.approx(np.mean(matrix[-1]))
        assert full[kind]["final_accuracy"]["mean"] == metrics[kind]["FA"]
        assert "FT" not in metrics[kind]
    assert "Heads side by side" in (summary / "table.md").read_text()
    assert (summary / "figures/heads.png").is_file()
    card = (with_heads.root / f"results/models/{RUN}/README.md").read_text()
    assert "Prediction uses: Ridge regression (analytic head)" in card
    assert card.count("Linear discriminant analysis (analytic head)") >= 2
    explained = with_heads.kaizen("explain", "results/metrics.json:simclr.no_distill.lda.FA").good()
    assert "they lead to this number" in explained
    explained = with_heads.kaizen("explain", f"results/heads/{RUN}/step-01.safetensors").good()
    assert "analytic heads of a run" in explained
    shown = with_heads.kaizen("show").good()
    assert shown.count("lda head") == len(VARIANTS)
    with_heads.kaizen("verify").good()


def test_the_head_that_is_deployed_answers(with_heads: Project) -> None:
    """`deploy.head: ridge`: its file lies beside the model, and is what predicts."""
    folder = with_heads.root / f"results/models/{RUN}"
    beside = (folder / "step-01" / "heads.safetensors").read_bytes()
    assert beside == (with_heads.root / f"results/heads/{RUN}/step-01.safetensors").read_bytes()
    model = load(folder)
    assert model.preprocessing.head == "ridge"
    names = {known.label: known.name for known in model.config.classes}
    for task in (0, 1):
        shard = with_heads.root / f"data/shards/task-{task:02d}.test.parquet"
        images, labels = load_shard(shard, model.config.image)
        found = model.predict([image.transpose(1, 2, 0) for image in images])
        right = [names[y] == name for y, name in zip(labels.tolist(), found.names, strict=True)]
        assert np.mean(right) == pytest.approx(accuracies(with_heads, RUN)["ridge"][1][task])
        assert found.probabilities.shape == (len(labels), 4)
    specialist = load(with_heads.root / "results/models/simclr-specialist-seed0/task-00")
    assert specialist.head is None


def test_a_deployed_head_that_is_missing_or_damaged_is_refused(
    with_heads: Project, tmp_path: Path
) -> None:
    shutil.copytree(with_heads.root / f"results/models/{RUN}/step-01", tmp_path / "model")
    beside = tmp_path / "model" / "heads.safetensors"
    heads = read_heads(beside)
    beside.unlink()
    with pytest.raises(KaizenError, match=r"heads\.safetensors does not exist, and ridge is"):
        load(tmp_path / "model")
    ridge = heads.heads["ridge"]
    broken = dataclasses.replace(ridge, weight=ridge.weight * float("nan"))
    write_heads(dataclasses.replace(heads, heads={"ridge": broken}), beside)
    with pytest.raises(KaizenError, match="ridge is not finite"):
        load(tmp_path / "model")
    beside.unlink()
    write_heads(dataclasses.replace(heads, heads={"lda": heads.heads["lda"]}), beside)
    with pytest.raises(KaizenError, match="has no head ridge"):
        load(tmp_path / "model")


def _of_steps(manifest: dict[str, Any]) -> dict[str, Any]:
    return {path: file for path, file in manifest.items() if file["kind"] == "step"}


def test_other_parameters_of_heads_train_nothing_and_give_the_same_bytes_again(
    own: Project,
) -> None:
    before = {path: file for path, file in own.manifest().items() if "/heads/" in path}
    models = {path: file for path, file in own.manifest().items() if "/models/" in path}
    own.start_counting()
    own.set({"heads.shrinkage": 0.3, "heads.covariance": "per_class", "heads.random_features": 16})
    own.kaizen("run").good()
    assert own.jobs() == {"head": 3, "evaluation": 3, "summary": 1}
    facts = read_json(own.root / f"results/heads/{RUN}/step-01.json")
    assert facts["heads"]["lda"]["shrinkage"] == 0.3 and facts["features"] == 16
    heads = read_heads(own.root / f"results/heads/{RUN}/step-01.safetensors")
    assert heads.statistics.scatter.shape == (4, 16, 16)
    assert heads.projection is not None and heads.projection.shape == (16, 16)
    assert _of_steps(own.manifest()) == _of_steps(models)
    own.set({"heads.shrinkage": "auto", "heads.covariance": "shared", "heads.random_features": 0})
    for key in own.keys("head"):
        shutil.rmtree(own.store.root / "head" / key)
    own.kaizen("run").good()
    again = {path: file for path, file in own.manifest().items() if "/heads/" in path}
    files = [path for path in before if path.endswith((".safetensors", "-00.json", "-01.json"))]
    assert len(files) == 2 * 5
    assert {path: again[path] for path in files} == {path: before[path] for path in files}


def test_the_workflow_makes_heads(tmp_path: Path) -> None:
    """By Snakemake, and with few labels: heads of the labelled rows, the map of all."""
    project = make_project(
        tmp_path / "project",
        {
            "grid.heads": ["trained", "lda"],
            "grid.variants": ["no_distill"],
            "labels.fraction": 0.25,
            "train.epochs": 1,
            "train.data_fraction": 0.5,
        },
    )
    project.snakemake().good()
    facts = read_json(project.root / f"results/heads/{RUN}/step-01.json")
    assert facts["rows"]["labelled"] == 2 * 2
    assert facts["rows"]["map"] == 2 * 2 + 9
    assert "Nothing to be done" in project.snakemake().good()
    assert (project.root / f"results/heads/{RUN}/step-00.safetensors").is_file()
    project.set({"grid.heads": ["trained"]})
    project.snakemake().good()
    assert (project.root / "results/heads").is_dir(), "dvc asks for the folder"
    assert not list((project.root / "results/heads").rglob("*.safetensors"))


# -- a stream that grows -----------------------------------------------------------------------


def test_a_streams_heads_grow_one_node_an_arrival(tmp_path: Path) -> None:
    """A class that comes back is merged, a task without labels makes no statistics, and what was
    made stays.
    """
    project = make_stream(tmp_path / "project", {**ALL, "grid.variants": ["no_distill"]})
    counts = []
    for number in range(len(ARRIVALS)):
        append(project, number)
        project.start_counting()
        project.kaizen("run").good()
        made = {"shards": 1, "step": 1, "head": 1, "evaluation": 1, "summary": 1}
        assert project.jobs() == made
        folder = project.root / f"results/heads/{RUN}/step-{number:02d}"
        heads = read_heads(folder / f"step-{number:02d}.safetensors")
        counts.append(dict(zip(*(t.tolist() for t in heads_counts(heads)), strict=True)))
        row = read_json(project.root / f"results/evaluations/{RUN}/{folder.name}/accuracy.json")
        assert set(row["row"]) >= {"ncm", "lda", "ridge"}
        assert [len(values) for values in row["row"].values()] == [number + 1] * len(row["row"])
    known = read_json(project.root / f"results/models/{RUN}/step-04/step.json")["classes"]
    labels = {name: int(label) for label, name in known.items()}
    came_back = labels["cat"]
    assert counts[2][came_back] == 2 * counts[1][came_back]
    assert counts[3] == counts[2], "a task without labels"
    assert counts[4].keys() - counts[3].keys() == {labels["eel"]}
    facts = json.loads((folder / "step-04.json").read_text())
    assert facts["drift"]["r2"] <= 1
    together = make_stream(tmp_path / "together", {**ALL, "grid.variants": ["no_distill"]})
    for number in range(len(ARRIVALS)):
        append(together, number)
    together.kaizen("run").good()
    of_one, of_other = (
        {path: file for path, file in one.manifest().items() if path.startswith("results/heads")}
        for one in (project, together)
    )
    assert of_one == of_other and len(of_one) == 3 * len(ARRIVALS)
    # What was made of images that are given up stays, and is not asked for with other parameters.
    together.kaizen("retire", "day-1", "--delete").good()
    left = together.manifest()
    assert {path: left[path] for path in of_other} == of_other
    together.set({"heads.shrinkage": 0.3})
    refused = together.kaizen("run")
    assert refused.code == 2
    assert "heads after step 1" in refused.output and "were retired" in refused.output


def heads_counts(heads: StepHeads) -> tuple[torch.Tensor, torch.Tensor]:
    """The classes of a step's statistics and their numbers of images."""
    return heads.statistics.classes, heads.statistics.counts
