"""The objective, the loop and the step node: composition of the loss, what learns from what, what
is carried over.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from project import REPOSITORY, Project, make_project

from kaizen.compute.device import choose_compute, cpu_computes_bfloat16
from kaizen.models.feature_classifier import Architecture
from kaizen.params import FeatureDistillParams, ModelParams, SimCLRParams
from kaizen.ssl.base import Moment
from kaizen.ssl.simclr import SimCLR
from kaizen.training.objective import Objective
from kaizen.training.step_data import StepData
from kaizen.training.student import build_model, frozen_copy
from kaizen.training.terms import TERMS
from kaizen.views.batches import ResidentRows

COMPUTE = choose_compute("cpu", "float32", 1)
START = Moment(0, 1, 0)


def small_model(seed: int = 0) -> Any:
    ssl = SimCLRParams(projector_hidden=16, projector_out=8, temperature=0.3)
    model = ModelParams(width=4, classifier_hidden=[8])
    distill = FeatureDistillParams(distiller="contrastive", predictor_hidden=12)
    architecture = Architecture(model=model, channels=3, logits=5, seed=seed)
    return build_model(architecture, "simclr", ssl, distill)


def batch(seed: int = 0, count: int = 6) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(count, 3, 8, 8, generator=generator) for _ in range(2))
    return (first, second), torch.tensor([0, 1, 2, -1, 4, 1])[:count]


def cosine_cross_entropy(
    rows: torch.Tensor, columns: torch.Tensor, positives: list[int], skip_self: bool, t: float
) -> float:
    """Mean of -log softmax(cosine / t)[positive], row by row in plain Python."""
    a, b = rows.double().detach().numpy(), columns.double().detach().numpy()
    total = 0.0
    for i, row in enumerate(a):
        scores = [row @ c / np.linalg.norm(row) / np.linalg.norm(c) / t for c in b]
        kept = [score for j, score in enumerate(scores) if not (skip_self and j == i)]
        total += np.log(np.sum(np.exp(kept))) - scores[positives[i]]
    return total / len(rows)


def test_the_loss_is_the_weighted_sum_of_the_papers_four_terms() -> None:
    student, teacher = small_model(1).train(), frozen_copy(small_model(2), train_mode=False)
    views, labels = batch()
    objective = Objective(
        feature_weight=0.7,
        classifier_weight=2.5,
        classifier_temperature=1.0,
        classifier_gradient=False,
    )
    total, terms = objective(student, teacher, views, labels, compute=COMPUTE, moment=START)
    named = dict(zip(TERMS, terms.tolist(), strict=True))

    student, count = small_model(1).train(), 6
    features = [student.encoder(view) for view in views]
    z = torch.cat([student.ssl.projector(f) for f in features])
    partner = [(i + count) % (2 * count) for i in range(2 * count)]
    assert named["L_FE_CT"] == pytest.approx(
        cosine_cross_entropy(z, z, partner, True, 0.3), rel=1e-5
    )
    p = torch.cat([student.distiller.predictor(student.ssl.projector(f)) for f in features])
    assert isinstance(teacher.ssl, SimCLR)
    f = torch.cat([teacher.ssl.projector(teacher.encoder(view)) for view in views])
    same = list(range(2 * count))
    both = cosine_cross_entropy(p, f, same, False, 0.2) + cosine_cross_entropy(
        f, p, same, False, 0.2
    )
    assert named["L_FE_KD"] == pytest.approx(both / 2, rel=1e-5)
    logits = [student.classifier(f).log_softmax(dim=1) for f in features]
    labelled = [i for i in range(count) if labels[i] >= 0]
    expected = -sum(float(view[i, labels[i]].detach()) for view in logits for i in labelled) / len(
        labelled
    )
    assert named["L_C_CT"] == pytest.approx(expected, rel=1e-5)
    targets = [teacher.classifier(teacher.encoder(view)).softmax(dim=1) for view in views]
    per_view = [
        -(t * view).sum(dim=1).mean().item() for t, view in zip(targets, logits, strict=True)
    ]
    assert named["L_C_KD"] == pytest.approx(sum(per_view) / 2, rel=1e-5)
    weighted = named["L_FE_CT"] + 0.7 * named["L_FE_KD"] + named["L_C_CT"] + 2.5 * named["L_C_KD"]
    assert total.item() == pytest.approx(weighted, rel=1e-6)


def test_the_joint_loss_is_the_same_sum_of_tensors_and_of_numbers() -> None:
    values = {"L_FE_CT": 1.0, "L_FE_KD": 10.0, "L_C_CT": 100.0, "L_C_KD": 1000.0}
    for weights, expected in (((0.5, 2.0), 2106.0), ((None, 2.0), 2101.0), ((0.5, None), 106.0)):
        feature, classifier = weights
        objective = Objective(feature, classifier, 1.0, False)
        assert objective.total(values) == expected
        tensors = {name: torch.tensor(value) for name, value in values.items()}
        assert objective.total(tensors).item() == expected


def gradients(objective: Objective, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """The encoder's gradients of L."""
    student, teacher = small_model(1).train(), frozen_copy(small_model(2), train_mode=False)
    views, _ = batch()
    total, _ = objective(student, teacher, views, labels, compute=COMPUTE, moment=START)
    total.backward()
    return {name: parameter.grad for name, parameter in student.encoder.named_parameters()}


