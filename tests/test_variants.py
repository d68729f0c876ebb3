"""Variants end to end: which terms a set of switches trains with, what its checkpoint holds, and
joint training.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from project import Project, make_project

from kaizen.compute.device import choose_compute
from kaizen.plan.job import read_job
from kaizen.plan.specs import StepSpec
from kaizen.store.node_id import NodeId
from kaizen.training.step import input_files, step_data
from kaizen.views.batches import Batch, ResidentRows, StreamedRows, open_rows

COMPUTE = choose_compute("cpu", "float32", 1)
TERMS = ("L_FE_CT", "L_FE_KD", "L_C_CT", "L_C_KD")

SWITCHES = {
    "only_c": {"feature_distill": False, "classifier_distill": True, "replay": False},
    "only_f": {"feature_distill": True, "classifier_distill": False, "replay": False},
    "only_replay": {"feature_distill": False, "classifier_distill": False, "replay": True},
    "f_and_replay": {"feature_distill": True, "classifier_distill": False, "replay": True},
}
GRID = [*SWITCHES, "kaizen", "no_distill", "joint"]
DISTILS_FEATURES = {"only_f", "f_and_replay", "kaizen"}
DISTILS_CLASSIFIER = {"only_c", "kaizen"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny experiment with all of these variants, finished."""
    changes = {"variants": SWITCHES, "grid.variants": GRID}
    project = make_project(tmp_path_factory.mktemp("variants") / "project", changes)
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    return project


def published(project: Project, variant: str, name: str) -> Path:
    (path,) = [*project.root.glob(f"results/*/simclr-{variant}-*/{name}")]
    return path


def history(project: Project, variant: str, step: int) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = pq.read_table(
        published(project, variant, f"step-{step:02d}/history.parquet")
    ).to_pydict()
    return columns


@pytest.mark.parametrize("variant", GRID)
def test_a_variant_has_its_own_terms_and_the_others_are_zero(
    project: Project, variant: str
) -> None:
    expected = {"L_FE_CT", "L_C_CT"}
    expected |= {"L_FE_KD"} if variant in DISTILS_FEATURES else set()
    expected |= {"L_C_KD"} if variant in DISTILS_CLASSIFIER else set()
    last = history(project, variant, 0 if variant == "joint" else 1)
    assert {name for name in TERMS if min(last[name]) > 0} == expected
    assert {name for name in TERMS if last[name] == [0.0, 0.0]} == set(TERMS) - expected
    for total, *terms in zip(last["L"], *(last[name] for name in TERMS), strict=True):
        weights = (1.0, 1.0, 1.0, 2.0)
        assert total == pytest.approx(sum(w * term for w, term in zip(weights, terms, strict=True)))
    if variant != "joint":
        first = history(project, variant, 0)
        assert first["L_FE_KD"] == first["L_C_KD"] == [0.0, 0.0], "step 0 has no teacher"


@pytest.mark.parametrize("variant", GRID)
def test_a_checkpoint_has_a_distiller_only_where_features_are_distilled(
    project: Project, variant: str
) -> None:
    for step in range(1 if variant == "joint" else 2):
        tensors = safetensors.torch.load_file(
            published(project, variant, f"step-{step:02d}/model.safetensors")
        )
        parts = {name.partition(".")[0] for name in tensors}
        distils = step > 0 and variant in DISTILS_FEATURES
        assert parts == {"encoder", "ssl", "classifier"} | ({"distiller"} if distils else set())


def test_distilling_the_classifier_alone_leaves_the_features_as_without_distillation(
    project: Project,
) -> None:
    """The classifier's terms do not reach the encoder by default (fidelity.md §6)."""
    only_c, nothing = (
        safetensors.torch.load_file(published(project, variant, "step-01/model.safetensors"))
        for variant in ("only_c", "no_distill")
    )
    same = {name: torch.equal(only_c[name], nothing[name]) for name in nothing}
    assert all(equal is not name.startswith("classifier.") for name, equal in same.items()), same


def test_distilling_features_alone_leaves_the_classifier_without_a_teacher(
    project: Project,
) -> None:
    record = json.loads(published(project, "only_f", "step-01/node.json").read_text())
    assert "classifier_distill" not in record["params"] and "replay" not in record["inputs"]
    record = json.loads(published(project, "only_c", "step-01/node.json").read_text())
    assert "feature_distill" not in record["params"] and "prior" in record["inputs"]


# Methods that have all distillers but SimCLR's among them, with heads small enough for a test.
METHODS = {
    "byol": {"projector_hidden": 16, "projector_out": 8, "predictor_hidden": 16},
    "vicreg": {"projector_hidden": 16, "projector_out": 8},
    "barlow_twins": {"projector_hidden": 16, "projector_out": 8},
    "swav": {
        "projector_hidden": 16,
        "projector_out": 8,
        "prototypes": 10,
        "queue_size": 16,
        "queue_from_epoch": 1,
    },
    "dino": {"projector_hidden": 16, "projector_out": 8, "prototypes": 10},
}


