"""Probe and kNN against independent ones, and the accuracy matrix against the original images."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import safetensors.torch
import torch
from PIL import Image
from project import CLASSES, Project, make_project
from sklearn.linear_model import LogisticRegression

import kaizen
from kaizen.data.split import class_tasks
from kaizen.evaluation import run
from kaizen.evaluation.confusion import read_confusion
from kaizen.evaluation.features import StepModels
from kaizen.evaluation.readers import linear_probe, nearest_neighbours
from kaizen.evaluation.results import READERS
from kaizen.models.feature_classifier import (
    Architecture,
    FeatureClassifier,
    build_feature_classifier,
    load_weights,
)
from kaizen.params import EvaluationParams, ModelParams
from kaizen.plan.job import Job, read_job
from kaizen.plan.specs import EvaluationSpec
from kaizen.training.reporter import PlainReporter


@pytest.fixture(scope="module")
def clusters() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Train features [300, 6] of three overlapping classes, their labels, and test features [200,
    6].
    """
    random = np.random.default_rng(0)
    centres = random.normal(size=(3, 6))
    labels = random.integers(0, 3, 300)
    train = centres[labels] + random.normal(size=(300, 6))
    test = centres[random.integers(0, 3, 200)] + random.normal(size=(200, 6))
    return (
        torch.tensor(train, dtype=torch.float32),
        torch.tensor(labels),
        torch.tensor(test, dtype=torch.float32),
    )


