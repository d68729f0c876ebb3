"""Seeded images made on the fly, of any number and size: for tests of scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kaizen.compute.seeds import derive_seed
from kaizen.data.sources.base import ALL, PARTS, Looks, Part, Row, Source
from kaizen.files import canonical_json, sha256_text
from kaizen.params import DatasetParams

# The pattern's cells per side: coarse, so that crops still show it.
_CELLS = 4


class Synthetic(Source):
    """Each class has a random pattern of 4 x 4 cells, and each image is the mean of its class's
    pattern and noise.

    An image depends on `dataset.seed`, its part, its label and its number in the class alone, so
    more classes or more images leave those before as they are.
    """

    name = "synthetic"

    def __init__(self, dataset: DatasetParams) -> None:
        """Note the parameters; nothing can fail."""
        self.params = dataset.synthetic
        self.seed = dataset.seed

    @property
    def classes(self) -> list[str]:
        """Numbers of at least four digits: "0000", "0001", …."""
        return [f"{label:04d}" for label in range(self.params.classes)]

    def checksums(self, cache: Path | None) -> dict[Part, list[str]]:
        """The hash of what a class's images are made from."""
        size, channels = self.params.size, self.params.channels
        return {
            part: [
                sha256_text(
                    canonical_json([self.seed, part, label, self._count(part), size, channels])
                )
                for label in range(self.params.classes)
            ]
            for part in PARTS
        }

    def rows(self, part: Part) -> list[Row]:
        """Rows class by class; the path is a name only."""
        count = self._count(part)
        return [
            Row(label * count + number, label, f"{part}/{name}/{number:06d}")
            for label, name in enumerate(self.classes)
            for number in range(count)
        ]

    def train_counts(self) -> dict[tuple[int, int], int]:
        """As many of each class as the parameters say."""
        return {(label, 0): self.params.train for label in range(self.params.classes)}

    def looks(self, most: int, decoded: int) -> Looks:
        """As the parameters say."""
        count = self.params.classes * (self.params.train + self.params.test)
        side = (self.params.size, self.params.size)
        colour = count if self.params.channels == 3 else 0
        return Looks(count, count, side, side, colour, ALL if colour else None)

    def read(self, row: Row) -> np.ndarray:
        """Pixels uint8 [size, size, channels]."""
        size, channels = self.params.size, self.params.channels
        pattern = self._bytes(_CELLS * _CELLS * channels, "pattern", row.label).reshape(
            _CELLS, _CELLS, channels
        )
        cell = np.arange(size) * _CELLS // size
        noise = self._bytes(size * size * channels, "noise", row.path).reshape(size, size, channels)
        mixed: np.ndarray = (pattern[cell[:, None], cell].astype(np.uint16) + noise) >> 1
        return mixed.astype(np.uint8)

    def _count(self, part: Part) -> int:
        return self.params.train if part == "train" else self.params.test

    def _bytes(self, count: int, *path: str | int) -> np.ndarray:
        """Uniform uint8 [count] from raw draws, which NumPy keeps the same in all versions."""
        draws = np.random.PCG64(derive_seed(self.seed, "synthetic", *path)).random_raw(
            -(-count // 8)
        )
        return draws.astype("<u8").view(np.uint8)[:count]
