"""What a replay policy sees and answers, and the division of a memory's size over tasks and
classes.

A policy is a function ``choose(stream, size)``, named in `kaizen.params.registry.REPLAY_POLICIES`.
It must keep memories nested: what it holds after task k + 1 was held after task k or belongs to
task k + 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from kaizen.data.schema import UNLABELLED
from kaizen.errors import KaizenError

Features = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Size:
    """How large a memory is: ``amount`` is a share of the rows (proportion), or images per class or
    in all (memory).

    Raises KaizenError where the amount cannot be.
    """

    unit: str
    amount: float

    def __post_init__(self) -> None:
        """Check unit and amount."""
        if self.unit not in ("proportion", "per_class", "memory"):
            raise KaizenError(
                f"replay.{self.unit} is not a size; give replay.proportion, per_class or memory"
            )
        if self.unit == "proportion" and not 0 <= self.amount <= 1:
            raise KaizenError(f"replay.proportion: {self.amount} must be a share between 0 and 1")
        if self.unit != "proportion" and (self.amount < 0 or self.amount != int(self.amount)):
            raise KaizenError(
                f"replay.{self.unit}: {self.amount} must be a whole number from 0 upwards"
            )

    def share(self, rows: int) -> int:
        """The proportion of so many rows, rounded down."""
        # The guard keeps 0.29 * 100 = 28.999999999999996 from becoming 28.
        return math.floor(rows * self.amount + 1e-9)

    def of_stream(self, rows: int, classes: int) -> int:
        """Images in all, for a stream of so many rows and distinct classes."""
        if self.unit == "proportion":
            return self.share(rows)
        return int(self.amount) * (classes if self.unit == "per_class" else 1)


@dataclass(frozen=True)
class Task:
    """An earlier task as its shard describes it: its classes, in its order, and labels int [N], -1
    where absent.
    """

    number: int
    classes: tuple[int, ...]
    labels: np.ndarray


def no_features(task: int) -> np.ndarray:
    """Stand for the features of a node that has no models to compute them with; raises
    KaizenError.
    """
    raise KaizenError(
        "replay.policy: this policy looks at features, but the node names no steps; plan again"
    )


@dataclass(frozen=True)
class ReplayStream:
    """All that a policy may look at: the tasks so far, in order, the seed, and the rows' features.

    ``features(task)`` gives float32 [N, F], row by row those of the model right after that task was
    learnt. Of the tasks in ``kept`` nothing is known but what the memory before held, in the order
    that the policy chose it in: int64 rows.
    """

    tasks: tuple[Task, ...]
    seed: int = 0
    features: Features = no_features
    kept: Mapping[int, np.ndarray] = field(default_factory=dict)
    # Whether a later memory will go on from this one, and so needs the order of all that it holds.
    growing: bool = False


class Policy(Protocol):
    """Chooses the rows that a memory holds after the tasks of a stream."""

    def __call__(self, stream: ReplayStream, size: Size) -> list[np.ndarray]:
        """For each task the rows of its shard that are kept: int64, each at most once, within a
        class in the order in which they are given up last.
        """


@dataclass(frozen=True)
class ClassRows:
    """The rows of one class in one task, or (label -1) a task's unlabelled rows: int64 positions,
    ascending.
    """

    task: int
    label: int
    rows: np.ndarray


def choose_by_group(
    stream: ReplayStream, size: Size, pick: Callable[[ClassRows, int], np.ndarray]
) -> list[np.ndarray]:
    """Choose class by class in each task, ``pick(group, count)`` giving ``count`` of a group's
    rows.

    Of a class with m labelled rows int(m * proportion) are kept, or images per class divided by the
    number of tasks that have the class, or (memory // tasks) // classes of the task (fidelity.md
    §7), each at most m. Unlabelled rows are one further group per task, as their class is not
    known: a proportion of them, or what the task's classes left of its part. Memories are nested if
    a smaller pick is part of a larger one.
    """
    holders = Counter(label for task in stream.tasks for label in task.classes)
    chosen = []
    for task in stream.tasks:
        kept = [np.empty(0, dtype=np.int64)]
        left = 0
        for label in (*task.classes, UNLABELLED):
            rows = np.flatnonzero(task.labels == label)
            if size.unit == "proportion":
                count = size.share(len(rows))
            elif label == UNLABELLED:
                count = min(left, len(rows))
            else:
                parts = (
                    (holders[label],)
                    if size.unit == "per_class"
                    else (len(stream.tasks), len(task.classes))
                )
                quota = int(size.amount) // math.prod(parts)
                count = min(quota, len(rows))
                left += quota - count
            if count:
                kept.append(pick(ClassRows(task.number, label, rows), count))
        chosen.append(np.concatenate(kept))
    return chosen
