"""The sixth figure: the four loss terms over the whole stream, from the histories of the training
steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaizen.evaluation.results import JOINT
from kaizen.plan.point import Point
from kaizen.report import canvas
from kaizen.report.series import Series, method_label
from kaizen.report.tables import Row
from kaizen.training.terms import TERM_TEXTS, TERMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SYMBOLS = {
    term: rf"$\mathcal{{L}}_{{{term.split('_')[1]}}}^{{{term.split('_')[2]}}}$" for term in TERMS
}
_LOGARITHMIC_FROM = (
    20  # largest over smallest value: classifiers start a task with a peak that would hide the rest
)
_BAND = "#F3F3F3"
_MAX_MARKED_EPOCHS = 12  # of a task; with more, markers would hide the line
_TASK_WIDTH = 0.28  # inches that a task's number needs at least


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


# A series with the history of one of its runs.
Traced = tuple[Series, History]


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


def loss_terms(
    series: Sequence[Series], histories: Sequence[History], title: str
) -> tuple[Figure, list[Row]] | None:
    """Each term over the epochs of the whole stream: a row of panels per method, a panel per term,
    a line per series.

    Shows one seed per series, the first that ``histories`` holds; not joint training, which has no
    stream. A term that a series does not have is left out; a step that all series of a method share
    is drawn once. Returns the figure and a row per plotted point, or None where there is no
    history.
    """
    stream = [one for one in series if one.variant != JOINT]
    traced = [
        (one, history) for one in stream if (history := _history_of(one, histories)) is not None
    ]
    terms = [term for term in TERMS if any(_has(history, term) for _, history in traced)]
    if not terms:
        return None
    methods = list(dict.fromkeys(one.method for one, _ in traced))
    tasks = max(len(history.steps) for _, history in traced)
    width = max(2.9, _TASK_WIDTH * tasks + 0.7)
    figure = canvas.new_figure(
        max(5.2, width * len(terms)),
        2.5 * len(methods) + 0.9,
        f"{title}: loss terms during training",
    )
    grid = figure.subplots(len(methods), len(terms), squeeze=False)
    handles: dict[str, Any] = {}
    for row, method in enumerate(methods):
        of_method = [(one, history) for one, history in traced if one.method == method]
        bounds = _bounds([history for _, history in of_method])
        for axes, term in zip(grid[row], terms, strict=True):
            axes.set_title(f"{_SYMBOLS[term]} {TERM_TEXTS[term]}", parse_math=True, pad=14)
            present = [(one, history) for one, history in of_method if _has(history, term)]
            if not present:
                axes.set_axis_off()
                axes.text(
                    0.5,
                    0.5,
                    "no variant has this term",
                    ha="center",
                    va="center",
                    transform=axes.transAxes,
                )
                continue
            _mark_tasks(axes, bounds)
            for label, handle in _draw_term(axes, present, term, bounds).items():
                handles.setdefault(label, handle)
        grid[row][0].set_ylabel(
            f"{method_label(method)}\nmean of the epoch"
            if len(methods) > 1
            else "Mean of the epoch"
        )
    for axes in grid[-1]:
        axes.set_xlabel("Epochs of the whole stream")
    labels = [label for label in dict.fromkeys(one.label for one, _ in traced) if label in handles]
    labels += [label for label in handles if label not in labels]
    canvas.legend(figure, [handles[label] for label in labels], labels)
    return figure, _rows(traced)


def _draw_term(
    axes: Axes, traced: Sequence[Traced], term: str, bounds: Sequence[int]
) -> dict[str, Any]:
    """One term's lines, broken where a task begins; the first series on top. Returns a handle per
    label.
    """
    handles: dict[str, Any] = {}
    longest = max(end - start for start, end in itertools.pairwise(bounds))
    marks: dict[str, Any] = (
        {"marker": "o", "markersize": 2.8} if longest <= _MAX_MARKED_EPOCHS else {}
    )
    steps = range(len(bounds) - 1)
    curves = [
        [h.curve(term, step) if step < len(h.steps) else [] for step in steps] for _, h in traced
    ]
    shared = [
        len(traced) > 1 and all(of_run[step] == curves[0][step] for of_run in curves)
        for step in steps
    ]
    lines = [
        (one.label, one.colour, of_run, False)
        for (one, _), of_run in zip(traced, curves, strict=True)
    ]
    for rank, (label, colour, of_run, wanted) in enumerate(
        [*lines, ("Shared by all", canvas.INK, curves[0], True)]
    ):
        # One line with gaps draws much faster than a line per step.
        x: list[float] = []
        y: list[float] = []
        for step in steps:
            if of_run[step] and shared[step] == wanted:
                x += [
                    *(bounds[step] + epoch + 0.5 for epoch in range(len(of_run[step]))),
                    bounds[step + 1],
                ]
                y += [*of_run[step], math.nan]
        if x:
            zorder = 3 - rank / (len(lines) + 1)
            (handles[label],) = axes.plot(
                x, y, color=colour, linewidth=1.3, zorder=zorder, label=label, **marks
            )
    axes.set_xlim(0, bounds[-1])
    axes.locator_params(axis="x", integer=True)
    axes.grid(axis="y")
    if _needs_logarithm([value for of_run in curves for values in of_run for value in values]):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    return handles


def _needs_logarithm(values: Sequence[float]) -> bool:
    """Whether values are positive and span so many magnitudes that a linear axis would show their
    peaks only.
    """
    return min(values) > 0 and max(values) > _LOGARITHMIC_FROM * min(values)


def _mark_tasks(axes: Axes, bounds: Sequence[int]) -> None:
    """A band for every other task, and each task's number above the panel."""
    for task, (start, end) in enumerate(itertools.pairwise(bounds)):
        if task % 2:
            axes.axvspan(start, end, color=_BAND, linewidth=0, zorder=0)
        label = f"task {task}" if task == 0 else str(task)
        axes.annotate(
            label,
            ((start + end) / 2, 1),
            (0, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7,
            color=canvas.INK,
        )


def _bounds(histories: Sequence[History]) -> list[int]:
    """Where each task begins in epochs of the stream, and where the last one ends."""
    bounds = [0]
    for step in range(max(len(history.steps) for history in histories)):
        bounds.append(
            bounds[-1] + max(len(h.steps[step]) for h in histories if step < len(h.steps))
        )
    return bounds


def _history_of(one: Series, histories: Sequence[History]) -> History | None:
    """The first history of a series' runs."""
    for history in histories:
        if history.point.series == one.identity:
            return history
    return None


def _has(history: History, term: str) -> bool:
    """Whether any step of a run has a term."""
    return any(history.curve(term, step) for step in range(len(history.steps)))


def _rows(traced: Sequence[Traced]) -> list[Row]:
    """One row per series, step, epoch and term that the step has; epochs count from 0 in each
    step.
    """
    return [
        {
            **one.columns(),
            "seed": history.point.seed,
            "step": step,
            "epoch": epoch,
            "term": term,
            "value": value,
        }
        for one, history in traced
        for step in range(len(history.steps))
        for term in TERMS
        for epoch, value in enumerate(history.curve(term, step))
    ]
