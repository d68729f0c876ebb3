"""The terms of the loss as the steps of training wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kaizen.plan.point import Point
from kaizen.training.terms import TERMS


@dataclass(frozen=True)
class History:
    """The loss terms of one run: ``steps[step][epoch]`` holds each term's mean over the epoch,
    unweighted.

    A term that a step does not have is 0 in every epoch.
    """

    point: Point
    steps: tuple[tuple[dict[str, float], ...], ...]

    def curve(self, term: str, step: int) -> list[float]:
        """A term's value per epoch of a step; empty where the step does not have the term."""
        values = [epoch[term] for epoch in self.steps[step]]
        return values if any(values) else []


def read_steps(paths: Sequence[Path]) -> tuple[tuple[dict[str, float], ...], ...]:
    """The terms of each step's history.parquet, rows in order of their epoch."""
    import pyarrow.parquet

    tables = [
        pyarrow.parquet.read_table(path, columns=["epoch", *TERMS]).sort_by("epoch")
        for path in paths
    ]
    return tuple(
        tuple({term: row[term] for term in TERMS} for row in table.to_pylist()) for table in tables
    )
