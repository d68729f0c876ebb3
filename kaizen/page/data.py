"""The rows of the page's figures: as many as the page can hold, with the digits that it shows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kaizen.page.results import Results
from kaizen.report.figures.grid import entries
from kaizen.report.figures.rows import ROWS

Rows = dict[str, Any]

MOST_ROWS = 60_000  # of one figure; about 2 MB
_DIGITS = {
    "seen": ".6f",
    "cells": ".6f",
    "classes": ".6f",
    "confusion": ".6f",
    "losses": ".6g",
    "features": ".6g",
}


def series_entries(results: Results) -> list[dict[str, Any]]:
    """Each series with its names, its look (colour, mark, line) and what its runs were made
    from.
    """
    found = entries(results)
    for one, entry in zip(results.all, found, strict=True):
        made = [(run.point.seed, results.made.get(run.point)) for run in one.runs]
        entry["runs"] = [[seed, m.name, m.evaluation, m.reference] for seed, m in made if m]
    return found


def rows_of_figures(results: Results) -> dict[str, Rows]:
    """The rows of every figure by its name; of one that would be too large a part, with ``note``
    saying what is left out.
    """
    found = {}
    for name, (columns, make) in ROWS.items():
        rows = bounded(columns, lambda keep, make=make: make(results, keep))  # type: ignore[misc]
        if rows["rows"]:
            digits = _DIGITS.get(name, "")
            if "epoch" in rows["columns"]:  # the page counts those of the whole stream
                rows["columns"].remove("epoch")
                rows["rows"] = [row[:-1] for row in rows["rows"]]
            rows["rows"] = [[_short(value, digits) for value in row] for row in rows["rows"]]
            found[name] = rows
    return found


_LEFT_OUT = (
    "",
    "Left out here as there are so many: the single seeds (they are in the CSV files).",
    "Left out here as there are so many: the single seeds, and readers other than the heads; "
    "confusions below 1 % (all are in the CSV files).",
)


def bounded(
    columns: str,
    make: Callable[[int], Iterable[list[Any]]],
    left_out: Sequence[str] = _LEFT_OUT,
) -> Rows:
    """Rows of ``columns``, as many as the bound takes: all, or what ``make`` gives when more and
    more is left out, which ``left_out`` says in words.
    """
    for keep, note in enumerate(left_out):
        rows = list(itertools.islice(make(keep), MOST_ROWS + 1))
        if len(rows) <= MOST_ROWS:
            return {"columns": columns.split(), "rows": rows, "note": note}
    note = f"Only the first {MOST_ROWS} values are here; all are in the CSV files."
    return {"columns": columns.split(), "rows": rows[:MOST_ROWS], "note": note}


def _short(value: Any, digits: str) -> Any:
    """A number with so many digits: figures show one of percent."""
    return float(format(value, digits)) if digits and isinstance(value, float) else value
