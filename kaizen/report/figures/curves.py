"""Figures of lines: accuracy over the steps, the size of the replay memory, terms of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kaizen.report.figures.specs import (
    DASH,
    OF_METRICS,
    PERCENT,
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


def over_steps() -> dict[str, Any]:
    """Accuracy on the tasks seen so far: lines with bands, a panel per method."""
    y = {
        "field": "value", "type": "quantitative", "title": "accuracy (%)",
        "scale": {"zero": True, "nice": True},
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
        within=SHARE,
    )  # fmt: skip


_UNITS = {"proportion": "% of earlier images", "per_class": "images per class"}


def replay(units: Sequence[str]) -> dict[str, Any]:
    """Each metric against the size of the replay memory, to scale; with several units each with
    panels of its own.
    """
    texts = {unit: _UNITS.get(unit, "images") for unit in units}
    several = len(texts) > 1
    title = "in the panel's unit" if several else next(iter(texts.values()))
    x = {
        "field": "size", "type": "quantitative", "title": f"replay ({title})",
        "scale": {"zero": True, "nice": True},
    }  # fmt: skip
    layer = [
        {
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": look(y=PERCENT, strokeDash=DASH),
        },
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
    if several:
        spec["resolve"]["scale"] |= {"x": "independent"}
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
        within=OF_METRICS,
        within_by="x",
        units={unit: f", {text}" for unit, text in texts.items()} if several else None,
    )  # fmt: skip


def losses() -> dict[str, Any]:
    """Each term over the epochs of the whole stream, broken where a task begins."""
    y = {"field": "value", "type": "quantitative", "title": "@log_title", "scale": "@log"}
    x = {
        "field": "at", "type": "quantitative", "title": "epochs of the whole stream",
        "axis": {"grid": False, "tickMinStep": 1, "tickCount": 6},
    }  # fmt: skip
    dash = {**DASH, "legend": "@legend"}
    begins = {
        "transform": [
            {"aggregate": [{"op": "min", "field": "at", "as": "at"}], "groupby": ["t"]},
        ],
        "mark": {"type": "rule", "color": "#888888"},
        # Not seen at the first task, but there: an axis of no value at all is none.
        "encoding": {
            "x": x,
            "opacity": {"condition": {"test": "datum.t > 0", "value": 0.35}, "value": 0},
        },
    }
    layer = [
        begins,
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
        basis="one seed of each variant",
        reader=False,
        seeds=False,
    )  # fmt: skip
