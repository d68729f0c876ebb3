"""The figures that are maps of colours: accuracy per task and step, and the final confusion of the
classes.

Each method has a row of panels, or several where its variants do not fit next to each other.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kaizen.report import canvas
from kaizen.report.classes import Classes, shares
from kaizen.report.series import Series, method_label
from kaizen.report.tables import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Drawn = tuple[Figure, list[Row]] | None

_EMPTY_CELL = "#EEEEEE"
_COLOURS = "YlGnBu"
_WHITE_FROM = 55  # percent: above, a cell is so dark that its number is white
_WIDTH = 14.0  # inches that the panels of one row take at most
_LETTER = 0.085  # inches of a panel's title per letter
# Of the confusion matrix:
_MAX_NUMBERED = 12  # classes; with more, a cell has no place for its number
_LEAST_NUMBER = 0.005  # a share that is written
_GAMMA = 0.5  # without numbers: errors spread over many classes are pale, each for itself
_MAX_NAMED = 30  # classes; with more, tasks are written next to the matrix instead of names
_NAME_LETTERS = 14
_BORDER = "#888888"


def per_task_heatmap(series: Sequence[Series], reader: str, title: str) -> Drawn:
    """Accuracy on each task after each step, mean over seeds; tasks not yet seen stay grey."""
    import numpy as np

    tasks = series[0].runs[0].tasks
    size = 8.0 if tasks <= 7 else 7.0
    side = max(1.6, (0.37 if tasks <= 7 else 0.255) * tasks)
    figure, panels = _grid(
        series,
        side,
        0.0,
        title=f"{title}: accuracy on each task after each step",
        x_label="Task",
        y_label="after step",
    )
    image = None
    for one, axes in panels:
        percent = 100 * np.asarray(one.mean_matrix(reader), dtype=np.float64)
        seen = np.tril(np.isfinite(percent))
        image = _map(axes, np.ma.masked_array(percent, ~seen), seen, size)
        axes.set_xticks(range(tasks), [str(task) for task in range(tasks)], fontsize=size)
        axes.set_yticks(range(tasks), [str(task) for task in range(tasks)], fontsize=size)
        axes.set_xticks([task - 0.5 for task in range(tasks)], minor=True)
        axes.set_yticks([task - 0.5 for task in range(tasks)], minor=True)
        axes.grid(which="minor", color="white", linewidth=1.2)
    _colour_bar(figure, image, side, "Accuracy (%)")
    rows = [
        {**one.columns(), "step": step, "task": task, "accuracy": accuracy, "n": len(one.runs)}
        for one in series
        for step, values in enumerate(one.mean_matrix(reader))
        for task, accuracy in enumerate(values[: step + 1])
        if accuracy is not None
    ]
    return figure, rows


def confusion_matrix(series: Sequence[Series], classes: Classes | None, title: str) -> Drawn:
    """The classifier's confusion after the last step, mean over seeds, each row (a true class)
    adding up to 100 %.

    Classes in the stream's order, tasks apart by lines; classes that no task has come last, where
    an image was taken for one. The data are the entries that are not 0. None where the confusion is
    not known.
    """
    import numpy as np

    series = [one for one in series if all(run.confusion for run in one.runs)]
    if classes is None or not series:
        return None
    first = classes.first_task()
    last = [run.confusion[-1] for one in series for run in one.runs]
    order = [
        *first,
        *sorted({label for counts in last for pair in counts for label in pair} - {*first}),
    ]
    means = [
        np.mean([shares(run.confusion[-1], order) for run in one.runs], axis=0) for one in series
    ]
    side = max(1.6, 0.25 * len(order)) if len(order) <= _MAX_NUMBERED else 2.55
    # SVG files may not hold control characters, and no font has them.
    names = [
        "".join(c if c.isprintable() else "\ufffd" for c in classes.names[label]) for label in order
    ]
    names = [
        name if len(name) <= _NAME_LETTERS else f"{name[: _NAME_LETTERS - 1]}…" for name in names
    ]
    named = len(order) <= _MAX_NAMED
    margin = 0.075 * max(map(len, names)) if named else 0.0
    x_label, y_label = (
        ("Predicted class", "true class")
        if named
        else ("Task of the predicted class", "task of the true class")
    )
    figure, panels = _grid(
        series,
        side,
        margin,
        title=f"{title}: what each class is taken for after the last step",
        x_label=x_label,
        y_label=y_label,
    )
    starts = [
        rank
        for rank, label in enumerate(order)
        if rank == 0 or first.get(label) != first.get(order[rank - 1])
    ]
    image = None
    for (_, axes), mean in zip(panels, means, strict=True):
        numbered = (mean >= _LEAST_NUMBER) & (len(order) <= _MAX_NUMBERED)
        image = _map(
            axes,
            np.ma.masked_invalid(100 * mean),
            numbered,
            7.0,
            gamma=1.0 if numbered.any() else _GAMMA,
        )
        for start in starts[1:]:
            axes.axhline(start - 0.5, color=_BORDER, linewidth=0.6)
            axes.axvline(start - 0.5, color=_BORDER, linewidth=0.6)
        if named:
            size = 7.0 if len(order) <= _MAX_NUMBERED else 5.5
            axes.set_xticks(range(len(order)), names, fontsize=size, rotation=90)
            axes.set_yticks(range(len(order)), names, fontsize=size)
        else:
            ends = [*starts[1:], len(order)]
            centres = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
            tasks = [str(first.get(order[start], "none")) for start in starts]
            axes.set_xticks(centres, tasks, fontsize=8)
            axes.set_yticks(centres, tasks, fontsize=8)
    _colour_bar(figure, image, side, "Share of the true class (%)")
    rows = [
        {
            **one.columns(), "label": order[true], "class": classes.names[order[true]],
            "predicted": order[predicted], "predicted_class": classes.names[order[predicted]],
            "share": float(mean[true, predicted]), "n": len(one.runs),
        }
        for one, mean in zip(series, means, strict=True)
        for true, predicted in np.argwhere(mean > 0).tolist()
    ]  # fmt: skip
    return figure, rows


def _grid(
    series: Sequence[Series], side: float, margin: float, *, title: str, x_label: str, y_label: str
) -> tuple[Figure, list[tuple[Series, Axes]]]:
    """A figure with a square panel of ``side`` inches per series, all equally labelled; ``margin``
    for tick labels.

    The panels of a kind stand below each other. Axes are those of the outer panels only.
    """
    methods, kinds = list(dict.fromkeys(one.method for one in series)), canvas.distinct(series)
    columns = min(len(kinds), max(1, int(_WIDTH / (side + 0.25))))
    rows_each = -(-len(kinds) // columns)
    columns = -(-len(kinds) // rows_each)
    rows = len(methods) * rows_each
    letters = max(17, int(side / _LETTER))
    titles = {kind.key: _wrapped(kind.label, letters) for kind in kinds}
    lines = max(text.count("\n") + 1 for text in titles.values())
    height = rows * (side + 0.2) + (rows if rows_each > 1 else 1) * 0.2 * lines + margin + 1.2
    if len(kinds) % columns:  # labels between two rows
        height += margin + 0.4
    figure = canvas.new_figure(columns * (side + 0.25) + margin + 1.8, height, title, square=True)
    grid = figure.subplots(rows, columns, squeeze=False)
    place = {
        (method, kind.key): (rank * rows_each + number // columns, number % columns)
        for rank, method in enumerate(methods)
        for number, kind in enumerate(kinds)
    }
    taken = {place[one.method, one.key] for one in series}
    panels = []
    for one in series:
        row, column = place[one.method, one.key]
        axes = grid[row][column]
        if rows_each > 1 or row == min(r for r, c in taken if c == column):
            axes.set_title(titles[one.key])
        if column == min(c for r, c in taken if r == row):
            axes.set_ylabel(
                f"{method_label(one.method)}\n{y_label}"
                if len(methods) > 1
                else y_label.capitalize()
            )
        else:
            axes.tick_params(labelleft=False)
        if row == max(r for r, c in taken if c == column):
            axes.set_xlabel(x_label)
        else:
            axes.tick_params(labelbottom=False)
        panels.append((one, axes))
    for row, column in {(r, c) for r in range(rows) for c in range(columns)} - taken:
        grid[row][column].set_axis_off()
    return figure, panels


def _map(axes: Axes, percent: Any, numbered: Any, size: float, gamma: float = 1.0) -> Any:
    """Draw a masked [K, K] array of percentages, rows downwards; its number, ``size`` points high,
    in the cells where ``numbered``. A colour stands for (percent / 100) ** ``gamma``.
    """
    import numpy as np
    from matplotlib.colors import PowerNorm

    axes.set_facecolor(_EMPTY_CELL)
    image = axes.imshow(percent, cmap=_COLOURS, norm=PowerNorm(gamma, vmin=0, vmax=100))
    for row, column in np.argwhere(numbered):
        value = percent[row, column]
        ink = "white" if value > _WHITE_FROM else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=size, color=ink)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    return image


def _colour_bar(figure: Figure, image: Any, side: float, label: str) -> None:
    """A colour bar for all panels, about as high as one of them."""
    height = float(figure.get_size_inches()[1])
    bar = figure.colorbar(
        image, ax=figure.axes, shrink=min(1.0, max(2.2, side) / height), aspect=18, pad=0.02
    )
    bar.set_label(label)
    bar.outline.set_visible(False)


def _wrapped(label: str, letters: int) -> str:
    """``label`` in lines of at most so many letters, broken after its comma first."""
    parts = [label] if len(label) <= letters else label.split(", ")
    return ",\n".join("\n".join(textwrap.wrap(part, letters)) for part in parts)
