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
from kaizen.evaluation.confusion import count_pairs, write_confusion
from kaizen.evaluation.features import StepModels
from kaizen.evaluation.head_files import StepHeads, read_heads
from kaizen.evaluation.readers import fit_probe, nearest_neighbours
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
    for a task without; and ``confusion.parquet``, the classifier's.
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

    def readers(self) -> dict[str, Reader]:
        """The ways to read classes; those that learn from features only where there is a label."""
        found: dict[str, Reader] = {"classifier": lambda _, logits: self.model.predicted(logits)}
        if HEAD in self.inputs:
            heads = read_heads(self.store.open_file(self.inputs[HEAD], head_file(self.step)))
            for kind in heads.readers():
                found[kind] = self._head(heads, kind)
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
        path = self.store.open_file(shards_of(self.inputs, task), shard_file(task, "test"))
        true: list[Tensor] = []
        predicted: dict[str, list[Tensor]] = {name: [] for name in readers}
        for features, logits, labels in self._features(path):
            true.append(labels)
            for name, read in readers.items():
                predicted[name].append(read(features, logits).cpu())
        empty = torch.zeros(0, dtype=torch.int64)
        joined = {name: torch.cat([empty, *parts]) for name, parts in predicted.items()}
        return torch.cat([empty, *true]), joined

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
