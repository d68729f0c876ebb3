"""The `evaluation` and `reference` nodes: a run's accuracy matrices, the specialists' and a random
network's.

One job evaluates all steps of a run, as starting a process costs more than evaluating a small
model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kaizen.compute.device import Compute, choose_compute
from kaizen.data.names import ACCURACY_FILE, CONFUSION_FILE, head_file, shard_file
from kaizen.data.schema import UNLABELLED
from kaizen.evaluation.calibration import (
    CALIBRATION_FILE,
    StepCalibration,
    binned,
    write_calibration,
)
from kaizen.evaluation.confidence import confidences, head_scores, principal_components
from kaizen.evaluation.confusion import Counts, count_pairs, write_confusion
from kaizen.evaluation.features import StepModels
from kaizen.evaluation.head_files import StepHeads, read_heads
from kaizen.evaluation.kept import FEATURES_FILE, KeptFeatures, kept_rows, write_features
from kaizen.evaluation.mistaken import MISTAKEN_FILE, most_mistaken, write_mistaken
from kaizen.evaluation.readers import linear_probe, nearest_neighbours
from kaizen.evaluation.recorded import ShownImages
from kaizen.evaluation.reference_rows import Row, features_of_rows, lda_matrices
from kaizen.evaluation.results import ALWAYS_READ, matrix_rows
from kaizen.files import write_json
from kaizen.models.feature_classifier import FeatureClassifier
from kaizen.plan.job import Job
from kaizen.plan.roles import HEAD, SHARDS, shards_of, step_roles
from kaizen.plan.specs import EvaluationSpec
from kaizen.store.made import Made
from kaizen.store.store import Store
from kaizen.training.reporter import Reporter
from kaizen.views.decode import load_shard


@dataclass(frozen=True)
class DecodedImages:
    """The decoded images of one shard: uint8 [N, C, H, W] and labels int64 [N], `UNLABELLED` where
    absent.
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Shown:
    """What a model makes of the test images of all tasks: features float32 [M, F] and the
    classifier's logits float32 [M, L].
    """

    features: Tensor
    logits: Tensor


def run_evaluation(
    job: Job[EvaluationSpec], store: Store, building: Path, reporter: Reporter
) -> Made:
    """Write a run's ``accuracy.json``: a T x T matrix per reader, row t after step t, column i on
    task i; ``confusion.parquet``, the classifier's; ``calibration.json``, ``mistaken.json`` and
    ``features.safetensors`` (`kaizen.evaluation.confusion`, `calibration`, `mistaken`, `kept`).
    """
    evaluator = _evaluator(job, store)
    roles, tasks = step_roles(job.inputs), range(len(job.spec.tasks))
    rows, confusion, calibration, kept = [], [], [], []
    for step, role in enumerate(roles):
        # A single model of several tasks is joint training: it has seen them all.
        seen = tasks[: step + 1] if len(roles) > 1 else tasks
        heads = None
        if HEAD in job.inputs:
            heads = read_heads(store.open_file(job.inputs[HEAD], head_file(step)))
        model = evaluator.models.load(role)
        shown = evaluator.show(model)
        predicted = evaluator.predictions(model, shown, seen, heads)
        rows.append(evaluator.accuracies(predicted))
        confusion.append(evaluator.confusion(predicted["classifier"]))
        sure = evaluator.confidences(shown, heads)
        calibration.append(evaluator.calibration(predicted, sure, len(seen)))
        kept.append((step, evaluator.kept(shown)))
        if step + 1 == len(roles):
            taken_for = torch.cat(predicted["classifier"]).numpy()
            pairs = most_mistaken(evaluator.images, taken_for, sure["classifier"])
            write_mistaken(pairs, building / MISTAKEN_FILE)
        reporter.amount(step + 1, len(roles), "steps evaluated")
    rows, confusion = matrix_rows(rows, len(tasks)), matrix_rows(confusion, len(tasks))
    write_confusion(confusion, building / CONFUSION_FILE)
    write_calibration(calibration, building / CALIBRATION_FILE)
    write_features(kept, building / FEATURES_FILE)
    matrices = {reader: [row[reader] for row in rows] for reader in evaluator.readers}
    write_json(building / ACCURACY_FILE, {"matrices": matrices})
    return Made(evaluator.compute.describe())


