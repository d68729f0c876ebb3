"""The `evaluation` node of a stream that grows: one row of the accuracy matrices, of one step.

Shards are read one row group at a time, so that memory does not grow with the number of tasks: only
the features that probe and kNN learn from are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kaizen.compute.device import choose_compute
from kaizen.data.names import (
    ACCURACY_FILE,
    CONFUSION_FILE,
    MEMORY_FILE,
    REPLAY_FILE,
    head_file,
    shard_file,
)
from kaizen.data.replay.memory import read_memory
from kaizen.data.schema import UNLABELLED
from kaizen.data.shards import shard_info
from kaizen.errors import KaizenError
from kaizen.evaluation.calibration import CALIBRATION_FILE, binned, write_calibration
from kaizen.evaluation.confidence import confidences, head_scores, principal_components
from kaizen.evaluation.confusion import count_pairs, write_confusion
from kaizen.evaluation.features import StepModels
from kaizen.evaluation.head_files import StepHeads, read_heads
from kaizen.evaluation.kept import FEATURES_FILE, KeptFeatures, kept_rows, write_features
from kaizen.evaluation.mistaken import MISTAKEN_FILE, most_mistaken, write_mistaken
from kaizen.evaluation.readers import fit_probe, nearest_neighbours
from kaizen.evaluation.recorded import ShownImages
from kaizen.evaluation.results import ALWAYS_READ
from kaizen.files import write_json
from kaizen.models.feature_classifier import FeatureClassifier
from kaizen.plan.job import Job
from kaizen.plan.roles import HEAD, REPLAY, shards_of, step_role
from kaizen.plan.specs import EvaluationSpec
from kaizen.store.made import Made
from kaizen.store.store import Store
from kaizen.training.reporter import Reporter
from kaizen.views.decode import load_row_groups, selected_labels, stratified_rows

# From features float32 [N, F] and logits float32 [N, L] to classes int64 [N].
Reader = Callable[[Tensor, Tensor], Tensor]


def run_row(job: Job[EvaluationSpec], store: Store, building: Path, reporter: Reporter) -> Made:
    """Write ``accuracy.json``: per reader the accuracy on the test images of each task so far, None
    for a task without; and the other files of `kaizen.evaluation.run.run_evaluation`, of this step.
    """
    row = _Row(job, store)
    readers = row.readers()
    all_readers = (*ALWAYS_READ, *(job.spec.heads or ()))
    accuracies: dict[str, list[float | None]] = {reader: [] for reader in all_readers}
    labels, taken_for = list[int](), list[int]()
    tasks = range(row.step + 1)
    for task in tasks:
        true, predicted = row.test(task, readers)
        for reader in all_readers:
            known = len(true) and reader in predicted
            right = (predicted[reader] == true).double().mean().item() if known else None
            accuracies[reader].append(right)
        if len(true):
            labels += true.tolist()
            taken_for += predicted["classifier"].tolist()
        reporter.amount(task + 1, len(tasks), "tasks evaluated")
    write_confusion([count_pairs(labels, taken_for)], building / CONFUSION_FILE)
    row.write_besides(np.array(taken_for, dtype=np.int64), building)
    write_json(building / ACCURACY_FILE, {"row": accuracies})
    return Made(row.compute.describe())


class _Row:
    """One model, and the shards that it is measured on."""

    def __init__(self, job: Job[EvaluationSpec], store: Store) -> None:
        """Load the model of the row's step; raises KaizenError where it is none."""
        self.spec, self.inputs, self.store = job.spec, job.inputs, store
        if job.spec.step is None:
            raise KaizenError(f"{job.title}: it names no step; plan again")
        self.step = job.spec.step
        wanted = job.spec.compute
        self.compute = choose_compute(wanted.device, wanted.precision, wanted.threads)
        batch = job.spec.evaluation.batch_size
        crop = job.spec.test_crop
        self.models = StepModels(job.inputs, store, self.compute, batch, crop)
        self.model: FeatureClassifier = self.models.load(step_role(self.step))
        self.heads: StepHeads | None = None
        if HEAD in self.inputs:
            self.heads = read_heads(store.open_file(self.inputs[HEAD], head_file(self.step)))
        tests = [selected_labels(self._test_file(task)) for task in range(self.step + 1)]
        self.images = ShownImages.of(tests)
        self.kept_rows = kept_rows(self.images)
        # What is known of the test images that were read so far.
        self._read = 0
        self._kept: list[Tensor] = []
        self._sure: dict[str, list[np.ndarray]] = {}
        self._right: dict[str, list[np.ndarray]] = {}

    def readers(self) -> dict[str, Reader]:
        """The ways to read classes; those that learn from features only where there is a label."""
        found: dict[str, Reader] = {"classifier": lambda _, logits: self.model.predicted(logits)}
        if self.heads is not None:
            for kind in self.heads.readers():
                found[kind] = self._head(self.heads, kind)
        features, labels = self._bank()
        if len(labels):
            params, classes = self.spec.evaluation, self.spec.num_classes
            probe = fit_probe(features, labels, params)
            found["linear_probe_seen"] = lambda test, _: probe.predict(test)
            found["knn"] = lambda test, _: nearest_neighbours(
                features, labels, test, classes, params
            )
        return found

    def test(self, task: int, readers: dict[str, Reader]) -> tuple[Tensor, dict[str, Tensor]]:
        """The labels of a task's test images, int64 [M], and what each reader takes them for."""
        true: list[Tensor] = []
        predicted: dict[str, list[Tensor]] = {name: [] for name in readers}
        for features, logits, labels in self._features(self._test_file(task)):
            true.append(labels)
            for name, read in readers.items():
                predicted[name].append(read(features, logits).cpu())
            last = {name: parts[-1] == labels for name, parts in predicted.items()}
            self._remember(features, logits, last)
        empty = torch.zeros(0, dtype=torch.int64)
        joined = {name: torch.cat([empty, *parts]) for name, parts in predicted.items()}
        return torch.cat([empty, *true]), joined

    def _test_file(self, task: int) -> Path:
        return self.store.open_file(shards_of(self.inputs, task), shard_file(task, "test"))

    def _remember(self, features: Tensor, logits: Tensor, right: dict[str, Tensor]) -> None:
        """Of test images that were read, confidences and the features of those that are kept."""
        low, high = np.searchsorted(self.kept_rows, (self._read, self._read + len(features)))
        rows = torch.from_numpy(self.kept_rows[low:high] - self._read)
        self._kept.append(features[rows.to(features.device)])
        self._read += len(features)
        sure = {"classifier": confidences(logits)}
        if self.heads is not None:
            for kind in self.heads.readers():
                sure[kind] = confidences(head_scores(self.heads, kind, features))
        for name, values in sure.items():
            self._sure.setdefault(name, []).append(values)
            self._right.setdefault(name, []).append(right[name].numpy())

    def write_besides(self, taken_for: np.ndarray, building: Path) -> None:
        """Write what is recorded besides accuracies, after all test images were read;
        ``taken_for`` int64 [M] is what the classifier took them for.
        """
        sure = {name: np.concatenate(parts) for name, parts in self._sure.items()}
        right = {name: np.concatenate(parts) for name, parts in self._right.items()}
        bins = {name: binned(values, right[name]) for name, values in sure.items()}
        write_calibration([bins], building / CALIBRATION_FILE)
        images = self.images.at(self.kept_rows)
        components = principal_components(torch.cat(self._kept or [torch.zeros(0, 0)]))
        write_features([(self.step, KeptFeatures(images, components))], building / FEATURES_FILE)
        pairs = most_mistaken(self.images, taken_for, sure.get("classifier", np.zeros(0)))
        write_mistaken(pairs, building / MISTAKEN_FILE)

    def _head(self, heads: StepHeads, kind: str) -> Reader:
        return lambda features, _: heads.predict(kind, features)

    def _bank(self) -> tuple[Tensor, Tensor]:
        """Features float32 [N, F] and labels int64 [N] of the labelled images that probe and kNN
        learn from.
        """
        features, labels = [], []
        for path, chosen in self._bank_files():
            start = 0
            for found, _, known in self._features(path):
                keep = known != UNLABELLED
                keep &= torch.from_numpy(np.isin(np.arange(start, start + len(known)), chosen))
                start += len(known)
                features.append(found[keep.to(found.device)])
                labels.append(known[keep].to(found.device))
        if not labels:
            return torch.zeros(0), torch.zeros(0, dtype=torch.int64)
        return torch.cat(features), torch.cat(labels)

    def _bank_files(self) -> Iterator[tuple[Path, np.ndarray]]:
        """The shards of the bank, each with the rows that are learnt from, int64, ascending."""
        bank = [task for task in range(self.step + 1) if task not in (self.spec.absent or [])]
        for task in bank:
            path = self.store.open_file(shards_of(self.inputs, task), shard_file(task, "train"))
            labels = selected_labels(path)
            yield path, stratified_rows(labels, self.spec.evaluation.probe_fraction)
        if REPLAY in self.inputs:
            path = self.store.open_file(self.inputs[REPLAY], REPLAY_FILE)
            memory = read_memory(self.store.open_file(self.inputs[REPLAY], MEMORY_FILE))
            # Images of the tasks above are there already.
            of_task = np.repeat([old.task.number for old in memory], [len(o.rows) for o in memory])
            yield path, np.flatnonzero(~np.isin(of_task, bank))

    @torch.no_grad()
    def _features(self, path: Path) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Features, logits and labels of a shard, row group by row group."""
        for group in range(len(shard_info(path).row_groups)):
            images, labels = load_row_groups(path, self.models.image, 1.0, [group])
            features, logits = self.models.features(self.model, torch.from_numpy(images))
            yield features, logits, torch.from_numpy(labels)
