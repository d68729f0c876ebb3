"""What a data source offers to the plan (classes, domains, checksums) and to ingestion (rows, their
content).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from kaizen.data.found import Found
from kaizen.errors import names_text as names_text

Part = Literal["train", "test"]
PARTS: tuple[Part, ...] = ("train", "test")
# In `Looks.coloured`: it is known of the dataset that its images are in colour.
ALL = "all of them"
# An image's path, height and width.
Sized = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Row:
    """One image: its position in the dataset's part, its true label (-1: unknown), its path
    relative to the dataset, and its domain's position in `Source.domains` (0 where there are none).
    """

    index: int
    label: int
    path: str
    domain: int = 0


@dataclass(frozen=True, slots=True)
class Looks:
    """What a dataset's images look like before they are ingested.

    ``images`` of them in both parts, of which ``seen`` were looked at: the smallest and largest
    height and width, how many are stored in colour, and one that has colour indeed, or `ALL` (None:
    none of them). ``mean`` and ``std`` per channel of those that were decoded, in 0..1.
    """

    images: int
    seen: int
    height: tuple[int, int]
    width: tuple[int, int]
    colour: int
    coloured: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    # Two images of different sizes, (path, height, width) each; None where all seen have one size.
    unlike: tuple[Sized, Sized] | None = None


class Source(ABC):
    """A dataset with a train and a test part. It is pickled to worker processes, so it must be
    small then.
    """

    name: str
    # All its pixels are in memory once the first is read: worker processes would only copy them.
    in_memory = False

    @property
    @abstractmethod
    def classes(self) -> list[str]:
        """Class names in label order."""

    @property
    def domains(self) -> list[str]:
        """Domain names in the source's order; none where the dataset is not divided into
        domains.
        """
        return []

    @abstractmethod
    def checksums(self, cache: Path | None) -> dict[Part, list[str]]:
        """For each part one SHA-256 per class over its content.

        It depends neither on modification times nor on where the data lies. ``cache`` is a folder
        that remembers checksums by the files' paths, sizes and times of modification and change.
        """

    def domain_checksums(self, cache: Path | None) -> dict[Part, list[str]]:
        """For each part one SHA-256 per domain over its content; ``cache`` as in `checksums`."""
        return {part: [] for part in PARTS}

    def unlabelled_checksum(self, cache: Path | None) -> str | None:
        """SHA-256 over the content of the training images without a class, where the dataset itself
        says which these are and not the parameters; None where there are none. ``cache`` as in
        `checksums`.
        """
        return None

    def train_counts(self) -> dict[tuple[int, int], int]:
        """How many training images each (label, domain) has; empty where that would need the data
        read.
        """
        return {}

    def found(self, cache: Path | None) -> Found:
        """What a person should know of the data.

        ``cache`` as in `checksums`. Raises KaizenError where that cannot be meant.
        """
        return Found()

    def looks(self, most: int, decoded: int) -> Looks | None:
        """What the images look like, from at most ``most`` of them, of which at most ``decoded``
        are decoded; None: that is not known before they are read.
        """
        return None

    @abstractmethod
    def rows(self, part: Part) -> list[Row]:
        """All images of a part in dataset order: class by class in label order, in the source's
        order within.

        Images without a class come last.
        """

    @abstractmethod
    def read(self, row: Row) -> bytes | np.ndarray:
        """A row's image: the bytes of its file, or pixels uint8 [H, W, C]; called in worker
        processes.
        """
