"""Which test images stand for the pairs of classes that are most often confused: `mistaken.json`.

The file names rows of shards and holds no image. Imports no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kaizen.data.schema import UNLABELLED
from kaizen.evaluation.recorded import ShownImages, not_recorded_so, read_typed
from kaizen.files import write_json
from kaizen.params.typed import as_json

MISTAKEN_FILE = "mistaken.json"
MOST_PAIRS = 12
MOST_IMAGES = 4  # of a pair
_WHAT = "the most confused pairs of classes"


@dataclass(frozen=True)
class MistakenImage:
    """A row of a task's test shard, and the confidence (0..1) with which it was mistaken."""

    task: int
    row: int
    confidence: float


@dataclass(frozen=True)
class MistakenPair:
    """``count`` images of the class ``label`` were taken for ``predicted``; ``images`` are those of
    the highest confidence.
    """

    label: int
    predicted: int
    count: int
    images: list[MistakenImage]


@dataclass(frozen=True)
class _Content:
    pairs: list[MistakenPair]


def most_mistaken(
    images: ShownImages, predicted: np.ndarray, confidence: np.ndarray
) -> list[MistakenPair]:
    """The pairs that are confused most often, by the number of images, then by label; ``predicted``
    int64 [N], ``confidence`` float64 [N].
    """
    wrong = np.flatnonzero((images.label != predicted) & (images.label != UNLABELLED))
    pairs = list(zip(images.label[wrong].tolist(), predicted[wrong].tolist(), strict=True))
    counts = Counter(pairs)
    chosen = sorted(counts, key=lambda pair: (-counts[pair], pair))[:MOST_PAIRS]
    of_pair: dict[tuple[int, int], list[int]] = {pair: [] for pair in chosen}
    for place, pair in zip(wrong.tolist(), pairs, strict=True):
        if pair in of_pair:
            of_pair[pair].append(place)
    found = []
    for pair, places in of_pair.items():
        shown = sorted(places, key=lambda place: (-confidence[place], place))[:MOST_IMAGES]
        rows = [
            MistakenImage(int(images.task[p]), int(images.row[p]), round(float(confidence[p]), 6))
            for p in shown
        ]
        found.append(MistakenPair(*pair, counts[pair], rows))
    return found


def write_mistaken(pairs: Sequence[MistakenPair], path: Path) -> None:
    """Write the pairs as JSON."""
    write_json(path, {"pairs": as_json(list(pairs))})


def read_mistaken(path: Path) -> list[MistakenPair]:
    """The pairs, as `write_mistaken` got them; raises KaizenError where the file holds something
    else.
    """
    pairs = read_typed(_Content, path, _WHAT).pairs
    if len(pairs) > MOST_PAIRS or not all(_sound(pair) for pair in pairs):
        raise not_recorded_so(path, _WHAT)
    return pairs


def _sound(pair: MistakenPair) -> bool:
    numbers = [pair.label, pair.predicted, *(n for i in pair.images for n in (i.task, i.row))]
    return (
        0 < len(pair.images) <= min(MOST_IMAGES, pair.count)
        and min(numbers) >= 0
        and all(0 <= image.confidence <= 1 for image in pair.images)
    )