def test_the_linear_probe_is_logistic_regression(
    clusters: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    train, labels, test = clusters
    params = EvaluationParams(probe_l2=0.01, probe_iterations=200)
    ours = linear_probe(train, labels, test, params).numpy()
    mean, std = train.mean(dim=0), train.std(dim=0, correction=0)
    # scikit-learn's penalty is |w|^2 / 2C beside the sum over rows, ours beside their mean.
    model = LogisticRegression(C=1 / (0.01 * len(train)), max_iter=1000, tol=1e-8).fit(
        (train - mean) / std, labels
    )
    theirs = model.predict((test - mean) / std)
    assert (ours == theirs).mean() >= 0.99


def test_the_linear_probe_never_predicts_a_class_that_it_has_not_seen(
    clusters: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    train, labels, test = clusters
    rows = labels != 1
    predicted = linear_probe(train[rows], labels[rows], 100 * test, EvaluationParams())
    assert predicted.unique().tolist() == [0, 2]
    compact = linear_probe(train[rows], labels[rows] // 2, 100 * test, EvaluationParams())
    assert torch.equal(predicted, 2 * compact)


def test_nearest_neighbours_vote_by_similarity(
    clusters: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    train, labels, test = clusters
    params = EvaluationParams(knn_k=7, knn_temperature=0.1)
    ours = nearest_neighbours(train, labels, test, 3, params, chunk=64).tolist()
    bank = train.double().numpy() / np.linalg.norm(train.double().numpy(), axis=1, keepdims=True)
    for row, predicted in zip(test.double().numpy(), ours, strict=True):
        similarity = bank @ (row / np.linalg.norm(row))
        nearest = np.argsort(-similarity)[:7]
        votes = [
            np.exp(similarity[nearest] / 0.1)[labels.numpy()[nearest] == label].sum()
            for label in range(3)
        ]
        assert predicted == int(np.argmax(votes))


def test_more_neighbours_than_images_and_an_empty_test_set() -> None:
    train, labels = torch.eye(3), torch.arange(3)
    assert nearest_neighbours(
        train, labels, torch.eye(3), 3, EvaluationParams(knn_k=50)
    ).tolist() == [0, 1, 2]
    assert (
        nearest_neighbours(train, labels, torch.zeros(0, 3), 3, EvaluationParams()).tolist() == []
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    changes = {"grid.specialists": True, "evaluation.probe_iterations": 200}
    project = make_project(tmp_path_factory.mktemp("evaluation") / "project", changes)
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    return project


TASKS = class_tasks(len(CLASSES), 2, 5)


def read_original_images(
    project: Project, checkpoint: Path, part: str, task: int
) -> tuple[np.ndarray, list[int], list[int]]:
    """Of one task's images, read with Pillow from the raw folder one by one: features [N, F],
    labels, predictions.
    """
    parts = ModelParams(width=4, classifier_hidden=[8])
    model = build_feature_classifier(
        Architecture(model=parts, channels=3, logits=len(CLASSES), seed=99)
    ).eval()
    load_weights(model, safetensors.torch.load_file(checkpoint), checkpoint)
    features, labels, predicted = [], [], []
    for label in TASKS[task]:
        for path in sorted((project.images / part / CLASSES[label]).iterdir()):
            pixels = (
                torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1).float() / 255
            )
            with torch.no_grad():
                features.append(model.encoder(((pixels - 0.5) / 0.25)[None])[0].numpy())
                predicted.append(
                    int(model.classifier(torch.from_numpy(features[-1])[None]).argmax())
                )
            labels.append(label)
    return np.stack(features), labels, predicted


def accuracy_from_the_original_images(project: Project, checkpoint: Path, task: int) -> float:
    """The classifier's accuracy on one task's test images."""
    _, labels, predicted = read_original_images(project, checkpoint, "test", task)
    return float(np.mean(np.equal(labels, predicted)))


def evaluation_job(project: Project, variant: str) -> Job[EvaluationSpec]:
    """The job of a run's evaluation, from its record."""
    (record,) = project.root.glob(f"results/evaluations/*{variant}*/node.json")
    value = json.loads(record.read_text()) | {"title": variant, "local": {}}
    # Its record leaves out which shards it read.
    (shards,) = project.keys("shards")
    value["inputs"]["shards"] = {"kind": "shards", "key": shards}
    return read_job(value, str(record))


def reading(project: Project, variant: str) -> dict[str, Any]:
    """The content of a published accuracy.json."""
    (file,) = project.root.glob(f"results/evaluations/*{variant}*/accuracy.json")
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def test_the_accuracy_matrix_is_that_of_the_original_images(project: Project) -> None:
    for variant in ("kaizen", "no_distill"):
        (file,) = project.root.glob(f"results/evaluations/*{variant}*/accuracy.json")
        matrix = json.loads(file.read_text())["matrices"]["classifier"]
        for step in range(2):
            (checkpoint,) = project.root.glob(
                f"results/models/*{variant}*/step-{step:02d}/model.safetensors"
            )
            expected = [
                accuracy_from_the_original_images(project, checkpoint, task) for task in range(2)
            ]
            assert matrix[step] == pytest.approx(expected)


def test_specialists_are_measured_on_their_own_task(project: Project) -> None:
    (file,) = project.root.glob("results/evaluations/*specialist*/accuracy.json")
    content = json.loads(file.read_text())
    for task in range(2):
        (checkpoint,) = project.root.glob(
            f"results/models/*specialist*/task-{task:02d}/model.safetensors"
        )
        expected = accuracy_from_the_original_images(project, checkpoint, task)
        assert content["specialists"]["classifier"][task] == pytest.approx(expected)
    assert set(content["random_network"]) == {"linear_probe", "knn"}
    assert all(0 <= value <= 1 for values in content["random_network"].values() for value in values)


def test_the_probe_of_the_tasks_seen_is_logistic_regression_on_their_rows(project: Project) -> None:
    matrix = reading(project, "no_distill")["matrices"]["linear_probe_seen"]
    (checkpoint,) = project.root.glob("results/models/*no_distill*/step-00/model.safetensors")
    train, labels, _ = read_original_images(project, checkpoint, "train", 0)
    test, expected, _ = read_original_images(project, checkpoint, "test", 0)
    mean, std = train.mean(axis=0), train.std(axis=0).clip(1e-6)
    penalty = 1 / (EvaluationParams().probe_l2 * len(train))
    model = LogisticRegression(C=penalty, max_iter=10_000, tol=1e-8).fit(
        (train - mean) / std, labels
    )
    right = model.predict((test - mean) / std) == expected
    assert matrix[0][0] == pytest.approx(right.mean(), abs=1.01 / len(right))
    assert matrix[0][1] == 0  # classes of the next task are never predicted
    assert matrix[1] == reading(project, "no_distill")["matrices"]["linear_probe"][1]
    # Task 0's specialist is step 0, and has seen task 0 alone.
    assert reading(project, "specialist")["specialists"]["linear_probe_seen"][0] == matrix[0][0]


def test_the_probe_of_the_tasks_seen_costs_no_features_and_no_second_fit_at_the_end(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[list[int]] = []
    images: list[int] = []
    features = StepModels.features

    def counted_probe(train: torch.Tensor, labels: torch.Tensor, *rest: Any) -> torch.Tensor:
        fitted.append(sorted(labels.unique().tolist()))
        return linear_probe(train, labels, *rest)

    def counted_features(self: StepModels, model: FeatureClassifier, batch: torch.Tensor) -> Any:
        images.append(len(batch))
        return features(self, model, batch)

    monkeypatch.setattr(run, "linear_probe", counted_probe)
    monkeypatch.setattr(StepModels, "features", counted_features)
    run.run_evaluation(
        evaluation_job(project, "kaizen"), project.store, tmp_path, PlainReporter("", None, None)
    )
    assert fitted == [[0, 1, 2, 3], sorted(TASKS[0]), [0, 1, 2, 3]]
    assert images == [12, 12, 48] * 2  # per step: each task's test images, all training images
    assert json.loads((tmp_path / "accuracy.json").read_text()) == reading(project, "kaizen")


def test_the_confusion_is_that_of_the_original_images_and_gives_the_accuracies(
    project: Project,
) -> None:
    for variant in ("kaizen", "no_distill"):
        (file,) = project.root.glob(f"results/evaluations/*{variant}*/confusion.parquet")
        rows = pyarrow.parquet.read_table(file).to_pylist()
        assert all(row["count"] > 0 for row in rows)
        counts = {(row["step"], row["label"], row["predicted"]): row["count"] for row in rows}
        assert len(counts) == len(rows)
        matrix = reading(project, variant)["matrices"]["classifier"]
        for step in range(2):
            (checkpoint,) = project.root.glob(
                f"results/models/*{variant}*/step-{step:02d}/model.safetensors"
            )
            found = [read_original_images(project, checkpoint, "test", task) for task in range(2)]
            pairs = Counter((step, *pair) for _, y, p in found for pair in zip(y, p, strict=True))
            assert {key: count for key, count in counts.items() if key[0] == step} == pairs
            for task in range(2):
                right = sum(counts.get((step, label, label), 0) for label in TASKS[task])
                assert matrix[step][task] == pytest.approx(right / 12)
        assert read_confusion(file)[1] == {
            key[1:]: count for key, count in counts.items() if key[0] == 1
        }


def test_a_single_model_of_all_tasks_stands_for_every_step(
    project: Project, tmp_path: Path
) -> None:
    job = evaluation_job(project, "kaizen")
    job.inputs["step-00"] = job.inputs.pop("step-01")
    run.run_evaluation(job, project.store, tmp_path, PlainReporter("", None, None))
    last = {reader: rows[1] for reader, rows in reading(project, "kaizen")["matrices"].items()}
    found = json.loads((tmp_path / "accuracy.json").read_text())["matrices"]
    assert found == {reader: [row, row] for reader, row in last.items()}
    (file,) = project.root.glob("results/evaluations/*kaizen*/confusion.parquet")
    assert read_confusion(tmp_path / "confusion.parquet") == (read_confusion(file)[1],) * 2


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
    assert [reader for reader in READERS if reader in full["simclr"]["kaizen"]] == ["classifier"]


def test_another_test_crop_evaluates_again_and_trains_nothing(tmp_path: Path) -> None:
    """The models of the first run, loaded as `kaizen.load` does it, come to the accuracies."""
    project = make_project(tmp_path / "project", {"grid.variants": ["no_distill"]})
    project.kaizen("run").good()
    whole = reading(project, "no_distill")
    project.set({"image.test_crop": 0.5})
    project.start_counting()
    project.kaizen("run").good()
    assert project.jobs() == {"evaluation": 1, "reference": 1, "summary": 1}
    content = reading(project, "no_distill")
    assert content != whole
    (folder,) = project.root.glob("results/models/*no_distill*/step-01")
    model = kaizen.load(folder)
    for task, labels in enumerate(TASKS):
        paths = [
            (path, CLASSES[label])
            for label in labels
            for path in sorted((project.images / "test" / CLASSES[label]).iterdir())
        ]
        names, _ = model.predict([path for path, _ in paths])
        accuracy = np.mean([name == true for name, (_, true) in zip(names, paths, strict=True)])
        assert content["matrices"]["classifier"][1][task] == pytest.approx(accuracy)
