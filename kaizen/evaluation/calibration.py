"""How far a reader's confidence can be believed: test images by confidence, and the expected
calibration error (Guo et al. 2017, arXiv:1706.04599). Their file is `calibration.json`.

Confidence is the largest of the probabilities that a model answers with, the softmax over all its
classes. Imports no torch, so that reports can read the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kaizen.evaluation.recorded import not_recorded_so, read_typed
from kaizen.files import write_json
from kaizen.params.typed import as_json

CALIBRATION_FILE = "calibration.json"
BINS = 15  # of equal width, as in the paper above
_WHAT = "images by confidence"


@dataclass(frozen=True)
class Bins:
    """Per bin of confidence, `BINS` values each: the number of ``images``, how many of them were
    ``right``, and the sum of their ``confidence`` (0..1 each).
    """

    images: list[int]
    right: list[int]
    confidence: list[float]

    @property
    def error(self) -> float | None:
        """The expected calibration error, 0..1: the gap between accuracy and mean confidence of a
        bin, mean over all images; None without images.
        """
        total = sum(self.images)
        gaps = (abs(r - c) for r, c in zip(self.right, self.confidence, strict=True))
        return sum(gaps) / total if total else None


# Of one step: reader -> its bins, on the test images of the tasks seen so far.
StepCalibration = Mapping[str, Bins]


@dataclass(frozen=True)
class _Content:
    steps: list[dict[str, Bins]]


def binned(confidence: np.ndarray, right: np.ndarray) -> Bins:
    """The bins of images with ``confidence`` float64 [N] (0..1) and ``right`` bool [N]."""
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return Bins(
        np.bincount(place, minlength=BINS).tolist(),
        np.bincount(place[right], minlength=BINS).tolist(),
        np.bincount(place, weights=confidence, minlength=BINS).tolist(),
    )


def pooled(every: Sequence[Bins]) -> Bins:
    """The images of several in one; at least one is given."""
    return Bins(
        [sum(column) for column in zip(*(one.images for one in every), strict=True)],
        [sum(column) for column in zip(*(one.right for one in every), strict=True)],
        [sum(column) for column in zip(*(one.confidence for one in every), strict=True)],
    )


def write_calibration(steps: Sequence[StepCalibration], path: Path) -> None:
    """Write the bins of each step and reader as JSON."""
    write_json(path, {"steps": [as_json(step) for step in steps]})


def read_calibration(path: Path) -> tuple[StepCalibration, ...]:
    """The bins per step, as `write_calibration` got them; raises KaizenError where the file holds
    something else.
    """
    steps = read_typed(_Content, path, _WHAT).steps
    if not all(_sound(bins) for step in steps for bins in step.values()):
        raise not_recorded_so(path, _WHAT)
    return tuple(steps)


def _sound(bins: Bins) -> bool:
    if {len(bins.images), len(bins.right), len(bins.confidence)} != {BINS}:
        return False
    rows = zip(bins.images, bins.right, bins.confidence, strict=True)
    return all(0 <= r <= n and 0 <= c <= n * (1 + 1e-9) for n, r, c in rows)
