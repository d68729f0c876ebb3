"""Pieces of the figures' Vega-Lite specifications, as plain dicts.

Rows are put in by who draws: the page (page.js), by the filters that are set, or print
(`kaizen.report.figures.fill`). So is what depends on them or on the width: texts that begin with
"@". A row has ``value`` (percent, or a loss), ``low``
and ``high`` (its interval), ``series``, ``method``, ``panel`` and what its columns name.
"""

from __future__ import annotations

from typing import Any

from kaizen.evaluation.metrics import METRICS

Spec = dict[str, Any]
# Field of a row, its heading, and how it is written.
Column = tuple[str, str, str]

MOST_NUMBERED = 12  # tasks or classes; with more, a cell has no place for its number
MOST_NAMED = 30
MOST_CELLS_ABREAST = 200  # of all maps on a sheet; with more, a number would not fit
_WHOLE_FROM = 60  # percent: above, a cell is so dark that its number is white
# Zero is white. Colour-Brewer's blues, dark at the end: also told apart in grey.
_MAP = ["#ffffff", "#deebf7", "#9ecae1", "#4292c6", "#08519c", "#08306b"]

# What a value can be: intervals end there. Of a share in percent, and of each metric in their order
# (forgetting and transfer are differences of two accuracies).
SHARE = [0, 100]
OF_METRICS = [SHARE if name.endswith("accuracy") else [-100, 100] for name in METRICS]

SERIES: list[Column] = [("method", "Method", "text"), ("series", "Variant", "text")]
SEEDS: list[Column] = [("seed", "Seed", "text")]
READ: list[Column] = [("reader", "Read by", "text")]


def value_columns(name: str, kind: str = "percent") -> list[Column]:
    """The columns of a value with its interval and the number of seeds."""
    return [
        ("value", name, kind),
        ("half", "± 95 % interval", "half"),
        ("n", "Seeds", "count"),
    ]


def figure(
    name: str, title: str, caption: str, columns: list[Column], spec: Spec, **more: Any
) -> dict[str, Any]:
    """A figure of the page. ``more``: ``data``, the name of its rows; ``reader`` and ``seeds``,
    whether these filters act; ``within``, the least and the largest value that a row's interval may
    have (None: any), or with ``within_by`` those for each number in this column of the rows; and
    what page.js looks for in `rowsOf`.
    """
    parts = {"id": name, "title": title, "caption": caption, "columns": columns, "spec": spec}
    return parts | more


def order(field: str = "s") -> Spec:
    """The order of the grid, or of another field."""
    return {"field": field, "op": "min", "order": "ascending"}


def panels(inner: Spec, field: str = "panel", width: int = 230, sort: str = "s") -> Spec:
    """A panel for each value of ``field``, as many in a row as the page has room for."""
    # In two lines where it is long: a heading wider than its panel would move all others aside.
    letters = (width - 24) // 7
    space = f"lastindexof(slice(datum.label, 0, {letters}), ' ')"
    at = f"({space} > 0 ? {space} : {letters})"
    halves = f"[slice(datum.label, 0, {at}), slice(datum.label, {at})]"
    header = {
        "title": None,
        "labelFontWeight": "bold",
        "labelLimit": width - 20,
        "labelExpr": f"length(datum.label) > {letters} ? {halves} : datum.label",
    }
    facet = {"field": field, "type": "nominal", "header": header, "sort": order(sort)}
    # A common axis would also stand under the places of a row that have no panel.
    axes = {"axis": {"x": "independent"}}
    return {"facet": facet, "columns": f"@columns:{width}", "spec": inner, "resolve": axes}


def own(channel: str) -> Spec:
    """Each panel with a scale of its own."""
    return {"resolve": {"scale": {channel: "independent"}, "axis": {"x": "independent"}}}


def look(**more: Any) -> Spec:
    """Colour and mark of a series: colour is never alone."""
    return {
        "color": {"field": "series", "type": "nominal", "scale": "@colour", "legend": "@legend"},
        "tooltip": "@tooltip",
    } | more


SHAPE = {"field": "series", "type": "nominal", "scale": "@shape", "legend": "@legend"}
DASH = {"field": "series", "type": "nominal", "scale": "@dash", "legend": "@legend"}


_EDGE = {"stroke": "#b5b5b5", "strokeWidth": 0.5}


def cells(
    x: Spec, y: Spec, side: int, numbered: bool, gamma: bool = False, edges: bool = True
) -> Spec:
    """A map of colours, with numbers where there is place; ``gamma``: by the square root;
    ``edges``: lines around cells.
    """
    scale = {"domain": [0, 100], "range": _MAP, "interpolate": "lab"}
    if gamma:
        scale |= {"type": "sqrt"}
    legend = {"orient": "bottom", "gradientLength": 180, "direction": "horizontal"}
    colour = {
        "field": "value", "type": "quantitative", "title": "%", "scale": scale, "legend": legend,
    }  # fmt: skip
    white = {"test": f"datum.value > {_WHOLE_FROM}", "value": "#ffffff"}
    layer: list[Spec] = [
        {
            "mark": {"type": "rect", "cursor": "pointer", **(_EDGE if edges else {})},
            "encoding": {"color": colour, "tooltip": "@tooltip"},
        }
    ]
    if numbered:
        text = {"field": "value", "type": "quantitative", "format": ".0f"}
        ink = {"condition": white, "value": "#000000"}
        layer.append(
            {
                "mark": {"type": "text", "fontSize": 11, "cursor": "pointer"},
                "encoding": {"text": text, "color": ink, "tooltip": "@tooltip"},
            }
        )
    return {
        "width": {"step": side},
        "height": {"step": side},
        "encoding": {"x": x, "y": y},
        "layer": layer,
    }


ROWS = {
    "field": "panel", "type": "nominal", "title": None, "sort": order(),
    "axis": {"labelLimit": "@labels", "grid": True},
}  # fmt: skip
PERCENT = {
    "field": "value", "type": "quantitative", "title": "%", "scale": {"zero": False, "nice": True},
}  # fmt: skip
POINTS = {**PERCENT, "title": "percentage points", "scale": {"zero": True, "nice": True}}


_BESIDE = {"field": "series", "type": "nominal", "sort": order()}


def intervals(y: Spec, x: Spec, width: int = 200, beside: bool = False, **point: Any) -> Spec:
    """Points with their intervals, a row each; ``beside``: a row has several series."""
    bounds = {"x": {**x, "field": "low"}, "x2": {"field": "high"}}
    return {
        "width": f"@panel:{width}",
        "height": {"step": 44, "for": "position"} if beside else {"step": 20},
        "encoding": {"y": y} | ({"yOffset": _BESIDE} if beside else {}),
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": look() | bounds},
            {
                "mark": {"type": "point", "filled": True, "size": 70, "cursor": "pointer"},
                "encoding": look(x=x, shape=SHAPE, opacity={"value": 1}) | point,
            },
        ],
    }
