"""The figures that are maps of colours: accuracies by task and by class, and confusion."""

from __future__ import annotations

import json
from typing import Any

from kaizen.report.figures.grid import Grid, shown
from kaizen.report.figures.specs import (
    MOST_CELLS_ABREAST,
    MOST_NAMED,
    MOST_NUMBERED,
    READ,
    ROWS,
    SEEDS,
    SERIES,
    cells,
    figure,
    order,
    panels,
    value_columns,
)


def matrix(tasks: int, maps: int = 1) -> dict[str, Any]:
    """Accuracy on each task after each step, a panel per series; ``maps`` panels at once have to
    be seen, where they cannot be filtered.
    """
    numbered = tasks <= MOST_NUMBERED and maps * tasks <= MOST_CELLS_ABREAST
    side = 32 if tasks <= 7 else 26 if numbered else max(8, 300 // tasks)
    axis = {"labelAngle": 0, "labelOverlap": True}
    inner = cells(
        {"field": "k", "type": "ordinal", "title": "task", "axis": axis},
        {"field": "t", "type": "ordinal", "title": "after step", "axis": axis},
        side,
        numbered,
    )
    return figure(
        "matrix",
        "Accuracy on each task after each step",
        "Read downwards, a column shows how a task is forgotten; the diagonal is each task just "
        "after it was learnt. Tasks that have not come yet are left empty.",
        [
            *SERIES, *READ, *SEEDS, ("t", "After step", "count"), ("k", "Task", "count"),
            *value_columns("Accuracy (%)"),
        ],
        panels(inner, width=max(150, side * tasks + 60)),
        data="cells",
        reader=True,
        seeds=True,
        wide=False,
    )  # fmt: skip


def classes(grid: Grid) -> dict[str, Any]:
    """Accuracy on each class after the last step, a row per series."""
    count = len(grid.first)
    side = 30 if count <= MOST_NUMBERED else max(7, 640 // count)
    axis = {"labelLimit": 90, "labelAngle": -90, "labels": count <= 2 * MOST_NAMED}
    x = {
        "field": "class", "type": "nominal", "title": "class, in the stream's order",
        "sort": order("place"), "axis": axis,
    }  # fmt: skip
    y = {**ROWS, "axis": {"labelLimit": "@labels", "grid": False}}
    spec = cells(x, y, side, count <= MOST_NUMBERED)
    spec["height"] = {"step": 24}
    return figure(
        "classes",
        "Accuracy on each class after the last step",
        "The trained classifier's. Classes are in the order in which their tasks come.",
        [
            *SERIES, *SEEDS, ("class", "Class", "text"), ("task", "Task", "count"),
            *value_columns("Accuracy (%)"),
        ],
        spec,
        data="classes",
        reader=False,
        seeds=True,
    )  # fmt: skip


def _class_axis(grid: Grid | None, named: bool) -> dict[str, Any]:
    """An axis of classes with lines around them, darker between the tasks; with many classes tasks
    in the place of names, each where it begins.
    """
    names = [shown(name) for name in grid.classes.names] if grid and grid.classes else []
    starts: dict[int, str] = {}
    for task, label in sorted(
        (task, label) for label, task in (grid.first if grid else {}).items()
    ):
        starts.setdefault(task, names[label])
    edge = {
        "condition": {"test": f"indexof({json.dumps([*starts.values()])}, datum.value) >= 0",
                      "value": "#888888"},
        "value": "#e4e4e4",
    }  # fmt: skip
    axis = {"grid": True, "tickBand": "extent", "zindex": 1, "ticks": False, "gridColor": edge}
    if named:
        return {**axis, "labelLimit": 70, "labelOverlap": False}
    tasks = json.dumps({name: str(task) for task, name in starts.items()})
    return {
        **axis, "values": list(starts.values()), "labelExpr": f"({tasks})[datum.value]",
        "labelOverlap": "greedy", "gridColor": "#c4c4c4", "gridWidth": 0.6,
    }  # fmt: skip


def confusion(grid: Grid | None) -> dict[str, Any]:
    """What each class is taken for, a panel per series; of any classes where there is no grid."""
    count = len(grid.first) if grid else MOST_NAMED
    numbered, named = count <= MOST_NUMBERED, count <= MOST_NAMED
    side = 22 if numbered else 20 if grid is None else max(3, 280 // count)
    axis = _class_axis(grid, named)
    x = {
        "field": "predicted", "type": "nominal", "title": "taken for" if named else "taken for, "
        "by task", "sort": order("q"), "axis": {**axis, "labelAngle": -90 if named else 0},
    }  # fmt: skip
    y = {
        "field": "class", "type": "nominal", "title": f"true class{'' if named else ', by task'}",
        "sort": order("place"), "axis": axis,
    }  # fmt: skip
    inner = cells(x, y, side, numbered, gamma=not numbered and grid is not None, edges=False)
    # What never occurs has no cell: white, as 0 is, in the dark too.
    inner["view"] = {"fill": "#ffffff", "stroke": "#e4e4e4"}
    return figure(
        "confusion",
        "What each class is taken for after the last step",
        "By the trained classifier, in percent of the true class, mean over the seeds. A dark "
        "column is a class that others are mistaken for; a row without a mark has no test image."
        + ("" if numbered else " Colours follow the square root, so that rare errors show."),
        [
            *SERIES, ("class", "True class", "text"), ("predicted", "Taken for", "text"),
            ("value", "Share (%)", "percent"), ("n", "Seeds", "count"),
        ],
        panels(inner, width=side * count + 100),
        data="confusion",
        reader=False,
        seeds=False,
    )  # fmt: skip
