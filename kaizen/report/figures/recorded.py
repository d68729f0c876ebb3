"""Figures of what evaluations record besides accuracies, as lines over the steps: the calibration
error, and the features' rank and drift.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kaizen.evaluation.results import READERS
from kaizen.evaluation.statistics import estimate
from kaizen.report.figures.grid import Grid
from kaizen.report.figures.specs import (
    DASH,
    READ,
    SEEDS,
    SERIES,
    SHAPE,
    SHARE,
    figure,
    look,
    own,
    panels,
    value_columns,
)
from kaizen.report.recorded import calibration_errors
from kaizen.report.series import Series

_OF_MEASURES = [[1, None], [0, 1]]  # the effective rank's least and largest value, and CKA's


def calibrated(one: Series, most: int | None = None) -> Iterator[tuple[int, str]]:
    """The readers whose confidence is recorded of all runs of a series, of the first ``most``."""
    for place, reader in enumerate(READERS[:most]):
        if all(run.calibration and reader in run.calibration[-1] for run in one.runs):
            yield place, reader


def error_rows(grid: Grid, keep: int) -> Iterator[list[Any]]:
    """The expected calibration error of each reader after each step."""
    for s, one in enumerate(grid.series):
        for r, reader in calibrated(one, 1 if keep == 3 else None):
            for t, found in enumerate(calibration_errors(one, reader)):
                if found.n:
                    yield [s, r, None, t, found.mean, found.interval, found.n]
            if keep or len(grid.seeds) == 1:
                continue
            for run in one.runs:
                for t, step in enumerate(run.calibration):
                    error = step[reader].error if reader in step else None
                    if error is not None:
                        yield [s, r, run.point.seed, t, error, None, 1]


def measure_rows(grid: Grid, keep: int) -> Iterator[list[Any]]:
    """Effective rank and likeness to the step before (m, 0 or 1), after each step."""
    for s, one in enumerate(grid.series):
        if not all(run.looks for run in one.runs):
            continue
        for m, name in enumerate(("rank", "likeness")):
            each = [[getattr(look, name) for look in run.looks] for run in one.runs]
            for t, values in enumerate(zip(*each, strict=True)):
                found = estimate(values)
                if not found.n:
                    continue
                yield [s, None, t, m, found.mean, found.interval, found.n]
                if keep or len(grid.seeds) == 1:
                    continue
                for run, value in zip(one.runs, values, strict=True):
                    if value is not None:
                        yield [s, run.point.seed, t, m, value, None, 1]


def errors() -> dict[str, Any]:
    """The expected calibration error over the steps, a line per series."""
    y = {
        "field": "value", "type": "quantitative", "title": "calibration error (points)",
        "scale": {"zero": True, "nice": True},
    }  # fmt: skip
    x = {"field": "t", "type": "ordinal", "title": "after step", "axis": {"labelAngle": 0}}
    return figure(
        "calibration",
        "The expected calibration error after each step",
        "ECE: how far accuracy and mean confidence of a bin are apart, in percentage points, mean "
        "over the test images of the tasks seen so far; 0 is best. The band is the 95 % interval "
        "over the seeds.",
        [*SERIES, *READ, *SEEDS, ("t", "After step", "count"), *value_columns("ECE (points)")],
        panels(curve(x, y), "method", 400),
        data="calibration",
        reader=True,
        seeds=True,
        within=SHARE,
        where="results/summary/calibration.csv",
    )


def measures(grid: Grid) -> dict[str, Any]:
    """The effective rank and the likeness to the step before, over the steps."""
    y = {
        "field": "value", "type": "quantitative", "title": None,
        "scale": {"zero": False, "nice": True},
    }  # fmt: skip
    x = {"field": "t", "type": "ordinal", "title": "after step", "axis": {"labelAngle": 0}}
    spec = panels(curve(x, y), "measure", 400, "m") | own("y")
    return figure(
        "features",
        "The features' rank and drift",
        "Of the features of a few test images, the same after each step. Effective rank: how many "
        "directions they take up; features that collapse have a low one. CKA: how alike they are "
        "to those of the step before, whatever turn or scale lies between; 1 is the same, and "
        "the lower, the further the step has moved them.",
        [
            *SERIES, *SEEDS, ("t", "After step", "count"), ("measure", "Measure", "text"),
            ("value", "Value", "number"), ("half", "± 95 % interval", "number"),
            ("n", "Seeds", "count"),
        ],
        spec,
        data="features",
        reader=False,
        seeds=True,
        factor=1,
        within=_OF_MEASURES,
        within_by="m",
        basis=measures_note(grid),
        where="results/summary/features.csv",
    )  # fmt: skip


def measures_note(grid: Grid) -> str:
    """What the figure of `measures` is based on; empty where nothing is recorded."""
    images = [
        len(run.looks[-1].images.task) for one in grid.series for run in one.runs if run.looks
    ]
    return grid.note(max(images)) if images else ""


def curve(x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    """A line per series over the steps, with bands and marks."""
    band = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    return {
        "width": "@panel:320",
        "height": 220,
        "encoding": {"x": x},
        "layer": [
            {"mark": {"type": "area", "fillOpacity": 0.15}, "encoding": look() | band},
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": look(y=y, strokeDash=DASH)},
            {
                "mark": {"type": "point", "filled": True, "size": 55, "cursor": "pointer"},
                "encoding": look(y=y, shape=SHAPE, opacity={"value": 1}),
            },
        ],
    }
