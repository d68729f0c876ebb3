"""The batches of one step: rows of its tasks, and replay rows after them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from kaizen.compute.seeds import derive_seed
from kaizen.views.batches import Batch, Rows, cycle


@dataclass
class StepData:
    """The rows that a step trains on: b task rows and r replay rows a batch."""

    task: Rows
    batch_size: int
    replay: Rows | None = None
    replay_batch_size: int = 0
    longest_loader: bool = False

    @property
    def rows(self) -> int:
        """Rows of every batch."""
        return self.batch_size + self.replay_batch_size

    def epoch_length(self) -> int:
        """Batches per epoch: the task's, or under the reference's rule the longer of task's and
        replay's.
        """
        length = self.task.count // self.batch_size
        if self.replay is not None and self.longest_loader:
            length = max(length, self.replay.count // self.replay_batch_size)
        return length

    def batches(self, seed: int, start: int, length: int) -> Iterator[Batch]:
        """Batches from ``start`` on, replay rows after the task's (fidelity.md §7)."""
        task = cycle(self.task, self.batch_size, derive_seed(seed, "task"), start, length)
        if self.replay is None:
            yield from task
            return
        replay = cycle(
            self.replay, self.replay_batch_size, derive_seed(seed, "replay"), start, length
        )
        for (images, labels), (old_images, old_labels) in zip(task, replay, strict=True):
            yield torch.cat([images, old_images]), torch.cat([labels, old_labels])
