"""Probe and kNN against independent ones, and the accuracy matrix against the original images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from tiny import CLASSES, Project, make_project

from kaizen.data.split import class_tasks
from kaizen.evaluation.readers import linear_probe, nearest_neighbours
from kaizen.models.continual import build_feature_classifier, load_weights
from kaizen.params import EvaluationParams, ModelParams


@pytest.fixture(scope="module")
def clusters() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Train features [300, 6] of three overlapping classes, their labels, and test features [200, 6]."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(3, 6))
    labels = random.integers(0, 3, 300)
    train = centres[labels] + random.normal(size=(300, 6))
    test = centres[random.integers(0, 3, 200)] + random.normal(size=(200, 6))
    return torch.tensor(train, dtype=torch.float32), torch.tensor(labels), torch.tensor(test, dtype=torch.float32)


def test_the_linear_probe_is_logistic_regression(clusters: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    train, labels, test = clusters
    params = EvaluationParams(probe_l2=0.01, probe_iterations=200)
    ours = linear_probe(train, labels, test, 3, params).numpy()
    mean, std = train.mean(dim=0), train.std(dim=0, correction=0)
    # scikit-learn's penalty is |w|^2 / 2C beside the sum over rows, ours beside their mean.
    model = LogisticRegression(C=1 / (0.01 * len(train)), max_iter=1000, tol=1e-8).fit((train - mean) / std, labels)
    theirs = model.predict((test - mean) / std)
    assert (ours == theirs).mean() >= 0.99


def test_nearest_neighbours_vote_by_similarity(clusters: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    train, labels, test = clusters
    params = EvaluationParams(knn_k=7, knn_temperature=0.1)
    ours = nearest_neighbours(train, labels, test, 3, params, chunk=64).tolist()
    bank = train.double().numpy() / np.linalg.norm(train.double().numpy(), axis=1, keepdims=True)
    for row, predicted in zip(test.double().numpy(), ours, strict=True):
        similarity = bank @ (row / np.linalg.norm(row))
        nearest = np.argsort(-similarity)[:7]
        votes = [np.exp(similarity[nearest] / 0.1)[labels.numpy()[nearest] == label].sum() for label in range(3)]
        assert predicted == int(np.argmax(votes))


def test_more_neighbours_than_images_and_an_empty_test_set() -> None:
    train, labels = torch.eye(3), torch.arange(3)
    assert nearest_neighbours(train, labels, torch.eye(3), 3, EvaluationParams(knn_k=50)).tolist() == [0, 1, 2]
    assert nearest_neighbours(train, labels, torch.zeros(0, 3), 3, EvaluationParams()).tolist() == []


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(tmp_path_factory.mktemp("evaluation") / "project", {"grid.specialists": True})
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    return project


def accuracy_from_the_original_images(project: Project, checkpoint: Path, task: int) -> float:
    """Classify one task's test images, read with Pillow from the raw folder, one by one."""
    model = build_feature_classifier(ModelParams(width=4, classifier_hidden=[8]), 3, len(CLASSES), seed=99).eval()
    load_weights(model, safetensors.torch.load_file(checkpoint), checkpoint)
    right = []
    for label in class_tasks(len(CLASSES), 2, 5)[task]:
        for path in sorted((project.images / "test" / CLASSES[label]).iterdir()):
            pixels = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1).float() / 255
            with torch.no_grad():
                logits = model.classifier(model.encoder(((pixels - 0.5) / 0.25)[None]))
            right.append(int(logits.argmax()) == label)
    return float(np.mean(right))


def test_the_accuracy_matrix_is_that_of_the_original_images(project: Project) -> None:
    for variant in ("kaizen", "no_distill"):
        (file,) = project.root.glob(f"results/evaluations/*{variant}*/accuracy.json")
        matrix = json.loads(file.read_text())["matrices"]["classifier"]
        for step in range(2):
            (checkpoint,) = project.root.glob(f"results/models/*{variant}*/step-{step:02d}/model.safetensors")
            expected = [accuracy_from_the_original_images(project, checkpoint, task) for task in range(2)]
            assert matrix[step] == pytest.approx(expected)


def test_specialists_are_measured_on_their_own_task(project: Project) -> None:
    (file,) = project.root.glob("results/evaluations/*specialist*/accuracy.json")
    content = json.loads(file.read_text())
    for task in range(2):
        (checkpoint,) = project.root.glob(f"results/models/*specialist*/task-{task:02d}/model.safetensors")
        expected = accuracy_from_the_original_images(project, checkpoint, task)
        assert content["specialists"]["classifier"][task] == pytest.approx(expected)
    assert set(content["random_network"]) == {"linear_probe", "knn"}
    assert all(0 <= value <= 1 for values in content["random_network"].values() for value in values)


def test_the_published_metrics_follow_from_the_matrices(project: Project) -> None:
    metrics = json.loads((project.root / "results/metrics.json").read_text())
    (file,) = project.root.glob("results/evaluations/*no_distill*/accuracy.json")
    a = json.loads(file.read_text())["matrices"]["classifier"]
    (file,) = project.root.glob("results/evaluations/*specialist*/accuracy.json")
    s = json.loads(file.read_text())["specialists"]["classifier"]
    expected = {
        "CA": (a[0][0] + (a[1][0] + a[1][1]) / 2) / 2,
        "FA": (a[1][0] + a[1][1]) / 2,
        "F": max(a[0][0], a[1][0]) - a[1][0],
        "FT": a[1][1] - s[1],
    }
    found = metrics["simclr"]["no_distill"]
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_without_any_label_probe_and_knn_are_left_out(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", {"labels.fraction": 0.0})
    assert project.kaizen("run").code == 0
    full = json.loads((project.root / "results/summary/metrics_full.json").read_text())
    assert "linear_probe" not in full["simclr"]["kaizen"] and "classifier" in full["simclr"]["kaizen"]
