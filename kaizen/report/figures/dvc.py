"""The templates of DVC's plots (`.dvc/plots/`), from the same specifications: DVC puts in the rows
of the CSV files, of one revision or of several.

A revision has lines or marks of its own, or panels of its own where colours are all there is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kaizen.evaluation.metrics import METRICS
from kaizen.report.figures import curves, maps, points
from kaizen.report.figures.grid import METRIC_NAMES, SHAPES, TERM_NAMES
from kaizen.report.figures.specs import OF_METRICS, SHARE, Spec
from kaizen.report.series import METHOD_LABELS, known_colours

_REVISION = {"field": "rev", "type": "nominal", "title": "revision"}
_PANELS = 2  # in a row
_LABELS = 260  # pixels


def templates() -> dict[str, Spec]:
    """The template of each plot of dvc.yaml, by its name."""
    several = "(datum.revs > 1 ? datum.rev + ': ' : '')"
    panel = "(datum.method == 'Reference' ? '' : datum.method + ': ') + datum.series"
    apart = _calculate("panel", f"{several} + {panel}")
    half = _calculate("half", "datum.interval == null ? null : 100 * datum.interval")
    interval = [
        _calculate("value", "100 * datum.mean"),
        _calculate("low", "100 * (datum.mean - datum.interval)"),
        _calculate("high", "100 * (datum.mean + datum.interval)"),
        half,
    ]
    # A curve begins where that of the task before ends.
    epochs = [
        {"joinaggregate": [{"op": "max", "field": "epoch", "as": "last"}], "groupby": ["rev"]},
        _calculate("at", "datum.step * (datum.last + 1) + datum.epoch"),
        _named("term", TERM_NAMES),
        _calculate("term_panel", "datum.method + ': ' + datum.term"),
        _calculate("term_place", "datum.s"),
    ]
    step = _calculate("t", "datum.step")
    of_metrics = dict(zip(METRICS, OF_METRICS, strict=True))
    return {
        "accuracy_over_steps": _template(
            curves.over_steps(), [*interval, *_within(json.dumps(SHARE)), step]
        ),
        "accuracy_bars": _template(
            points.headline(),
            [
                *interval, *_within(f"({json.dumps(of_metrics)})[datum.metric]"),
                _named("metric", METRIC_NAMES), _calculate("x", "datum.s"),
                _calculate("panel", panel),
            ],
        ),
        "per_task_heatmap": _template(
            maps.matrix(1),
            [
                _calculate("value", "100 * datum.accuracy"), half, step,
                _calculate("k", "datum.task"), apart,
            ],
        ),
        "loss_terms": _template(curves.losses(), [step, *epochs]),
        "confusion_matrix": _template(
            maps.confusion(None),
            [
                _calculate("value", "100 * datum.share"),
                _calculate("predicted", "datum.predicted_class"),
                _calculate("q", "datum.predicted_place"), apart,
            ],
        ),
    }  # fmt: skip


def _calculate(name: str, expression: str) -> Spec:
    return {"calculate": expression, "as": name}


def _within(bounds: str) -> list[Spec]:
    """An interval that ends where values do; ``bounds`` gives the least and the largest."""
    return [
        _calculate("low", f"max({bounds}[0], datum.low)"),
        _calculate("high", f"min({bounds}[1], datum.high)"),
    ]


def _named(field: str, names: Mapping[str, str]) -> Spec:
    return _calculate(field, f"({json.dumps(names)})[datum.{field}] || datum.{field}")


def _template(figure: Mapping[str, Any], transform: list[Spec]) -> Spec:
    rows = [
        # The rows' own order is the grid's.
        {"window": [{"op": "row_number", "as": "s"}]},
        {"joinaggregate": [{"op": "distinct", "field": "rev", "as": "revs"}]},
        _named("method", METHOD_LABELS),
    ]
    spec: Spec = _put(figure["spec"], figure)
    _with_revisions(spec)
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": {"text": "<DVC_METRIC_TITLE>", "anchor": "middle"},
        "data": {
            "values": "<DVC_METRIC_DATA>",
            "format": {"type": "json", "parse": dict.fromkeys(_NUMBERS[figure["data"]], "number")},
        },
        "transform": [*rows, *transform],
        **spec,
    }


# Columns of the CSV files, which hold texts alone.
_NUMBERS = {
    "seen": ("mean", "interval", "n", "step"),
    "metrics": ("mean", "interval", "n"),
    "cells": ("accuracy", "interval", "n", "step", "task"),
    "losses": ("value", "step", "epoch"),
    "confusion": ("share", "n", "place", "predicted_place"),
}


def _put(value: Any, figure: Mapping[str, Any]) -> Any:
    """``value`` with its placeholders filled, for any rows."""
    if isinstance(value, list):
        return [_put(one, figure) for one in value]
    if isinstance(value, dict):
        return {name: _put(one, figure) for name, one in value.items()}
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    name, _, number = value.partition(":")
    if name == "@panel":
        return int(number)
    names, colours = known_colours()
    # Names that are not known, such as those of other variants, come behind and have a look too.
    known = {"unionWith": names}
    return {
        "@columns": _PANELS,
        "@labels": _LABELS,
        "@colour": {"domain": known, "range": colours},
        "@shape": {"domain": known, "range": list(SHAPES)},
        "@dash": {},
        "@legend": {"title": None, "orient": "bottom", "columns": 4, "labelLimit": _LABELS},
        "@tooltip": _tooltip(figure),
        "@log_title": "mean of the epoch",
        "@log": {"type": "linear", "zero": False},
    }[name]


def _tooltip(figure: Mapping[str, Any]) -> list[Spec]:
    found = [{**_REVISION}]
    left_out = {"seed", "reader", "size"}
    for field, title, kind in figure["columns"]:
        if field in left_out:
            continue
        one = {"field": field, "type": "nominal" if kind == "text" else "quantitative"}
        form = {"count": "d", "number": ".4~g"}.get(kind, ".1f")
        found.append({**one, "title": title, **({} if kind == "text" else {"format": form})})
    return found


def _with_revisions(spec: Spec) -> None:
    """Lines have the revision's dashes; where there are none, marks have its shape."""
    layers = spec.get("spec", spec)["layer"]
    scaled: set[str] = set()
    dashed = any("strokeDash" in layer["encoding"] for layer in layers)
    for layer in layers:
        encoding = layer["encoding"]
        for name in {"color", "shape"} & {*encoding}:
            scale = encoding[name].get("scale", {})
            encoding[name]["sort"] = None  # as the scale has them
            if name in scaled:  # a scale's domain is said once
                scale.pop("domain", None)
            scaled |= {name} if "domain" in scale else set()
        if dashed and "shape" in encoding:
            encoding["shape"]["legend"] = None
        if "strokeDash" in encoding:
            encoding["strokeDash"] = {**_REVISION}
        if layer["mark"]["type"] == "area":
            encoding["detail"] = {"field": "rev"}
        if "shape" in encoding and not dashed:
            encoding["shape"] = {**_REVISION}
