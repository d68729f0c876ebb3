"""Accuracy per class and the figure of the confusion, against the counts that they were made
from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from made_up import CLASSES, IMAGES, TASKS, THREE, grid
from svg import Drawing, read

from kaizen.evaluation.results import RunResult
from kaizen.plan.point import Point
from kaizen.report.classes import Classes, per_class_rows, shares
from kaizen.report.figures import maps
from kaizen.report.figures.expand import first_rows
from kaizen.report.figures.grid import Grid, words
from kaizen.report.figures.paper import draw
from kaizen.report.figures.rows import ROWS
from kaizen.report.figures.summary import figures
from kaizen.report.series import group

ORDER = [3, 0, 5, 1, 2, 4]  # of the classes in the stream


def drawn(
    runs: Sequence[RunResult], classes: Classes = CLASSES
) -> tuple[Drawing, list[dict[str, Any]]]:
    """The confusion figure and the rows that it is drawn from."""
    shown = Grid(series=tuple(group(runs, [])), references=(), classes=classes)
    columns, make = ROWS["confusion"]
    names, figure = words(shown), maps.confusion(shown)
    data = {"columns": columns.split(), "rows": list(make(shown, 0))}
    rows = first_rows(figure, data, names)
    return read(draw(figure, rows, names, [])), rows


def texts(drawing: Drawing, role: str) -> list[str]:
    return [shape.text for shape in drawing.shapes if shape.text and role in shape.role]


def of_classes(count: int, per_task: int) -> tuple[list[RunResult], Classes]:
    """One run of so many classes that knows everything; the tasks are the classes in descending
    order.
    """
    labels = list(range(count))[::-1]
    tasks = tuple(tuple(labels[start : start + per_task]) for start in range(0, count, per_task))
    steps = [{(label, label): 3 for label in range(count)}] * len(tasks)
    run = RunResult(
        Point("simclr", "kaizen", None, "proportion", 0),
        {"classifier": [[1.0] * len(tasks)] * len(tasks)},
        steps,
    )
    return [run], Classes(tuple(f"the class no. {label}" for label in range(count)), tasks)


def test_accuracy_per_class() -> None:
    runs, _ = grid(variants=THREE, seeds=(0, 1))
    rows = per_class_rows(group(runs, []), CLASSES)
    assert len(rows) == len(runs) * TASKS * len(ORDER)
    assert [row["label"] for row in rows[: len(ORDER)]] == ORDER
    assert [row["class"] for row in rows[: len(ORDER)]] == [
        "dog",
        "ant",
        "fox",
        "bee",
        "cat",
        "eel",
    ]
    assert [row["task"] for row in rows[: len(ORDER)]] == [0, 0, 1, 1, 2, 2]
    found = {
        (row["variant"], row["seed"], row["step"], row["label"]): row["accuracy"] for row in rows
    }
    for run in runs:
        for step, counts in enumerate(run.confusion):
            for label in ORDER:
                expected = counts.get((label, label), 0) / IMAGES
                assert found[run.point.variant, run.point.seed, step, label] == pytest.approx(
                    expected
                )


def test_a_class_without_images_has_no_accuracy() -> None:
    counts = {(0, 0): 1, (0, 2): 3, (1, 2): 5}
    run = RunResult(
        Point("simclr", "kaizen", None, "proportion", 0), {"classifier": [[0.1]]}, [counts]
    )
    rows = per_class_rows(group([run], []), Classes(("a", "b", "c"), ((2, 1, 0),)))
    assert [(row["class"], row["accuracy"]) for row in rows] == [("b", 0.0), ("a", 0.25)]
    nan = float("nan")
    np.testing.assert_array_equal(
        shares(counts, [2, 1, 0]), [[nan] * 3, [1.0, 0, 0], [0.75, 0, 0.25]]
    )


def test_an_image_taken_for_a_class_that_no_task_has_is_shown() -> None:
    """`split.classes` may leave classes out, for which the classifier has logits all the same."""
    counts = {(0, 0): 1, (0, 1): 3, (2, 2): 2, (2, 3): 2}
    run = RunResult(
        Point("simclr", "kaizen", None, "proportion", 0), {"classifier": [[0.5]]}, [counts]
    )
    classes = Classes(("ant", "bee", "cat", "dog"), ((2,), (0,)))
    drawing, rows = drawn([run], classes)
    names = ["cat", "ant", "bee", "dog"]
    assert texts(drawing, "role-axis-label") == ["cat", "ant", *names]
    found = {(row["class"], row["predicted"]): row["v"] for row in rows}
    assert found == {
        ("cat", "cat"): 0.5,
        ("cat", "dog"): 0.5,
        ("ant", "ant"): 0.25,
        ("ant", "bee"): 0.75,
    }
    accuracies = {
        row["class"]: row["accuracy"] for row in per_class_rows(group([run], []), classes)
    }
    assert accuracies == {"cat": 0.5, "ant": 0.25}


def test_the_figure_shows_the_last_step_in_the_order_of_the_stream() -> None:
    runs, _ = grid(("simclr", "byol"), THREE, (0, 1))
    drawing, rows = drawn(runs)
    labels = ("Kaizen", "CaSSLe", "No distillation")
    headers = [f"{method}: {label}" for method in ("SimCLR", "BYOL") for label in labels]
    assert texts(drawing, "cell   mark-group role-title") == headers
    of_seeds = [
        run.confusion[-1]
        for run in runs
        if (run.point.method, run.point.variant) == ("byol", "cassle")
    ]
    expected = np.array(
        [[np.mean([c.get((y, p), 0) / IMAGES for c in of_seeds]) for p in ORDER] for y in ORDER]
    )
    chosen = [row for row in rows if row["panel"] == "BYOL: CaSSLe"]
    found = {(row["c"], row["p"]): row["v"] for row in chosen}
    assert found == pytest.approx(
        {(ORDER[y], ORDER[p]): expected[y][p] for y, p in np.argwhere(expected > 0)}
    )
    assert all(row["predicted"] == CLASSES.names[row["p"]] and row["n"] == 2 for row in chosen)
    names = ["ant", "dog", "bee", "fox", "cat", "eel"]  # by task, then by label
    assert texts(drawing, "role-axis-label")[: len(names)] == names
    written = texts(drawing, "mark-text role-mark")
    shares_shown = sorted(row["value"] for row in rows)
    assert sorted(map(int, written)) == pytest.approx(shares_shown, abs=0.501)
    # Lines between cells, darker where a task begins: of three tasks, in each of six panels.
    grid_lines = drawing.of("role-axis-grid", "line")
    dark = [line for line in grid_lines if line.attributes["stroke"] == "#888888"]
    assert 0 < len(dark) < len(grid_lines)
    assert len({round(line.x, 1) for line in dark if float(line.attributes["y2"])}) >= 3


def test_many_classes_are_named_by_their_tasks() -> None:
    (many, _), (few, _) = drawn(*of_classes(100, 10)), drawn(*of_classes(20, 5))
    tasks = [str(task) for task in range(10)]
    assert texts(many, "role-axis-label") == [*tasks, *tasks]
    assert "taken for, by task" in texts(many, "role-axis-title")
    assert texts(many, "mark-text role-mark") == texts(few, "mark-text role-mark") == []
    assert (
        texts(few, "role-axis-label")[0].startswith("the class")
        and len(texts(few, "role-axis-label")) == 2 * 20
    )


def test_without_confusion_there_is_no_figure() -> None:
    runs, classes = of_classes(4, 2)
    blind = RunResult(Point("simclr", "kaizen", None, "proportion", 0), {"classifier": [[0.5]]})
    shown = Grid(series=tuple(group([blind], [])), references=(), classes=classes)
    assert list(ROWS["confusion"][1](shown, 0)) == []
    unknown = Grid(series=tuple(group(runs, [])), references=(), classes=None)
    assert "confusion_matrix" not in dict(figures(unknown))
    assert per_class_rows(group([blind], []), classes) == []


def test_maps_that_do_not_fit_beside_each_other_stand_in_several_rows() -> None:
    sizes = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    runs, _ = grid(("simclr", "byol"), THREE, sizes=sizes)
    drawing, _ = drawn(runs)
    headers = [s for s in drawing.shapes if s.text and "cell" in s.role and "role-title" in s.role]
    assert len(headers) == 2 * 9
    assert len({round(shape.y) for shape in headers}) >= 2
    assert all(0 < shape.x < drawing.width / drawing.scale for shape in headers)
