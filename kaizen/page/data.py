"""The results as rows for the page's figures: columns by name, small numbers for what repeats.

``s`` is the position of a series, ``r`` that of a reader, ``e`` a seed (null: the mean over all);
``v`` is a fraction or a loss, ``i`` half of its 95 % interval, ``n`` the number of seeds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kaizen.evaluation.metrics import METRICS, seen_accuracy
from kaizen.evaluation.results import JOINT, READERS, REFERENCE, Matrix, RunResult
from kaizen.evaluation.statistics import Estimate, estimate
from kaizen.page.results import Results
from kaizen.report.classes import shares
from kaizen.report.differences import difference
from kaizen.report.reference_rows import LABELS, STEP_0
from kaizen.report.series import HEADLINE, Series, method_label
from kaizen.training.terms import TERMS

Rows = dict[str, Any]

MOST_ROWS = 60_000  # of one figure; about 2 MB
_LEAST_SHARE = 0.01  # of a confusion, where there are too many
_SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "triangle-right")
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [4, 2, 1, 2])
_REFERENCE_DASHES = {"chance": [1, 3], "lda_pixels": [5, 4], "lda_random_network": [6, 3, 1, 3]}


def series_entries(results: Results) -> list[dict[str, Any]]:
    """Each series with its names, its look (colour, mark, line) and what its runs were made
    from.
    """
    looks = {key: rank for rank, key in enumerate(dict.fromkeys(s.key for s in results.series))}
    return [_entry(one, looks.get(one.key, 0), results) for one in results.all]


def _entry(one: Series, rank: int, results: Results) -> dict[str, Any]:
    reference = one.method == REFERENCE
    dash = _REFERENCE_DASHES.get(one.key, [12, 3]) if reference else _DASHES[rank % len(_DASHES)]
    made = [(run.point.seed, results.made.get(run.point)) for run in one.runs]
    return {
        "m": one.method,
        "method": method_label(one.method),
        "k": one.key,
        "label": one.label,
        "colour": one.colour,
        "shape": "cross" if reference else _SHAPES[rank % len(_SHAPES)],
        "dash": dash,
        "ref": _reference_kind(one) if reference else None,
        "of": one.key.removeprefix(f"{STEP_0}_") if one.key.startswith(STEP_0) else None,
        "size": None if one.replay_size is None else float(one.replay_size),
        "unit": one.replay_unit,
        "variant": one.variant,
        "joint": one.variant == JOINT,
        "runs": [[seed, m.name, m.evaluation, m.reference] for seed, m in made if m],
    }


def _reference_kind(one: Series) -> str:
    return LABELS[STEP_0] if one.key.startswith(STEP_0) else LABELS.get(one.key, one.label)


def rows_of_figures(results: Results) -> dict[str, Rows]:
    """The rows of every figure by its name; of one that would be too large a part, with ``note``
    saying what is left out.
    """
    found = {
        "metrics": _bounded("s r e x v i n", lambda keep: _metrics(results, keep)),
        "seen": _bounded("s r e t v i n", lambda keep: _seen(results, keep)),
        "cells": _bounded("s r e t k v i n", lambda keep: _cells(results, keep)),
        "differences": _bounded("s o r x v i n better", lambda keep: _differences(results, keep)),
        "classes": _bounded("s e c v i n", lambda keep: _classes(results, keep)),
        "confusion": _bounded("s c p v n", lambda keep: _confusion(results, keep)),
        "losses": _bounded("s e t at term v", lambda keep: _losses(results, keep)),
    }
    return {name: rows for name, rows in found.items() if rows["rows"]}


_LEFT_OUT = (
    "",
    "Left out here as there are so many: the single seeds (they are in the CSV files).",
    "Left out here as there are so many: the single seeds, and readers other than the heads; "
    "confusions below 1 % (all are in the CSV files).",
)


def _bounded(columns: str, make: Callable[[int], Iterator[list[Any]]]) -> Rows:
    """Rows of ``columns``, as many as the bound takes: with the seeds, without, or the heads'
    alone.
    """
    for keep, note in enumerate(_LEFT_OUT):
        rows = list(itertools.islice(make(keep), MOST_ROWS + 1))
        if len(rows) <= MOST_ROWS:
            return {"columns": columns.split(), "rows": rows, "note": note}
    note = f"Only the first {MOST_ROWS} values are here; all are in the CSV files."
    return {"columns": columns.split(), "rows": rows[:MOST_ROWS], "note": note}


def _readers(one: Series, keep: int) -> Iterator[tuple[int, str]]:
    for place, reader in enumerate(READERS):
        if reader in one.readers() and (keep < 2 or reader in READERS[:4]):
            yield place, reader


def _with_seeds(
    results: Results, keep: int, of_run: Callable[[Series, int, str], Sequence[Any]]
) -> Iterator[tuple[list[Any], list[tuple[int, Estimate]]]]:
    """For every series and reader the start of a row, and by position the mean of what ``of_run``
    gives of a run; then the same of each seed.
    """
    for s, one in enumerate(results.all):
        for r, reader in _readers(one, keep):
            each = [of_run(one, number, reader) for number in range(len(one.runs))]
            means = [estimate(list(values)) for values in zip(*each, strict=True)]
            yield [s, r, None], list(enumerate(means))
            if keep or len(results.seeds) == 1 or one.method == REFERENCE:
                continue
            for run, values in zip(one.runs, each, strict=True):
                yield [s, r, run.point.seed], [(x, estimate([v])) for x, v in enumerate(values)]


def _metrics(results: Results, keep: int) -> Iterator[list[Any]]:
    def of_run(one: Series, number: int, reader: str) -> Sequence[float | None]:
        return [one.metrics[number][reader][metric] for metric in METRICS]

    for start, values in _with_seeds(results, keep, of_run):
        yield from ([*start, x, e.mean, e.interval, e.n] for x, e in values if e.n)


def _seen(results: Results, keep: int) -> Iterator[list[Any]]:
    def of_run(one: Series, number: int, reader: str) -> Sequence[float | None]:
        return seen_accuracy(one.runs[number].matrices[reader])

    for start, values in _with_seeds(results, keep, of_run):
        yield from ([*start, t, *_short(e)] for t, e in values if e.n)


def _cells(results: Results, keep: int) -> Iterator[list[Any]]:
    """The accuracies on the tasks seen so far; not those on tasks to come."""
    tasks = results.series[0].runs[0].tasks
    places = [(t, k) for t in range(tasks) for k in range(t + 1)]

    def of_run(one: Series, number: int, reader: str) -> Sequence[float | None]:
        matrix: Matrix = one.runs[number].matrices[reader]
        return [matrix[t][k] for t, k in places]

    for start, values in _with_seeds(results, keep, of_run):
        yield from ([*start, *places[x], *_short(e)] for x, e in values if e.n)


def _differences(results: Results, keep: int) -> Iterator[list[Any]]:
    for a, b in pairs(results.series):
        one, other = results.series[a], results.series[b]
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


def _classes(results: Results, keep: int) -> Iterator[list[Any]]:
    """The classifier's accuracy on each class after the last step."""
    for s, one in enumerate(results.series):
        each = [_of_classes(run, results) for run in one.runs]
        if not all(each):
            continue
        for label in results.classes.first_task():
            values = [of_run.get(label) for of_run in each]
            if any(value is not None for value in values):
                yield [s, None, label, *_short(estimate(values))]
            if not keep and len(results.seeds) > 1:
                for run, value in zip(one.runs, values, strict=True):
                    if value is not None:
                        yield [s, run.point.seed, label, *_short(estimate([value]))]


