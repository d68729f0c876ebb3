"""Herding: the algorithm, and that it follows the run's own published models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from PIL import Image
from project import CLASSES, Project, make_project

from kaizen.data.replay import herding
from kaizen.data.replay.base import ReplayStream, Size, Task
from kaizen.data.replay.herding import herding_order
from kaizen.data.split import class_tasks
from kaizen.models.feature_classifier import Architecture, build_feature_classifier, load_weights
from kaizen.params import ModelParams
from kaizen.store.node_id import NodeId

TASKS = class_tasks(len(CLASSES), 4, 5)


def herded(values: np.ndarray, count: int) -> list[int]:
    """Algorithm 4 of arXiv:1611.07725 as it is written, row by row."""
    vectors = [row / np.linalg.norm(row) for row in values.astype(np.float64)]
    mean = sum(vectors) / len(vectors)
    order: list[int] = []
    for k in range(1, count + 1):
        total = sum((vectors[row] for row in order), np.zeros_like(mean))
        left = [row for row in range(len(vectors)) if row not in order]
        order.append(
            min(left, key=lambda row: float(np.linalg.norm(mean - (vectors[row] + total) / k)))
        )
    return order


def test_herding_is_the_papers_algorithm() -> None:
    values = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32) + 0.5
    assert herding_order(values, 40).tolist() == herded(values, 40)
    assert herding_order(values, 9).tolist() == herded(values, 40)[:9]
    # Lengths do not count, and two equal rows are two rows.
    assert herding_order(
        values * np.arange(1, 41, dtype=np.float32)[:, None], 40
    ).tolist() == herded(values, 40)
    assert herding_order(np.ones((4, 3), dtype=np.float32), 4).tolist() == [0, 1, 2, 3]
    assert sorted(herding_order(np.zeros((3, 2), dtype=np.float32), 3).tolist()) == [0, 1, 2]


def test_herding_follows_the_class_mean_better_than_chance() -> None:
    values = np.random.default_rng(1).normal(size=(200, 16)).astype(np.float32) + 0.3
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)

    def distance(rows: Any) -> float:
        return float(np.linalg.norm(unit[rows].mean(axis=0) - unit.mean(axis=0)))

    by_chance = [distance(np.random.default_rng(seed).permutation(200)[:20]) for seed in range(50)]
    assert distance(herding_order(values, 20)) < min(by_chance) / 2


def test_herding_chooses_in_each_class_by_the_tasks_own_features() -> None:
    tasks = [Task(0, (1, 0), np.array([0, 1, 1, 0, -1] * 8)), Task(1, (2,), np.array([2, -1] * 20))]
    values = [
        np.random.default_rng(task).normal(size=(40, 5)).astype(np.float32) for task in range(2)
    ]
    asked: list[int] = []

    def features(task: int) -> np.ndarray:
        asked.append(task)
        return values[task]

    rows = herding.choose(ReplayStream(tuple(tasks), 0, features), Size("proportion", 0.25))
    for task, counts in ((0, {0: 4, 1: 4, -1: 2}), (1, {2: 5, -1: 5})):
        expected: list[int] = []
        for label, count in counts.items():
            members = np.flatnonzero(tasks[task].labels == label)
            expected += members[herded(values[task][members], count)].tolist()
        assert sorted(rows[task].tolist()) == sorted(expected)
        of_class = tasks[task].labels[rows[task]]
        first = rows[task][of_class == max(counts)].tolist()
        members = np.flatnonzero(tasks[task].labels == max(counts))
        in_order = members[herded(values[task][members], len(first))].tolist()
        assert first == in_order, "those to be given up first come last"
    assert asked == [0, 1]  # once per task, however many classes it has


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Four tasks of one class of 12 images, herding into a memory of 9: 9, 4 and 3 images of
    each.
    """
    project = make_project(
        tmp_path_factory.mktemp("herding") / "project",
        {
            "split.tasks": 4,
            "grid.variants": ["kaizen"],
            "replay.policy": "herding",
            "replay.proportion": None,
            "replay.memory": [9],
            "dataset.row_group_mb": 0.001,  # five images
        },
    )
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    return project


def features_of_the_original_images(project: Project, task: int) -> np.ndarray:
    """Features of a task's training images, read with Pillow one by one, by the model right after
    the task.
    """
    (checkpoint,) = project.root.glob(f"results/models/*kaizen*/step-{task:02d}/model.safetensors")
    parts = ModelParams(width=4, classifier_hidden=[8])
    model = build_feature_classifier(
        Architecture(model=parts, channels=3, logits=len(CLASSES), seed=99)
    ).eval()
    load_weights(model, safetensors.torch.load_file(checkpoint), checkpoint)
    rows = []
    for path in sorted((project.images / "train" / CLASSES[TASKS[task][0]]).iterdir()):
        pixels = (
            torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1).float() / 255
        )
        with torch.no_grad():
            rows.append(model.encoder(((pixels - 0.5) / 0.25)[None])[0].numpy())
    return np.stack(rows)


def test_herding_follows_the_models_right_after_each_task(project: Project) -> None:
    orders = [herded(features_of_the_original_images(project, task), 12) for task in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    for step, each in ((1, 9), (2, 4), (3, 3)):
        (path,) = project.root.glob(f"data/replay/herding-9images/*/step-{step:02d}/replay.parquet")
        found = pq.read_table(path).column("path").to_pylist()
        expected = [
            f"{CLASSES[TASKS[task][0]]}/{number:02d}.png"
            for task in range(step)
            for number in sorted(orders[task][:each])
        ]
        assert [Path(name).parent.name + "/" + Path(name).name for name in found] == expected


def test_the_record_tells_where_the_features_were_computed(project: Project) -> None:
    (path,) = project.root.glob(
        "data/replay/herding-9images/simclr-kaizen-replay9images-seed0/step-02/node.json"
    )
    record = json.loads(path.read_text())
    assert (
        record["environment"]["device"] == "cpu" and record["environment"]["precision"] == "float32"
    )
    assert record["inputs"].keys() == {"step-00", "step-01"}


def test_a_damaged_model_is_named_and_set_aside(project: Project, tmp_path: Path) -> None:
    copy = project.copy(tmp_path / "copy")
    last = copy.keys("replay")[-1]
    inputs = json.loads(copy.store.record_path(NodeId.of("replay", last)).read_text())["inputs"]
    copy.set({"replay.memory": [6]})
    broken = copy.store.folder(NodeId.of("step", inputs["step-00"]["key"])) / "model.safetensors"
    data = bytearray(broken.read_bytes())
    data[-1] ^= 1
    broken.write_bytes(data)
    outcome = copy.kaizen("run")
    assert outcome.code != 0 and str(broken) in outcome.output and "Traceback" not in outcome.output
    assert "set aside" in outcome.output
