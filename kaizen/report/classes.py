"""The classes of a stream, and the classifier's accuracy and confusion by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kaizen.evaluation.confusion import Counts
from kaizen.report.series import Series
from kaizen.report.tables import Row

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Classes:
    """``names`` by label, and the labels of each task in the stream's order."""

    names: tuple[str, ...]
    tasks: tuple[tuple[int, ...], ...]

    def first_task(self) -> dict[int, int]:
        """Label -> the task that brings it first; labels in the stream's order."""
        first: dict[int, int] = {}
        for task, labels in enumerate(self.tasks):
            for label in labels:
                first.setdefault(label, task)
        return first


def per_class_rows(series: Sequence[Series], classes: Classes) -> list[Row]:
    """One row per series, seed, step and class with test images: the classifier's accuracy (0..1)
    on them.

    ``task`` is the task that brings the class first.
    """
    return [
        {
            **one.columns(), "seed": run.point.seed, "step": step, "task": task,
            "label": label, "class": classes.names[label],
            "accuracy": counts.get((label, label), 0) / images[label],
        }
        for one in series
        for run in one.runs
        for step, counts in enumerate(run.confusion)
        for images in [_images(counts)]
        for label, task in classes.first_task().items()
        if images[label]
    ]  # fmt: skip


def shares(counts: Counts, order: Sequence[int]) -> np.ndarray:
    """Row-normalised confusion of the labels ``order``, which holds all of ``counts``: float64
    [K, K], rows true; NaN where no image has the class.
    """
    import numpy as np

    place = {label: rank for rank, label in enumerate(order)}
    images = _images(counts)
    matrix = np.array([[0.0 if images[label] else np.nan] * len(order) for label in order])
    for (label, predicted), count in counts.items():
        matrix[place[label], place[predicted]] = count / images[label]
    return matrix


def _images(counts: Counts) -> Counter[int]:
    """Label -> number of test images."""
    images: Counter[int] = Counter()
    for (label, _), count in counts.items():
        images[label] += count
    return images