def run_reference(
    job: Job[EvaluationSpec], store: Store, building: Path, reporter: Reporter
) -> Made:
    """Write the ``accuracy.json`` of what transfer is measured by: the specialists' accuracies S_i
    (null where the grid trains none) and the random network's R_i, T values per reader; of a
    closed dataset also the matrices of `kaizen.evaluation.reference_rows`.
    """
    evaluator = _evaluator(job, store)
    roles, tasks = step_roles(job.inputs), range(len(job.spec.tasks))
    random = evaluator.models.untrained()
    of_random = evaluator.accuracies(evaluator.predictions(random, evaluator.show(random), tasks))
    specialists: dict[str, list[float | None]] | None = None
    # Otherwise step 0 alone stands for the network's shape.
    if len(roles) == len(tasks):
        specialists = {reader: [] for reader in evaluator.readers}
        for task, role in enumerate(roles):
            model = evaluator.models.load(role)
            predicted = evaluator.predictions(model, evaluator.show(model), [task])
            for reader, accuracies in evaluator.accuracies(predicted).items():
                specialists[reader].append(accuracies[task])
            reporter.amount(task + 1, len(roles), "specialists evaluated")
    result: dict[str, Any] = {
        # Those that know the classes of a task before it is learnt.
        "random_network": {reader: of_random[reader] for reader in ("linear_probe", "knn")},
        "specialists": specialists,
    }
    # On a stream that grows they would read every earlier arrival again with each new one.
    if SHARDS in job.inputs:
        result["lda"] = evaluator.lda()
    write_json(building / ACCURACY_FILE, result)
    return Made(evaluator.compute.describe())


def _evaluator(job: Job[EvaluationSpec], store: Store) -> Evaluator:
    wanted = job.spec.compute
    compute = choose_compute(wanted.device, wanted.precision, wanted.threads)
    return Evaluator(job, store, compute)


