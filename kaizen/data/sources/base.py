"""What a data source offers to the plan (classes, checksums) and to ingestion (rows, their content)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from kaizen.files import canonical_json, sha256_text

Part = Literal["train", "test"]
PARTS: tuple[Part, ...] = ("train", "test")


@dataclass(frozen=True, slots=True)
class Row:
    """One image: its position in the dataset's part, its true label, and its path relative to the dataset."""

    index: int
    label: int
    path: str


class Source(Protocol):
    """A dataset with a train and a test part. It is pickled to worker processes, so it must be small then."""

    name: str

    @property
    def classes(self) -> list[str]:
        """Class names in label order."""
        ...

    def checksums(self, cache: Path | None) -> dict[Part, list[str]]:
        """For each part one SHA-256 per class over its content.

        It depends neither on modification times nor on where the data lies. ``cache`` is a folder that
        remembers checksums by the files' paths, sizes and modification times.
        """
        ...

    def checksum(self, cache: Path | None) -> str:
        """SHA-256 over classes and content of the whole dataset; ``cache`` as in `checksums`."""
        ...

    def rows(self, part: Part) -> list[Row]:
        """All images of a part in dataset order: class by class in label order, in the source's order within."""
        ...

    def read(self, row: Row) -> bytes | np.ndarray:
        """A row's image: the bytes of its file, or pixels uint8 [H, W, C]; called in worker processes."""
        ...


def dataset_checksum(classes: Sequence[str], checksums: dict[Part, list[str]]) -> str:
    """One checksum of a dataset from those of its classes."""
    return sha256_text(canonical_json({"classes": list(classes), "parts": checksums}))
