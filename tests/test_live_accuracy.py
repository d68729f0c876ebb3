"""`runtime.live_accuracy`: a step is tried on test images as it trains, which changes nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_plan
from project import Project, make_project, node_command

from kaizen.files import read_json, sha256_file
from kaizen.store.node_id import Kind, NodeId
from kaizen.training.live_accuracy import LiveAccuracy

CHANGES: dict[str, Any] = {"grid.methods": ["byol"], "train.epochs": 3, "model.width": 8}
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
    ),
]


def bytes_of(project: Project) -> dict[str, str]:
    """The hashes of all that its steps made, by key and name."""
    return {
        f"{path.parent.name}/{path.name}": sha256_file(path)
        for path in (project.store.root / "step").rglob("*")
        if path.is_file() and path.name != "run.json"
    }


def accuracies(project: Project, folder: Path) -> list[float]:
    """What the log of a published step says after each epoch, in percent."""
    key = read_json(folder / "node.json")["key"]
    log = (project.root / "logs/step" / f"{key}.log").read_text()
    return [float(found) for found in re.findall(r"accuracy ([\d.]+) %", log)]


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_bytes_with_and_without_and_what_evaluation_finds(
    tmp_path: Path, device: str
) -> None:
    # On a GPU enough batches that they are recorded, and replayed after a trial.
    changes = CHANGES | {"train.device": device, "train.epochs": 3 if device == "cpu" else 8}
    without = make_project(tmp_path / "without", changes)
    without.kaizen("run").good()
    project = make_project(tmp_path / "with", changes | {"runtime.live_accuracy": 1000})
    project.kaizen("run").good()
    assert bytes_of(project) == bytes_of(without)
    assert len(bytes_of(project)) > 9
    steps = sorted(project.root.glob("results/models/*/step-*"))
    assert len(steps) == 4
    for folder in steps:
        found = accuracies(project, folder)
        assert len(found) == changes["train.epochs"]
        task, run = int(folder.name[-2:]), folder.parent.name
        matrix = read_json(project.root / f"results/evaluations/{run}/accuracy.json")
        evaluated = matrix["matrices"]["classifier"][task][task]
        assert found[-1] == pytest.approx(100 * evaluated, abs=0.06)
    assert not any(accuracies(without, folder) for folder in steps)


def test_a_sample_is_a_share_of_each_class(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", CHANGES | {"runtime.live_accuracy": 4})
    project.kaizen("run").good()
    # Of 6 test images of each of 2 classes: 2 of each.
    for folder in project.root.glob("results/models/*/step-*"):
        assert set(accuracies(project, folder)) <= {0.0, 25.0, 50.0, 75.0, 100.0}


def test_a_step_without_test_images_says_so_once_and_trains(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", CHANGES | {"runtime.live_accuracy": 9})
    project.kaizen("run").good()
    (key,) = project.keys("shards")
    shards = project.store.folder(NodeId.of("shards", key))
    (shards / "task-00.test.parquet").unlink()
    plan = json.loads(project.kaizen("plan", "--json").good())
    spec = next(spec for spec in plan["nodes"] if spec["kind"] == "step")
    assert spec["local"]["live_accuracy"] == 9
    before = bytes_of(project)
    shutil.rmtree(project.store.folder(NodeId.of("step", spec["key"])))
    told = project.run(*node_command(project.store.root, spec))
    assert told.count("runtime.live_accuracy") == 1 and "task-00.test.parquet is missing" in told
    assert bytes_of(project) == before and (shards / "node.json").exists()


def test_trying_leaves_a_model_as_it_was() -> None:
    from kaizen.compute.device import Compute
    from kaizen.training.step import student_for

    spec = next(node.spec for node in make_plan().nodes.values() if node.id.kind is Kind.STEP)
    student = student_for(spec)  # type: ignore[arg-type]
    student.train()
    student.classifier.eval()
    modes = [module.training for module in student.modules()]
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    state = torch.get_rng_state()
    shape = (5, spec.image.channels, 12, 12)  # type: ignore[union-attr]
    images = torch.arange(torch.Size(shape).numel()).reshape(shape).to(torch.uint8)
    compute = Compute(torch.device("cpu"), torch.float32)
    told: list[str] = []
    tried = LiveAccuracy(images, torch.arange(5), spec.image, compute, told.append)  # type: ignore[union-attr]
    share = tried(student)
    assert share is not None and 0 <= share <= 1 and tried(student) == share
    assert [module.training for module in student.modules()] == modes
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.equal(torch.get_rng_state(), state) and not told


def test_a_gpu_without_memory_ends_it_and_not_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from kaizen.compute.device import Compute

    told: list[str] = []
    compute = Compute(torch.device("cpu"), torch.float32)
    tried = LiveAccuracy(torch.zeros(1, 3, 8, 8), torch.zeros(1), None, compute, told.append)  # type: ignore[arg-type]

    def full(model: object) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tried, "_share", full)
    model = torch.nn.ModuleDict({"encoder": torch.nn.Identity(), "classifier": torch.nn.Identity()})
    model.encoder, model.classifier = model["encoder"], model["classifier"]
    assert tried(model) is None and tried(model) is None  # type: ignore[arg-type]
    assert len(told) == 1 and "no memory" in told[0]