class Evaluator:
    """Reads the shards once and measures model after model on them."""

    def __init__(self, job: Job[EvaluationSpec], store: Store, compute: Compute) -> None:
        """Decode the training rows that probe and kNN learn from, and all test rows."""
        self.store, self.compute = store, compute
        self.inputs = job.inputs
        self.params = job.spec.evaluation
        self.classes = job.spec.num_classes
        self.readers = (*ALWAYS_READ, *(job.spec.heads or ()))
        self.models = StepModels(
            job.inputs, store, compute, self.params.batch_size, job.spec.test_crop
        )
        tasks = range(len(job.spec.tasks))
        train = [self._shard(task, "train", self.params.probe_fraction) for task in tasks]
        self.tests = [self._shard(task, "test", 1.0) for task in tasks]
        images, labels = (
            torch.cat([part.images for part in train]),
            torch.cat([part.labels for part in train]),
        )
        labelled = labels != UNLABELLED
        self.train = DecodedImages(images[labelled], labels[labelled])
        of_task = [
            torch.full_like(part.labels, task) for task, part in zip(tasks, train, strict=True)
        ]
        self.train_tasks = torch.cat(of_task)[labelled]
        self.images = ShownImages.of([part.labels.numpy() for part in self.tests])
        self.kept_rows = torch.from_numpy(kept_rows(self.images))

    def _shard(self, task: int, part: str, fraction: float) -> DecodedImages:
        path = self.store.open_file(shards_of(self.inputs, task), shard_file(task, part))
        images, labels = load_shard(path, self.models.image, fraction)
        return DecodedImages(torch.from_numpy(images), torch.from_numpy(labels))

    def show(self, model: FeatureClassifier) -> Shown:
        """Show a model the test images of all tasks."""
        outputs = [self.models.features(model, part.images) for part in self.tests]
        return Shown(
            torch.cat([features for features, _ in outputs]),
            torch.cat([logits for _, logits in outputs]),
        )

    def predictions(
        self,
        model: FeatureClassifier,
        shown: Shown,
        seen: Sequence[int],
        heads: StepHeads | None = None,
    ) -> dict[str, tuple[Tensor, ...]]:
        """Per reader the predicted class of each task's test images, int64 [M]: arg max over all
        classes of the stream.

        linear_probe and knn learn from the labelled rows of all tasks, linear_probe_seen from those
        of the tasks ``seen`` (CaSSLe's protocol, arXiv:2112.04215). ``heads`` are the analytic ones
        of the model's step. A reader without a labelled row to learn from is left out.
        """
        test = shown.features
        predicted = {"classifier": model.predicted(shown.logits)}
        if heads is not None:
            predicted |= {kind: heads.predict(kind, test) for kind in heads.readers()}
        if len(self.train.labels):
            bank, _ = self.models.features(model, self.train.images)
            known = self.train.labels.to(bank.device)
            predicted["linear_probe"] = linear_probe(bank, known, test, self.params)
            rows = torch.isin(self.train_tasks, torch.tensor(list(seen))).to(bank.device)
            if rows.all():
                predicted["linear_probe_seen"] = predicted["linear_probe"]
            elif rows.any():
                predicted["linear_probe_seen"] = linear_probe(
                    bank[rows], known[rows], test, self.params
                )
            predicted["knn"] = nearest_neighbours(bank, known, test, self.classes, self.params)
        sizes = [len(part.labels) for part in self.tests]
        return {reader: every.cpu().split(sizes) for reader, every in predicted.items()}

    def confidences(self, shown: Shown, heads: StepHeads | None) -> dict[str, np.ndarray]:
        """The confidence float64 [M] in each test image of the classifier and of each head."""
        found = {"classifier": confidences(shown.logits)}
        if heads is not None:
            for kind in heads.readers():
                found[kind] = confidences(head_scores(heads, kind, shown.features))
        return found

    def calibration(
        self,
        predicted: Mapping[str, Sequence[Tensor]],
        sure: Mapping[str, np.ndarray],
        seen: int,
    ) -> StepCalibration:
        """The bins of each reader that is ``sure`` of something, of the first ``seen`` tasks' test
        images.
        """
        rows = self.images.task < seen
        right = {name: torch.cat(list(predicted[name])).numpy() for name in sure}
        return {
            name: binned(sure[name][rows], (right[name] == self.images.label)[rows])
            for name in sure
        }

    def kept(self, shown: Shown) -> KeptFeatures:
        """The features of the kept images."""
        rows = self.kept_rows
        return KeptFeatures(
            self.images.at(rows.numpy()),
            principal_components(shown.features[rows.to(shown.features.device)]),
        )

    def accuracies(
        self, predicted: Mapping[str, Sequence[Tensor]]
    ) -> dict[str, list[float | None]]:
        """Accuracy on every task's test images per reader; None for one that made no
        predictions.
        """
        labels = [part.labels for part in self.tests]
        return {
            reader: [_accuracy(p, y) for p, y in zip(predicted[reader], labels, strict=True)]
            if reader in predicted
            else [None] * len(labels)
            for reader in self.readers
        }

    def lda(self) -> dict[str, list[Row]]:
        """The matrices of linear discriminant analysis, by `LDA_ROWS`."""
        tasks = range(len(self.tests))
        shards = [
            self.store.open_file(shards_of(self.inputs, task), shard_file(task, "train"))
            for task in tasks
        ]
        tests = [(part.images, part.labels) for part in self.tests]
        fraction = self.models.data_fraction
        return lda_matrices(features_of_rows(self.models), shards, tests, self.models, fraction)

    def confusion(self, predicted: Sequence[Tensor]) -> Counts:
        """How often each class was taken for which, on the test images of all tasks."""
        labels = torch.cat([part.labels for part in self.tests])
        return count_pairs(labels.tolist(), torch.cat(list(predicted)).tolist())


def _accuracy(predicted: Tensor, labels: Tensor) -> float:
    return (predicted == labels).double().mean().item()