def _of_classes(run: RunResult, results: Results) -> dict[int, float]:
    if not run.confusion:
        return {}
    images: dict[int, int] = {}
    for (label, _), count in run.confusion[-1].items():
        images[label] = images.get(label, 0) + count
    last = run.confusion[-1]
    return {label: last.get((label, label), 0) / count for label, count in images.items() if count}


def _confusion(results: Results, keep: int) -> Iterator[list[Any]]:
    """What each class is taken for after the last step, mean over seeds; without what never
    occurs.
    """
    import numpy as np

    for s, one in enumerate(results.series):
        if not all(run.confusion for run in one.runs):
            continue
        first = list(results.classes.first_task())
        others = {label for run in one.runs for pair in run.confusion[-1] for label in pair}
        order = [*first, *sorted(others - {*first})]
        mean = np.mean([shares(run.confusion[-1], order) for run in one.runs], axis=0)
        least = _LEAST_SHARE if keep > 1 else 0.0
        for true, predicted in np.argwhere(mean > least).tolist():
            share = round(float(mean[true, predicted]), 6)
            yield [s, order[true], order[predicted], share, len(one.runs)]


def _losses(results: Results, keep: int) -> Iterator[list[Any]]:
    """The terms of one seed of each series, by the epoch of the whole stream; of long trainings
    some epochs.
    """
    stride = (1, 5, 20)[keep]
    seen = set()
    places = {one.identity: s for s, one in enumerate(results.series)}
    for history in results.histories:
        s = places.get(history.point.series)
        if s is None or s in seen or history.point.variant == JOINT:
            continue
        seen.add(s)
        at = 0
        for t, epochs in enumerate(history.steps):
            for place, term in enumerate(TERMS):
                curve = history.curve(term, t)
                for epoch in range(0, len(curve), stride):
                    row = [s, history.point.seed, t, at + epoch, place]
                    yield [*row, float(f"{curve[epoch]:.6g}")]
            at += len(epochs)


def _short(found: Estimate) -> list[Any]:
    """Mean, interval and n with six decimals: figures show one of percent."""
    mean = None if found.mean is None else round(found.mean, 6)
    return [mean, None if found.interval is None else round(found.interval, 6), found.n]
