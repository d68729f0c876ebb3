"""Training by labels alone: one series whatever the methods, no SSL term, no unlabelled row."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from conftest import make_plan
from project import Project, make_project
from stream_project import append, make_stream

from kaizen.plan.nodes import Plan

REPLAYED = {
    "variants": {
        "replayed": {
            "self_supervised": False,
            "feature_distill": False,
            "classifier_distill": True,
            "replay": True,
        }
    }
}


def keys(plan: Plan, method: str) -> list[str]:
    return [step.key for run in plan.runs if run.point.method == method for step in run.steps]


def test_no_method_has_a_part_in_it() -> None:
    grid = {"grid.variants": ["kaizen", "supervised"], "grid.seeds": [0, 1]}
    one, two = (
        make_plan(grid | {"grid.methods": methods, "ssl.simclr.temperature": temperature})
        for methods, temperature in ((["simclr"], 0.2), (["byol", "simclr"], 0.3))
    )
    assert [run.name for run in two.runs if run.point.variant == "supervised"] == [
        "supervised-seed0",
        "supervised-seed1",
    ]
    assert keys(one, "supervised") == keys(two, "supervised")
    assert not set(keys(one, "simclr")) & set(keys(two, "simclr"))
    # Whether the classifier's gradient reaches the encoder is no question without another loss.
    other = make_plan(grid | {"train.classifier_gradient": True})
    assert keys(other, "supervised") == keys(one, "supervised")


def test_its_optimisation_can_differ_from_the_methods() -> None:
    grid = {"grid.variants": ["kaizen", "supervised"]}
    base, other = make_plan(grid), make_plan(grid | {"per_method.supervised": {"train": {"lr": 1}}})
    assert keys(base, "simclr") == keys(other, "simclr")
    assert not set(keys(base, "supervised")) & set(keys(other, "supervised"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Half of the labels; specialists, so that every kind of reference is there."""
    changes = REPLAYED | {
        "grid.variants": ["kaizen", "supervised", "replayed"],
        "grid.specialists": True,
        "labels.fraction": 0.5,
        "train.batch_size": 4,
        "train.lr": 0.3,
    }
    project = make_project(tmp_path_factory.mktemp("supervised") / "project", changes)
    project.kaizen("run").good()
    return project


def step(project: Project, run: str, number: int) -> Path:
    (folder,) = project.root.glob(f"results/models/{run}*/step-{number:02d}")
    return folder


def test_labels_alone_train_encoder_and_classifier(project: Project) -> None:
    first, second = (
        safetensors.torch.load_file(step(project, "supervised-seed0", number) / "model.safetensors")
        for number in (0, 1)
    )
    assert {name.partition(".")[0] for name in first} == {"encoder", "classifier"}
    moved = {name for name in first if not torch.equal(first[name], second[name])}
    assert moved >= {"classifier.0.weight", next(name for name in first if "conv" in name)}
    for number in (0, 1):
        folder = step(project, "supervised-seed0", number)
        history = pq.read_table(folder / "history.parquet").to_pydict()
        for name in ("L_FE_CT", "L_FE_KD", "L_C_KD"):
            assert history[name] == [0.0, 0.0]
        assert history["L"] == history["L_C_CT"] and min(history["L"]) > 0
    replayed = step(project, "supervised-replayed", 1)
    history = pq.read_table(replayed / "history.parquet").to_pydict()
    assert min(history["L_C_KD"]) > 0 and history["L_FE_CT"] == [0.0, 0.0]


def test_rows_without_a_label_take_no_part(project: Project) -> None:
    """Of 24 images of a task 12 have a label: those make 3 batches of 4, all images make 6."""
    for run, rows, batches in (("supervised-seed0", 12, 3), ("simclr-kaizen", 24, 6)):
        facts = json.loads((step(project, run, 1) / "step.json").read_text())
        assert (facts["rows"], facts["labelled"], facts["batches"]) == (rows, 12, batches)
    # 25 % of the 24 earlier images, 3 of each class: the labelled ones are replayed.
    facts = json.loads((step(project, "supervised-replayed", 1) / "step.json").read_text())
    assert facts["replay_rows"] == facts["replay_labelled"] > 0


def test_tables_and_cards_name_it(project: Project) -> None:
    report = (project.root / "results/summary/report.md").read_text()
    assert "| Supervised | Supervised | " in report
    assert "| Supervised | replayed | " in report
    metrics = json.loads((project.root / "results/metrics.json").read_text())
    assert list(metrics["supervised"]["supervised"]) == ["CA", "F", "FA", "FT"]
    text = (project.root / "results/summary/cards/supervised-seed0.md").read_text()
    assert "by its labels alone, in the variant *Supervised*" in text
    assert "**SSL method**: none" in text


def test_a_task_without_labels_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    project = make_stream(
        tmp_path / "project", {"grid.variants": ["supervised"], "train.lr": 0.3},
        ({"cat": 8, "dog": 8}, {"": 12}, {"eel": 8}),
    )  # fmt: skip
    for number in range(3):
        append(project, number)
    output = project.kaizen("run").good()
    models = [
        safetensors.torch.load_file(step(project, "supervised-seed0", number) / "model.safetensors")
        for number in range(3)
    ]
    assert {name: torch.equal(models[0][name], models[1][name]) for name in models[0]} == (
        dict.fromkeys(models[0], True)
    )
    assert not torch.equal(models[1]["classifier.0.weight"], models[2]["classifier.0.weight"])
    assert "it leaves the model as it was" in output
    history = pq.read_table(step(project, "supervised-seed0", 1) / "history.parquet").to_pydict()
    assert history["L"] == [0.0]
