"""Figures of points with their intervals: metrics, heads, differences."""

from __future__ import annotations

from typing import Any

from kaizen.report.figures.specs import (
    OF_METRICS,
    PERCENT,
    POINTS,
    READ,
    ROWS,
    SEEDS,
    SERIES,
    SHAPE,
    SHARE,
    figure,
    intervals,
    look,
    order,
    own,
    panels,
    value_columns,
)


def headline() -> dict[str, Any]:
    """Every series with its intervals, a panel per metric."""
    spec = panels(intervals(ROWS, PERCENT), "metric", 290, "x")
    return figure(
        "metrics",
        "The metrics with their intervals",
        "Accuracies in percent, forgetting (lower is better) and transfer in percentage points; "
        "each panel has its own axis. Lines are 95 % intervals over the seeds; with one seed "
        "there are none.",
        [*SERIES, *READ, *SEEDS, ("metric", "Metric", "text"), *value_columns("Value (%)")],
        spec | own("x"),
        data="metrics",
        reader=True,
        seeds=True,
        headline=True,
        legend=False,
        within=OF_METRICS,
        within_by="x",
    )


def heads() -> dict[str, Any]:
    """Final accuracy by who reads the features, a panel per method."""
    y = {
        "field": "reader", "type": "nominal", "title": None, "sort": order("r"),
        "axis": {"labelLimit": "@labels", "grid": True},
    }  # fmt: skip
    x = {
        **PERCENT,
        "title": "final accuracy (%)",
        "scale": {"zero": True, "nice": True},
        "axis": {"tickCount": 5},
    }
    return figure(
        "heads",
        "Final accuracy by who reads the features",
        "The trained classifier, analytic heads where there are some, and the probes, which say "
        "what the features hold. The filter of the reader does not act here: all are shown.",
        [*SERIES, *READ, *SEEDS, *value_columns("Final accuracy (%)")],
        panels(intervals(y, x, 260, beside=True), "method", 470),
        data="metrics",
        reader=False,
        seeds=True,
        metric=1,
        rivals=True,
        within=SHARE,
    )


def differences() -> dict[str, Any]:
    """Pairs of variants at the same seeds, a panel per metric."""
    y = {**ROWS, "field": "pair"}
    inner = intervals(y, POINTS)
    clear = {"condition": {"test": "datum.clear", "value": 1}, "value": 0}
    inner["layer"][1]["encoding"]["opacity"] = clear
    ring = {"type": "point", "filled": False, "size": 70, "cursor": "pointer", "strokeWidth": 2}
    rings = look(x=POINTS, shape=SHAPE, opacity={"value": 1})
    inner["layer"].append({"mark": ring, "encoding": rings})
    zero = {
        "mark": {"type": "rule", "color": "currentColor", "strokeDash": [3, 3]},
        "encoding": {
            "x": {"datum": 0, "type": "quantitative"},
            "y": {"value": 0},
            "y2": {"value": "height"},
        },
    }
    inner["layer"] = [*inner["layer"], zero]
    return figure(
        "differences",
        "Differences at the same seeds",
        "In percentage points; right of the dotted line the first of a pair has the higher value "
        "(of forgetting, lower is better). Filled where the 95 % interval excludes 0: only then "
        "do these seeds set the two apart. Marked as the second of the pair.",
        [
            ("method", "Method", "text"), ("difference", "Difference", "text"), *READ,
            ("metric", "Metric", "text"), *value_columns("Percentage points", "points"),
            ("better", "First better in", "count"),
        ],
        panels(inner, "metric", 290, "x") | own("x"),
        data="differences",
        reader=True,
        seeds=False,
        legend=False,
    )  # fmt: skip
