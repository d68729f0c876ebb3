"""Which files are held out for testing where a dataset has no test part of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kaizen.compute.seeds import derive_seed
from kaizen.data.found import Share
from kaizen.data.sources.walk import File


class HeldOut(NamedTuple):
    """The share of every class that is held out, in 0..1, and the seed of the choice."""

    fraction: float
    seed: int

    def split(self, name: str, files: Sequence[File]) -> tuple[list[File], list[File]]:
        """A class's files to train on and those held out, each in the order given.

        round(n * fraction) of n are held out, at least one and not all; of a single file none. The
        choice depends on the seed, the class's name and the files' paths alone, so that a file more
        or less changes it by few.
        """
        if len(files) < 2:
            return list(files), []
        count = min(max(1, round(len(files) * self.fraction)), len(files) - 1)
        paths = sorted((file.path for file in files), key=lambda path: self._place(name, path))
        chosen = set(paths[:count])
        return (
            [file for file in files if file.path not in chosen],
            [file for file in files if file.path in chosen],
        )

    def share(self) -> Share:
        """As `Source.found` has it."""
        return Share(self.fraction, self.seed)

    def _place(self, name: str, path: str) -> tuple[int, str]:
        return derive_seed(self.seed, "held out", name, path), path