def test_every_distiller_trains_with_its_method_and_is_carried_over(tmp_path: Path) -> None:
    changes = {
        "grid.methods": list(METHODS),
        "grid.variants": ["cassle"],
        "ssl": METHODS,
        "train.lr": 0.3,
        "split.tasks": 4,
    }
    project = make_project(tmp_path / "project", changes | {"train.batch_size": 4})
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    for method in METHODS:
        (folder,) = project.root.glob(f"results/models/{method}-cassle-*")
        for step in (1, 2, 3):
            terms = pq.read_table(folder / f"step-{step:02d}/history.parquet").to_pydict()[
                "L_FE_KD"
            ]
            assert all(0 < value < 100 for value in terms), (method, step, terms)
        second, third = (
            safetensors.torch.load_file(folder / f"step-{step:02d}/model.safetensors")
            for step in (1, 2)
        )
        names = {name for name in second if name.startswith("distiller.")}
        assert names and names <= third.keys()
        assert any(name.startswith("distiller.prototypes.") for name in names) is (
            method in ("swav", "dino")
        )


# -- joint training ----------------------------------------------------------------------------


def batches(rows: ResidentRows | StreamedRows, size: int) -> Iterator[Batch]:
    return rows.batches(size, seed=3, start=0)


def content(found: Sequence[Batch]) -> list[tuple[int, bytes]]:
    """All images with their labels, in an order of their own."""
    return sorted(
        (int(label), image.numpy().tobytes())
        for images, labels in found
        for image, label in zip(images, labels, strict=True)
    )


def joint_step(project: Project, **train: Any) -> tuple[StepSpec, dict[str, NodeId]]:
    nodes = json.loads(project.kaizen("plan", "--json").output)["nodes"]
    (spec,) = (
        node for node in nodes if node["kind"] == "step" and len(node["params"]["tasks"]) > 1
    )
    job = read_job(spec, "the plan")
    train_params = dataclasses.replace(job.spec.train, **train)
    return dataclasses.replace(job.spec, train=train_params), job.inputs


def test_joint_training_sees_every_row_of_every_task(project: Project) -> None:
    params, inputs = joint_step(project)
    data = step_data(params, input_files(params, inputs, project.store), COMPUTE)
    assert isinstance(data.task, ResidentRows)
    assert (data.task.count, data.epoch_length(), data.replay) == (48, 6, None)
    labels = torch.cat([labels for _, labels in data.batches(0, 0, data.epoch_length())])
    assert labels.bincount().tolist() == [12, 12, 12, 12]
    (_, first) = next(data.batches(0, 0, 1))
    assert len(first.unique()) > 2, "tasks are mixed in a batch"


@pytest.mark.parametrize("fraction", [1.0, 0.5])
@pytest.mark.parametrize("limit", [0.0005, 0.004])
def test_joint_rows_stream_as_they_reside(project: Project, fraction: float, limit: float) -> None:
    params, inputs = joint_step(project)
    paths = [
        project.store.open_file(inputs["shards"], f"task-{task:02d}.train.parquet")
        for task in (0, 1)
    ]
    resident, streamed = (
        open_rows(paths, params.image, fraction, mb, torch.device("cpu"))
        for mb in (params.train.stream_above_mb, limit)
    )
    assert isinstance(resident, ResidentRows) and isinstance(streamed, StreamedRows)
    assert resident.count == streamed.count == int(48 * fraction)
    assert content([*batches(resident, 1)]) == content([*batches(streamed, 1)])
    # Resumed in the middle, a stream goes on where it was.
    whole = [labels.tolist() for _, labels in batches(streamed, 5)]
    for start in range(len(whole) + 1):
        assert [labels.tolist() for _, labels in streamed.batches(5, 3, start)] == whole[start:]


def test_joint_training_is_evaluated_once_for_all_rows(project: Project) -> None:
    matrices = json.loads(published(project, "joint", "accuracy.json").read_text())["matrices"]
    for matrix in matrices.values():
        assert len(matrix) == 2 and matrix[0] == matrix[1]
    metrics = json.loads((project.root / "results/metrics.json").read_text())["simclr"]["joint"]
    row = matrices["classifier"][0]
    assert metrics["CA"] == pytest.approx((row[0] + (row[0] + row[1]) / 2) / 2)
    assert metrics["FA"] == pytest.approx((row[0] + row[1]) / 2)
    assert "F" not in metrics, "undefined for a model that has seen everything from the start"


def test_joint_training_streams_end_to_end(tmp_path: Path) -> None:
    changes = {
        "grid.variants": ["joint"],
        "train.stream_above_mb": 0.001,
        "dataset.row_group_mb": 0.0005,
    }
    for head in ("fixed", "growing"):
        project = make_project(tmp_path / head, changes | {"model.classifier_head": head})
        outcome = project.kaizen("run")
        assert outcome.code == 0, outcome.output
        params, inputs = joint_step(project)
        files = input_files(params, inputs, project.store)
        assert isinstance(step_data(params, files, COMPUTE).task, StreamedRows)
        columns = history(project, "joint", 0)
        assert min(columns["L_FE_CT"] + columns["L_C_CT"]) > 0
        assert columns["L_FE_KD"] == columns["L_C_KD"] == [0.0, 0.0]
        assert sorted(params.logits or range(4)) == [0, 1, 2, 3]
