"""The page's figures: what each shows, its table, and its specification (`kaizen.page.specs`)."""

from __future__ import annotations

from typing import Any

from kaizen.page.maps import classes, confusion, matrix
from kaizen.page.results import Results
from kaizen.page.specs import (
    DASH,
    PERCENT,
    POINTS,
    READ,
    ROWS,
    SEEDS,
    SERIES,
    SHAPE,
    figure,
    intervals,
    look,
    order,
    own,
    panels,
    value_columns,
)


def figures(results: Results, there: set[str]) -> list[dict[str, Any]]:
    """The figures of the page in its order: those whose rows are ``there``."""
    sizes = {
        (one.replay_unit, one.replay_size) for one in results.series if one.replay_size is not None
    }
    found = [
        matrix(results.series[0].runs[0].tasks),
        _over_steps(),
        _headline(),
        _heads(),
        *([_replay(next(iter(sizes))[0])] if len(sizes) > 1 else []),
        _differences(),
        classes(results),
        confusion(results),
        _losses(),
        _time(),
    ]
    return [figure for figure in found if figure["data"] in there]


def _over_steps() -> dict[str, Any]:
    y = {
        "field": "value", "type": "quantitative", "title": "accuracy (%)",
        "scale": {"domain": [0, 100]},
    }  # fmt: skip
    x = {"field": "t", "type": "ordinal", "title": "after step", "axis": {"labelAngle": 0}}
    band = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    layer = [
        {"mark": {"type": "area", "fillOpacity": 0.15}, "encoding": look() | band},
        {
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": look(y=y, strokeDash=DASH),
        },
        {
            "mark": {"type": "point", "filled": True, "size": 55, "cursor": "pointer"},
            "encoding": look(y=y, shape=SHAPE, opacity={"value": 1}),
        },
    ]
    inner = {"width": "@panel:320", "height": 240, "encoding": {"x": x}, "layer": layer}
    return figure(
        "steps",
        "Accuracy on the tasks seen so far",
        "Mean accuracy over the tasks seen so far, with the 95 % interval as a band where there "
        "are several seeds. It falls as there are more classes to tell apart; the slower the "
        "better. Grey lines are the reference rows.",
        [
            *SERIES, *READ, *SEEDS, ("t", "After step", "count"), *value_columns("Accuracy (%)"),
        ],
        panels(inner, "method", 400),
        data="seen",
        reader=True,
        seeds=True,
        spread=True,
    )  # fmt: skip


def _headline() -> dict[str, Any]:
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
    )


def _heads() -> dict[str, Any]:
    y = {
        "field": "reader", "type": "nominal", "title": None, "sort": order("r"),
        "axis": {"labelLimit": "@labels", "grid": True},
    }  # fmt: skip
    x = {**PERCENT, "title": "final accuracy (%)", "scale": {"domain": [0, 100]}}
    return figure(
        "heads",
        "Final accuracy by who reads the features",
        "The trained classifier, analytic heads where there are some, and the probes, which say "
        "what the features hold. The filter of the reader does not act here: all are shown.",
        [*SERIES, *READ, *SEEDS, *value_columns("Final accuracy (%)")],
        panels(intervals(y, x, 260), "method", 470),
        data="metrics",
        reader=False,
        seeds=True,
        metric=1,
        rivals=True,
    )


def _replay(unit: str) -> dict[str, Any]:
    title = {"proportion": "% of earlier images", "per_class": "images per class"}.get(
        unit, "images"
    )
    x = {
        "field": "size", "type": "quantitative", "title": f"replay ({title})",
        "scale": {"zero": True, "nice": True},
    }  # fmt: skip
    layer = [
        {"mark": {"type": "line", "strokeWidth": 2}, "encoding": look(y=PERCENT, strokeDash=DASH)},
        {
            "mark": {"type": "rule", "strokeWidth": 1.5},
            "encoding": look(y={**PERCENT, "field": "low"}, y2={"field": "high"}),
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "cursor": "pointer"},
            "encoding": look(y=PERCENT, shape=SHAPE, opacity={"value": 1}),
        },
    ]
    inner = {"width": "@panel:260", "height": 200, "encoding": {"x": x}, "layer": layer}
    spec = panels(inner, "both", 340, "x") | own("y")
    return figure(
        "replay",
        "The size of the replay memory",
        "Each metric against the size of the replay memory, which is to scale.",
        [
            *SERIES, ("size", f"Replay ({title})", "number"), *READ, *SEEDS,
            ("metric", "Metric", "text"), *value_columns("Value (%)"),
        ],
        spec,
        data="metrics",
        reader=True,
        seeds=True,
        headline=True,
        replayed=True,
    )  # fmt: skip


def _differences() -> dict[str, Any]:
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


def _losses() -> dict[str, Any]:
    y = {"field": "value", "type": "quantitative", "title": "@log_title", "scale": "@log"}
    x = {
        "field": "at", "type": "quantitative", "title": "epochs of the whole stream",
        "axis": {"grid": False, "tickMinStep": 1, "tickCount": 6},
    }  # fmt: skip
    dash = {**DASH, "legend": "@legend"}
    layer = [
        {
            "mark": {"type": "line", "strokeWidth": 1.5, "clip": True},
            "encoding": look(y=y, strokeDash=dash, detail={"field": "t", "type": "ordinal"}),
        },
        {
            "mark": {"type": "point", "size": 60, "opacity": 0, "cursor": "pointer"},
            "encoding": {"y": y, "tooltip": "@tooltip"},
        },
    ]
    inner = {"width": "@panel:300", "height": 190, "encoding": {"x": x}, "layer": layer}
    spec = panels(inner, "term_panel", 380, "term_place") | own("y")
    return figure(
        "losses",
        "Terms of the loss during training",
        "Each the mean of an epoch and without its weight, tasks one after the other, one seed "
        "per variant. Terms that a variant does not have are left out; step 0 is the same for "
        "all.",
        [
            *SERIES, *SEEDS, ("t", "Step", "count"), ("at", "Epoch of the stream", "count"),
            ("term", "Term", "text"), ("value", "Value", "number"),
        ],
        spec,
        data="losses",
        reader=False,
        seeds=False,
    )  # fmt: skip


def _time() -> dict[str, Any]:
    x = {"field": "seconds", "type": "quantitative", "title": "seconds of wall time"}
    y = {"field": "kind", "type": "nominal", "title": None, "sort": "-x"}
    bar = {
        "mark": {"type": "bar", "cursor": "default", "color": "#5b7fa6"},
        "encoding": {"x": {**x, "aggregate": "sum"}, "y": y},
    }
    return figure(
        "time",
        "Time",
        "Wall time by kind of node, each node once, however many runs share it; it depends on "
        "the machine. Memory is not shown (`peak_mb` in a node's run.json).",
        [
            ("title", "Node", "text"), ("kind", "Kind", "text"), ("seconds", "Seconds", "number"),
            ("speed", "Images per second", "count"),
        ],
        {"width": "@panel:520", "height": {"step": 24}, **bar},
        data="time",
        reader=False,
        seeds=False,
        plain=True,
    )  # fmt: skip
