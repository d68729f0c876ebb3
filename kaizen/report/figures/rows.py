"""The results as rows for the figures, print's and the page's: columns by name, small numbers for
what repeats.

``s`` is the position of a series, ``r`` that of a reader, ``e`` a seed (None: the mean over all),
``t`` a step, ``k`` a task; ``v`` is a fraction or a loss, ``i`` half of its 95 % interval, ``n``
the number of seeds. ``keep`` is 0 for all rows, 1 for those without the single seeds, 2 for the
heads' alone, 3 for the trained classifier's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kaizen.evaluation.metrics import METRICS, seen_accuracy
from kaizen.evaluation.results import JOINT, READERS, REFERENCE, Matrix, RunResult
from kaizen.evaluation.statistics import Estimate, estimate
from kaizen.report.classes import shares
from kaizen.report.figures.grid import Grid
from kaizen.report.figures.recorded import error_rows, measure_rows
from kaizen.report.series import HEADLINE, Series
from kaizen.report.winners import difference
from kaizen.training.terms import TERMS

_LEAST_SHARE = 0.01  # of a confusion, where there are too many


def _readers(one: Series, keep: int) -> Iterator[tuple[int, str]]:
    for place, reader in enumerate(READERS):
        if reader in one.readers() and reader in READERS[: (None, None, 4, 1)[keep]]:
            yield place, reader


def _with_seeds(
    grid: Grid, keep: int, of_run: Callable[[Series, int, str], Sequence[Any]]
) -> Iterator[tuple[list[Any], list[tuple[int, Estimate]]]]:
    """For every series and reader the start of a row, and by position the mean of what ``of_run``
    gives of a run; then the same of each seed.
    """
    for s, one in enumerate(grid.all):
        for r, reader in _readers(one, keep):
            each = [of_run(one, number, reader) for number in range(len(one.runs))]
            means = [estimate(list(values)) for values in zip(*each, strict=True)]
            yield [s, r, None], list(enumerate(means))
            if keep or len(grid.seeds) == 1 or one.method == REFERENCE:
                continue
            for run, values in zip(one.runs, each, strict=True):
                yield [s, r, run.point.seed], [(x, estimate([v])) for x, v in enumerate(values)]


def _metrics(grid: Grid, keep: int) -> Iterator[list[Any]]:
    def of_run(one: Series, number: int, reader: str) -> Sequence[float | None]:
        return [one.metrics[number][reader][metric] for metric in METRICS]

    for start, values in _with_seeds(grid, keep, of_run):
        yield from ([*start, x, e.mean, e.interval, e.n] for x, e in values if e.n)


def _seen(grid: Grid, keep: int) -> Iterator[list[Any]]:
    def of_run(one: Series, number: int, reader: str) -> Sequence[float | None]:
        return seen_accuracy(one.runs[number].matrices[reader])

    for start, values in _with_seeds(grid, keep, of_run):
        yield from ([*start, t, e.mean, e.interval, e.n] for t, e in values if e.n)


def _cells(grid: Grid, keep: int) -> Iterator[list[Any]]:
    """The accuracies on the tasks seen so far; not those on tasks to come."""
    tasks = grid.series[0].runs[0].tasks
    places = [(t, k) for t in range(tasks) for k in range(t + 1)]

    def of_run(one: Series, number: int, reader: str) -> Sequence[float | None]:
        matrix: Matrix = one.runs[number].matrices[reader]
        return [matrix[t][k] for t, k in places]

    for start, values in _with_seeds(grid, keep, of_run):
        yield from ([*start, *places[x], e.mean, e.interval, e.n] for x, e in values if e.n)


def _differences(grid: Grid, keep: int) -> Iterator[list[Any]]:
    for a, b in pairs(grid.series):
        one, other = grid.series[a], grid.series[b]
        for r, reader in _readers(one, keep):
            if reader in other.readers():
                for x, metric in enumerate(METRICS):
                    d = difference(one, other, reader, metric)
                    if d.n and metric in HEADLINE:
                        yield [a, b, r, x, d.mean, d.interval, d.n, d.better]


def pairs(series: Sequence[Series]) -> list[tuple[int, int]]:
    """The positions of the series that are compared: Kaizen's with the others of its method; each
    with each where there is no Kaizen.
    """
    places = range(len(series))
    same = [
        (a, b) for a in places for b in places if a != b and series[a].method == series[b].method
    ]
    found = [(a, b) for a, b in same if series[a].variant == "kaizen" != series[b].variant]
    return found or [(a, b) for a, b in same if a < b]


def _classes(grid: Grid, keep: int) -> Iterator[list[Any]]:
    """The classifier's accuracy on each class after the last step."""
    for s, one in enumerate(grid.series):
        each = [_of_classes(run, grid) for run in one.runs]
        if not all(each):
            continue
        for label in grid.first:
            values = [of_run.get(label) for of_run in each]
            if any(value is not None for value in values):
                yield [s, None, label, *_of(estimate(values))]
            if not keep and len(grid.seeds) > 1:
                for run, value in zip(one.runs, values, strict=True):
                    if value is not None:
                        yield [s, run.point.seed, label, *_of(estimate([value]))]


