"""The page's figures, in its order: those of the report, and what the page alone has."""

from __future__ import annotations

from typing import Any

from kaizen.page.results import Results
from kaizen.report.figures.curves import losses, over_steps, replay
from kaizen.report.figures.maps import classes, confusion, matrix
from kaizen.report.figures.points import differences, headline, heads
from kaizen.report.figures.specs import figure


def figures(results: Results, there: set[str]) -> list[dict[str, Any]]:
    """The figures of the page in its order: those whose rows are ``there``."""
    sizes = results.replay_sizes
    found = [
        matrix(results.tasks),
        over_steps(),
        headline(),
        heads(),
        *([replay([unit for unit, _ in sizes])] if len(sizes) > 1 else []),
        differences(),
        classes(results),
        confusion(results),
        losses(),
        _time(),
    ]
    return [figure for figure in found if figure["data"] in there]


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
        "the machine. Memory is not shown (peak_mb in a node's run.json).",
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