@pytest.mark.parametrize("term", ["L_C_CT", "L_C_KD"])
def test_the_classifiers_losses_reach_the_encoder_only_on_request(term: str) -> None:
    _, labels = batch()
    unlabelled = torch.full_like(labels, -1)
    for classifier_gradient in (False, True):
        without = gradients(Objective(1.0, None, 1.0, classifier_gradient), unlabelled)
        if term == "L_C_CT":
            with_term = gradients(Objective(1.0, None, 1.0, classifier_gradient), labels)
        else:
            with_term = gradients(Objective(1.0, 2.0, 1.0, classifier_gradient), unlabelled)
        assert {torch.equal(with_term[name], without[name]) for name in without} == {
            not classifier_gradient
        }


def test_a_batch_without_labels_has_no_supervised_term_and_no_nan() -> None:
    student = small_model(1).train()
    views, labels = batch()
    total, terms = Objective(None, None, 1.0, True)(
        student, None, views, torch.full_like(labels, -1), compute=COMPUTE, moment=START
    )
    total.backward()
    assert terms[TERMS.index("L_C_CT")] == 0 and torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)


@pytest.mark.parametrize("train_mode", [False, True])
def test_the_teacher_keeps_its_weights_and_drifts_only_in_the_references_mode(
    train_mode: bool,
) -> None:
    student, teacher = small_model(1).train(), frozen_copy(small_model(2), train_mode)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    views, labels = batch()
    Objective(1.0, 2.0, 1.0, False)(student, teacher, views, labels, compute=COMPUTE, moment=START)[
        0
    ].backward()
    changed = {
        name for name, value in teacher.state_dict().items() if not torch.equal(value, before[name])
    }
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert bool(changed) is train_mode
    assert all("running" in name or "num_batches" in name for name in changed)


def test_replay_rows_follow_the_tasks_and_the_epoch_is_as_long_as_the_task() -> None:
    def rows(count: int, label: int) -> ResidentRows:
        return ResidentRows(
            torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.full((count,), label)
        )

    data = StepData(rows(20, 0), 8, rows(30, 1), 4)
    assert data.epoch_length() == 2
    batches = list(data.batches(0, 0, data.epoch_length()))
    assert [labels.tolist() for _, labels in batches] == [[0] * 8 + [1] * 4] * 2
    # The reference's rule (fidelity.md §7): the longest loader counts, the task's rows come round
    # again.
    data.longest_loader = True
    assert data.epoch_length() == 7
    assert len(list(data.batches(0, 0, 7))) == 7


def test_bfloat16_is_chosen_by_the_cpus_flags(tmp_path: Path) -> None:
    for flags, expected in (
        ("fpu avx2", False),
        ("fpu avx512_bf16", True),
        ("amx_tile amx_bf16", True),
    ):
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n")
        assert cpu_computes_bfloat16(tmp_path / "cpuinfo") is expected
    assert cpu_computes_bfloat16(tmp_path / "absent") is False


def published(project: Project, pattern: str) -> Path:
    (path,) = project.root.glob(f"results/models/{pattern}")
    return path


def test_the_checkpoint_carries_all_that_the_next_step_needs(finished: Project) -> None:
    first = safetensors.torch.load_file(published(finished, "*kaizen*/step-00/model.safetensors"))
    second = safetensors.torch.load_file(published(finished, "*kaizen*/step-01/model.safetensors"))
    parts = {name.split(".")[0] for name in first}
    assert parts == {"encoder", "classifier", "ssl"}
    assert {name.split(".")[0] for name in second} == parts | {"distiller"}
    assert set(first) < set(second)
    record = json.loads(published(finished, "*kaizen*/step-01/node.json").read_text())
    assert (
        record["environment"]["precision"] == "float32" and record["environment"]["device"] == "cpu"
    )
    prior = json.loads(published(finished, "*kaizen*/step-00/node.json").read_text())
    assert record["inputs"]["prior"]["key"] == prior["key"]


def test_the_history_names_every_term_and_a_variant_has_its_own_only(finished: Project) -> None:
    kaizen = pq.read_table(published(finished, "*kaizen*/step-01/history.parquet")).to_pydict()
    baseline = pq.read_table(
        published(finished, "*no_distill*/step-01/history.parquet")
    ).to_pydict()
    assert set(kaizen) == {"epoch", "L", "L_FE_CT", "L_FE_KD", "L_C_CT", "L_C_KD", "lr"}
    assert kaizen["epoch"] == [0, 1]
    assert min(kaizen["L_FE_KD"] + kaizen["L_C_KD"]) > 0
    assert baseline["L_FE_KD"] == baseline["L_C_KD"] == [0.0, 0.0]
    for row in zip(
        *(kaizen[name] for name in ("L", "L_FE_CT", "L_FE_KD", "L_C_CT", "L_C_KD")), strict=True
    ):
        total, ssl, feature, supervised, classifier = row
        assert total == pytest.approx(ssl + feature + supervised + 2 * classifier)


