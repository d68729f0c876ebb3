"""The page's figures that are maps of colours: accuracies by task and by class, and confusion."""

from __future__ import annotations

from typing import Any

from kaizen.page.results import Results
from kaizen.page.specs import (
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


def matrix(tasks: int) -> dict[str, Any]:
    """Accuracy on each task after each step, a panel per series."""
    numbered = tasks <= MOST_NUMBERED
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


def classes(results: Results) -> dict[str, Any]:
    """Accuracy on each class after the last step, a row per series."""
    count = len(results.classes.first_task())
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


def confusion(results: Results) -> dict[str, Any]:
    """What each class is taken for, a panel per series."""
    count = len(results.classes.first_task())
    numbered, named = count <= MOST_NUMBERED, count <= MOST_NAMED
    side = 22 if numbered else max(3, 280 // count)
    axis = {"labelLimit": 70, "labels": named, "ticks": named, "labelOverlap": False}
    x = {
        "field": "predicted", "type": "nominal", "title": "taken for", "sort": order("q"),
        "axis": {**axis, "labelAngle": -90},
    }  # fmt: skip
    y = {
        "field": "class", "type": "nominal", "title": "true class", "sort": order("place"),
        "axis": axis,
    }  # fmt: skip
    inner = cells(x, y, side, numbered, gamma=not numbered)
    # What never occurs has no cell: white, as 0 is, in the dark too.
    inner["view"] = {"fill": "#ffffff", "stroke": "#b5b5b5"}
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
