"""Accuracy per class and the figure of the confusion, against the counts that they were made
from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from made_up import CLASSES, IMAGES, TASKS, THREE, grid
from matplotlib.axes import Axes

from kaizen.evaluation.results import RunResult
from kaizen.plan.point import Point
from kaizen.report import canvas, maps
from kaizen.report.classes import Classes, per_class_rows, shares
from kaizen.report.series import group
from kaizen.report.tables import Row

ORDER = [3, 0, 5, 1, 2, 4]  # of the classes in the stream


def drawn(runs: Sequence[RunResult], classes: Classes = CLASSES) -> tuple[list[Axes], list[Row]]:
    """The panels of the confusion figure and its rows."""
    with canvas.style():
        found = maps.confusion_matrix(group(runs, []), classes, "t")
        assert found is not None
        figure, rows = found
        figure.draw_without_rendering()
    return figure.axes[:-1], rows  # the last one is the colour bar


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
    axes, rows = drawn([run], classes)
    assert [label.get_text() for label in axes[0].get_xticklabels()] == ["cat", "ant", "bee", "dog"]
    found = {(row["class"], row["predicted_class"]): row["share"] for row in rows}
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
    many = Classes(tuple(f"class {label}" for label in range(40)), (tuple(range(35)),))
    axes, _ = drawn(
        [RunResult(run.point, run.matrices, [{(label, label + 2): 1 for label in range(35)}])], many
    )
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["0", "none"]


def test_the_figure_shows_the_last_step_in_the_order_of_the_stream() -> None:
    runs, _ = grid(("simclr", "byol"), THREE, (0, 1))
    axes, rows = drawn(runs)
    assert [panel.get_title() for panel in axes] == [
        "Kaizen",
        "CaSSLe",
        "No distillation",
        "",
        "",
        "",
    ]
    assert [panel.get_ylabel() for panel in axes] == [
        "SimCLR\ntrue class",
        "",
        "",
        "BYOL\ntrue class",
        "",
        "",
    ]
    of_seeds = [
        run.confusion[-1]
        for run in runs
        if (run.point.method, run.point.variant) == ("byol", "cassle")
    ]
    expected = np.array(
        [[np.mean([c.get((y, p), 0) / IMAGES for c in of_seeds]) for p in ORDER] for y in ORDER]
    )
    shown = axes[4].get_images()[0].get_array()
    assert shown is not None
    np.testing.assert_allclose(shown, 100 * expected)
    np.testing.assert_allclose(shown.sum(axis=1), 100)
    assert [label.get_text() for label in axes[3].get_yticklabels()] == [
        "dog",
        "ant",
        "fox",
        "bee",
        "cat",
        "eel",
    ]
    ends = [np.asarray(line.get_xdata()) for line in axes[4].lines]
    borders = [x[0] for x in ends if x[0] == x[1]]
    assert borders == [1.5, 3.5]
    assert len(axes[4].lines) == 4
    texts = {text.get_position(): text.get_text() for text in axes[4].texts}
    assert texts == {
        (x, y): f"{100 * expected[y][x]:.0f}" for y, x in np.argwhere(expected >= 0.005)
    }
    chosen = [row for row in rows if (row["method"], row["variant"]) == ("byol", "cassle")]
    found = {(row["label"], row["predicted"]): row["share"] for row in chosen}
    assert found == pytest.approx(
        {(ORDER[y], ORDER[p]): expected[y][p] for y, p in np.argwhere(expected > 0)}
    )
    assert all(
        row["predicted_class"] == CLASSES.names[row["predicted"]] and row["n"] == 2
        for row in chosen
    )


def test_many_classes_are_named_by_their_tasks() -> None:
    (axes, _), (few, _) = drawn(*of_classes(100, 10)), drawn(*of_classes(20, 5))
    assert [label.get_text() for label in axes[0].get_xticklabels()] == [
        str(task) for task in range(10)
    ]
    assert axes[0].get_xticks().tolist() == [4.5 + 10 * task for task in range(10)]
    assert axes[0].get_xlabel() == "Task of the predicted class"
    assert len(axes[0].texts) == len(few[0].texts) == 0
    assert [label.get_text() for label in few[0].get_xticklabels()[:2]] == ["the class no.…"] * 2
    assert len(few[0].lines) == 2 * 3


def test_classes_that_every_task_has_are_not_divided() -> None:
    runs, classes = of_classes(4, 2)
    axes, _ = drawn(runs, Classes(classes.names, ((1, 0, 3, 2),) * 2))
    assert list(axes[0].lines) == []
    shown = axes[0].get_images()[0].get_array()
    assert shown is not None and shown.tolist() == (100 * np.eye(4)).tolist()


def test_without_confusion_there_is_no_figure() -> None:
    runs, classes = of_classes(4, 2)
    blind = RunResult(Point("simclr", "kaizen", None, "proportion", 0), {"classifier": [[0.5]]})
    assert maps.confusion_matrix(group([blind], []), classes, "t") is None
    assert maps.confusion_matrix(group(runs, []), None, "t") is None
    assert per_class_rows(group([blind], []), classes) == []


def test_maps_that_do_not_fit_beside_each_other_stand_in_several_rows() -> None:
    sizes = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    runs, _ = grid(("simclr", "byol"), THREE, sizes=sizes)
    axes, _ = drawn(runs)
    panels = [panel for panel in axes if panel.axison]
    titles = ["Kaizen,\n" if "\n" in panel.get_title() else panel.get_title() for panel in panels]
    assert len(panels) == 2 * 9 and all(titles)
    boxes = [panel.get_position() for panel in panels]
    assert len({round(box.y0, 3) for box in boxes}) == 4
    lowest = min(box.y0 for box in boxes)
    assert all(
        panel.get_xlabel()
        for panel, box in zip(panels, boxes, strict=True)
        if box.y0 < lowest + 1e-6
    )