def test_the_same_parameters_give_the_same_bytes_and_another_seed_others(
    finished: Project, tmp_path: Path
) -> None:
    again = make_project(tmp_path / "again")
    assert again.kaizen("run").code == 0
    manifest = "results/manifest.json"
    assert (again.root / manifest).read_bytes() == (finished.root / manifest).read_bytes()
    other = make_project(tmp_path / "other", {"grid.seeds": [1], "grid.variants": ["no_distill"]})
    assert other.kaizen("run").code == 0
    one, two = (
        published(p, "*no_distill*/step-00/model.safetensors").read_bytes()
        for p in (finished, other)
    )
    assert one != two


@pytest.mark.parametrize(
    "changes",
    [
        {"train.stream_above_mb": 0.001, "dataset.row_group_mb": 0.0005},
        {"labels.fraction": 0.5},
        {"labels.fraction": 0.0},
        {"train.precision": "bfloat16", "train.optimizer": "sgd", "train.lr": 0.5},
        {"replay.proportion": None, "replay.memory": [6], "replay.policy": "balanced_random"},
        {
            "dataset.encoding": "file",
            "image.channels": 1,
            "image.mean": [0.5],
            "image.std": [0.25],
            "image.drop_colour": True,
            "image.load_size": 6,
        },
        {
            "reference_compat": {
                "teacher_train_mode": True,
                "stem_padding_2": True,
                "epoch_length": True,
                "simsiam_predictor_warmup": True,
            }
        },
        {"replay.proportion": [0.0, 0.25, 1.0]},
        {
            "replay.proportion": None,
            "replay.per_class": [0, 3],
            "replay.policy": "reservoir",
            "split.tasks": 4,
        },
        {"replay.policy": "herding", "labels.fraction": 0.5, "dataset.row_group_mb": 0.0005},
    ],
    ids=[
        *(
            "streamed",
            "half labelled",
            "unlabelled",
            "bfloat16",
            "memory",
            "greyscale files",
            "compat",
            "sizes",
        ),
        *("reservoir", "herding"),
    ],
)
def test_every_way_of_training_ends_well(tmp_path: Path, changes: dict[str, Any]) -> None:
    project = make_project(tmp_path / "project", changes)
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    for path in project.root.glob("results/models/*/*/history.parquet"):
        for name, values in pq.read_table(path).to_pydict().items():
            assert np.isfinite(values).all(), (path, name)
            assert name != "L_C_CT" or changes.get("labels.fraction") != 0.0 or values == [0.0, 0.0]


def test_the_training_package_runs_without_pydantic_snakemake_dvc_or_yaml(tmp_path: Path) -> None:
    """As on a bare GPU machine: a plan made elsewhere is run by `kaizen run --plan`, to the same
    bytes.
    """
    project = make_project(tmp_path / "project")
    plan = project.kaizen("plan", "--json")
    (project.root / "plan.json").write_text(plan.output)
    assert project.kaizen("run").code == 0
    absent = ("pydantic", "snakemake", "dvc", "yaml", "sklearn", "torchvision")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r})); from kaizen.cli import "
        "main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "run", "--plan", "plan.json", "--store", "bare"]
    done = subprocess.run(
        command,
        cwd=project.root,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    bare = Project(project.root, project.root / "bare")
    assert bare.nodes().keys() == project.nodes().keys()
    models = [key for key in project.keys("step")]
    for key in models:
        name = f"step/{key}/model.safetensors"
        assert (bare.store.root / name).read_bytes() == (project.store.root / name).read_bytes()


def test_the_schedule_is_applied_per_epoch(finished: Project) -> None:
    """The learning rates in the history are the schedule's, which tests/test_schedule.py checks."""
    from kaizen.training.schedule import learning_rate, scaled_lr

    history = pq.read_table(published(finished, "*kaizen*/step-00/history.parquet")).to_pydict()
    base = scaled_lr(2.0, 8)
    assert history["lr"] == [
        learning_rate(epoch, base, 2, warmup_epochs=0, warmup_start=0.003, minimum=0.0)
        for epoch in (0, 1)
    ]


def test_cross_entropy_of_a_sum_of_views() -> None:
    """The sum, not the mean, over views (fidelity.md §6)."""
    student = small_model(3).train()
    views, labels = batch()
    _, terms = Objective(None, None, 1.0, False)(
        student, None, (views[0], views[0]), labels, compute=COMPUTE, moment=START
    )
    student = small_model(3).train()
    one = F.cross_entropy(student.classifier(student.encoder(views[0])), labels, ignore_index=-1)
    assert terms[TERMS.index("L_C_CT")].item() == pytest.approx(2 * one.item(), rel=1e-5)
