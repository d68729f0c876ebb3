"""Scikit-learn's handwritten digits: 1,797 greyscale images of 8 x 8 pixels, 10 classes, without a
download.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
from pathlib import Path

import numpy as np

from kaizen.data.sources.base import PARTS, Looks, Part, Row, Source
from kaizen.data.split import seeded_order
from kaizen.errors import KaizenError
from kaizen.files import sha256_file
from kaizen.params import DatasetParams

_SIDE = 8
_LEVELS = 16
_IMAGES = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)


class Digits(Source):
    """The images of `sklearn.datasets.load_digits`, with a held-out share of every class as the
    test part.
    """

    name = "digits"
    in_memory = True

    def __init__(self, dataset: DatasetParams) -> None:
        """Find the data file; raises KaizenError where scikit-learn is not installed."""
        self.test_fraction = dataset.test_fraction
        self.seed = dataset.seed
        self.file = _data_file()

    @property
    def classes(self) -> list[str]:
        """The digits "0" to "9"."""
        return [str(digit) for digit in range(10)]

    def checksums(self, cache: Path | None) -> dict[Part, list[str]]:
        """The hash of scikit-learn's data file for every class; small enough to need no cache."""
        content = sha256_file(self.file)
        return {part: [content] * len(self.classes) for part in PARTS}

    def rows(self, part: Part) -> list[Row]:
        """Rows class by class; the index is the image's position in `load_digits`.

        Of every class round(n * test_fraction) images are held out, at least one and not all.
        """
        labels = _table(self.file)[1]
        rows: list[Row] = []
        for label in range(len(self.classes)):
            members = np.flatnonzero(labels == label)
            held_out = self._held_out(len(members))
            order = seeded_order(len(members), self.seed, "digits.test", label)
            chosen = order[:held_out] if part == "test" else order[held_out:]
            rows.extend(
                Row(int(i), label, f"{self.file.name}/{i:04d}") for i in members[np.sort(chosen)]
            )
        return rows

    def train_counts(self) -> dict[tuple[int, int], int]:
        """What is not held out of scikit-learn's images, whose numbers by class are known."""
        return {(label, 0): count - self._held_out(count) for label, count in enumerate(_IMAGES)}

    def _held_out(self, count: int) -> int:
        return min(max(1, round(count * self.test_fraction)), count - 1)

    def looks(self, most: int, decoded: int) -> Looks:
        """Grey, as published."""
        return Looks(1797, 1797, (_SIDE, _SIDE), (_SIDE, _SIDE), 0)

    def read(self, row: Row) -> np.ndarray:
        """Pixels uint8 [8, 8, 1]: the values 0..16 scaled to 0..255."""
        pixels: np.ndarray = _table(self.file)[0][row.index]
        return pixels


def _data_file() -> Path:
    """The file inside scikit-learn; found without importing it, which costs seconds."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise KaizenError(
            "dataset.source: digits needs scikit-learn, which is not installed; run "
            "`pip install scikit-learn` or use another dataset.source"
        )
    file = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not file.is_file():
        raise KaizenError(
            f"{file} is missing from scikit-learn; reinstall it, or use another dataset.source"
        )
    return file


@functools.cache
def _table(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [1797, 8, 8, 1] and labels int64 [1797]: each line holds 64 values 0..16 and the
    label.
    """
    try:
        with gzip.open(file, "rt", encoding="ascii") as lines:
            table = np.loadtxt(lines, delimiter=",", dtype=np.float64, ndmin=2)
        values = table[:, :-1].reshape(-1, _SIDE, _SIDE, 1)
    except (OSError, EOFError, ValueError) as error:
        raise KaizenError(f"{file} is damaged ({error}); reinstall scikit-learn") from error
    return np.round(values * (255 / _LEVELS)).astype(np.uint8), table[:, -1].astype(np.int64)