def _of_classes(run: RunResult, grid: Grid) -> dict[int, float]:
    if not run.confusion:
        return {}
    images: dict[int, int] = {}
    for (label, _), count in run.confusion[-1].items():
        images[label] = images.get(label, 0) + count
    last = run.confusion[-1]
    return {label: last.get((label, label), 0) / count for label, count in images.items() if count}


def _confusion(grid: Grid, keep: int) -> Iterator[list[Any]]:
    """What each class is taken for after the last step, mean over seeds; without what never
    occurs.
    """
    import numpy as np

    for s, one in enumerate(grid.series):
        if not all(run.confusion for run in one.runs):
            continue
        first = list(grid.first)
        others = {label for run in one.runs for pair in run.confusion[-1] for label in pair}
        order = [*first, *sorted(others - {*first})]
        mean = np.mean([shares(run.confusion[-1], order) for run in one.runs], axis=0)
        least = _LEAST_SHARE if keep > 1 else 0.0
        for true, predicted in np.argwhere(mean > least).tolist():
            share = float(mean[true, predicted])
            yield [s, order[true], order[predicted], share, len(one.runs)]


def _losses(grid: Grid, keep: int) -> Iterator[list[Any]]:
    """The terms of one seed of each series, by the epoch of the whole stream; of long trainings
    some epochs.
    """
    stride = (1, 5, 20, 20)[keep]
    seen = set()
    places = {one.identity: s for s, one in enumerate(grid.series)}
    for history in grid.histories:
        s = places.get(history.point.series)
        if s is None or s in seen or history.point.variant == JOINT:
            continue
        seen.add(s)
        at = 0
        for t, epochs in enumerate(history.steps):
            for place, term in enumerate(TERMS):
                curve = history.curve(term, t)
                for epoch in range(0, len(curve), stride):
                    value = curve[epoch]
                    yield [s, history.point.seed, t, at + epoch, place, value, epoch]
            at += len(epochs)


def _of(found: Estimate) -> tuple[float | None, float | None, int]:
    return found.mean, found.interval, found.n


# By the name of the rows: their columns, and what makes them.
ROWS: dict[str, tuple[str, Callable[[Grid, int], Iterator[list[Any]]]]] = {
    "metrics": ("s r e x v i n", _metrics),
    "seen": ("s r e t v i n", _seen),
    "cells": ("s r e t k v i n", _cells),
    "differences": ("s o r x v i n better", _differences),
    "classes": ("s e c v i n", _classes),
    "confusion": ("s c p v n", _confusion),
    "losses": ("s e t at term v epoch", _losses),
    "calibration": ("s r e t v i n", error_rows),
    "features": ("s e t m v i n", measure_rows),
}
