"""What a source finds in the raw data: what it leaves out, and what is there twice."""

from __future__ import annotations

from dataclasses import dataclass

from kaizen.params.typed import UNSET, Unset


@dataclass(frozen=True)
class Finding:
    """Files of one sort: ``what`` they are, their ``count``, and the path of the ``first``."""

    what: str
    count: int
    first: str


@dataclass(frozen=True)
class LeftOut:
    """What was left out of each part, by reason."""

    train: list[Finding]
    test: list[Finding]


@dataclass(frozen=True)
class Share:
    """The share of each class that is held out for testing, in 0..1, and the seed of the choice."""

    fraction: float
    seed: int

    def text(self) -> str:
        """For people."""
        return f"{100 * self.fraction:g} % of every class, seed {self.seed}"


@dataclass(frozen=True)
class Found:
    """What a source found in its files; not set where it does not look for it.

    ``skipped`` was left out; ``copies`` are there more than once, and their ``first`` is a pair of
    paths; ``held_out`` is set where the dataset has no test part.
    """

    skipped: LeftOut | Unset = UNSET
    copies: list[Finding] | Unset = UNSET
    held_out: Share | Unset = UNSET
