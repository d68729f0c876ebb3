"""Bars and lines of the trained classifier's accuracies, and all figures of a summary.

Each function draws one figure and returns it with its data as tidy rows (``dvc plots`` reads
those), or None where the grid has nothing to show. Accuracies are fractions in the rows and percent
in the figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaizen.params import ReportParams
from kaizen.plan.point import size_text
from kaizen.report import canvas
from kaizen.report.classes import Classes
from kaizen.report.head_figure import heads
from kaizen.report.losses import History, loss_terms
from kaizen.report.maps import confusion_matrix, per_task_heatmap
from kaizen.report.reference_lines import draw_levels, of_method
from kaizen.report.series import (
    METRIC_LABELS,
    METRIC_SHORT,
    VARIANT_LABELS,
    Series,
    method_label,
    metric_label,
)
from kaizen.report.tables import Row, write_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    Drawn = tuple[Figure, list[Row]] | None

_READER = "classifier"
_WIDE = 7.0  # inches above which panels stand below each other
_UNITS = {"proportion": "% of earlier images", "per_class": "images per class", "images": "images"}
_MAX_LABELLED_BARS = 24  # of one panel; more values over bars would run into each other


def draw_figures(
    series: Sequence[Series],
    histories: Sequence[History],
    classes: Classes | None,
    report: ReportParams,
    folder: Path,
    *,
    references: Sequence[Series] = (),
) -> list[Path]:
    """Draw every figure into ``folder`` in the formats of ``report``, each with its data as CSV;
    return their paths. ``references`` are the reference rows, thin lines where an axis has
    accuracies.
    """
    title = report.title
    draw: dict[str, Callable[[], Drawn]] = {
        "accuracy_bars": lambda: accuracy_bars(series, title, references),
        "per_task_heatmap": lambda: per_task_heatmap(series, _READER, title),
        "accuracy_over_steps": lambda: accuracy_over_steps(series, title, references),
        "heads": lambda: heads(series, title),
        "replay_size": lambda: replay_size(series, title, references),
        "confusion_matrix": lambda: confusion_matrix(series, classes, title),
        "loss_terms": lambda: loss_terms(series, histories, title),
    }
    paths: list[Path] = []
    with canvas.style():
        for name, drawn in ((name, draw_one()) for name, draw_one in draw.items()):
            if drawn is not None:
                figure, rows = drawn
                write_csv(rows, folder / f"{name}.csv")
                paths += canvas.save(figure, folder, name, report.formats)
    return paths


def accuracy_bars(series: Sequence[Series], title: str, references: Sequence[Series] = ()) -> Drawn:
    """Continual accuracy (left) and final accuracy (right): a group per SSL method, a bar per
    variant, a thin line per reference row.
    """
    panels = ("continual_accuracy", "final_accuracy")
    methods, kinds = _methods(series), canvas.distinct(series)
    by_place = {(one.method, one.key): one for one in series}
    count = len(methods) * len(kinds)
    labelled = count <= _MAX_LABELLED_BARS
    width = max(
        3.0, (0.26 if labelled else 0.13) * count + 0.3 * len(methods) + 0.6, 0.95 * len(methods)
    )
    stacked = width > _WIDE  # too wide for two side by side
    size = (width, 6.2) if stacked else (2 * width, 3.6)
    figure = canvas.new_figure(*size, f"{title}: accuracy by SSL method")
    axes = figure.subplots(2, 1) if stacked else figure.subplots(1, 2, sharey=True)
    handles: list[Any] = []
    lines: dict[str, Any] = {}
    for place, metric in enumerate(panels):
        blocks = []
        for kind in kinds:
            found = [by_place.get((method, kind.key)) for method in methods]
            blocks.append((kind, [one.estimate(_READER, metric) if one else None for one in found]))
        handles = canvas.bars(axes[place], [method_label(m) for m in methods], blocks, labelled)
        for x, method in enumerate(methods):
            for one in of_method(references, method):
                level = (x - 0.5, x + 0.5, one.estimate(_READER, metric).mean)
                lines |= draw_levels(axes[place], one, [level])
        axes[place].set_title(METRIC_LABELS[metric], pad=12)
    for panel in axes if stacked else axes[:1]:
        panel.set_ylabel("Accuracy (%)")
    canvas.legend(figure, [*handles, *lines.values()], [*(kind.label for kind in kinds), *lines])
    rows = [_estimate_row(one, metric) for one in (*series, *references) for metric in panels]
    return figure, rows


def accuracy_over_steps(
    series: Sequence[Series], title: str, references: Sequence[Series] = ()
) -> Drawn:
    """Mean accuracy over the tasks seen so far: a group per step, a bar per variant, a thin line
    per reference row, a panel per method.
    """
    methods, kinds = _methods(series), canvas.distinct(series)
    steps = [str(step) for step in range(series[0].runs[0].tasks)]
    labelled = len(steps) * len(kinds) <= _MAX_LABELLED_BARS
    panel_width = max(
        4.2, len(steps) * max(0.3, (0.2 if labelled else 0.1) * len(kinds) + 0.08) + 0.6
    )
    columns = 1 if len(methods) == 1 or panel_width > _WIDE else 2
    rows_of_panels = -(-len(methods) // columns)
    figure = canvas.new_figure(
        max(6.0, columns * panel_width),
        rows_of_panels * 2.5 + 0.9,
        f"{title}: accuracy on the tasks seen so far",
    )
    grid = figure.subplots(rows_of_panels, columns, squeeze=False, sharey=True)
    handles: dict[str, Any] = {}
    lines: dict[str, Any] = {}
    for axes, method in zip(grid.flat, methods, strict=False):
        blocks = [(one, one.seen(_READER)) for one in series if one.method == method]
        drawn = canvas.bars(axes, steps, blocks, labelled)
        handles.update({one.key: handle for (one, _), handle in zip(blocks, drawn, strict=True)})
        for one in of_method(references, method):
            levels = [(x - 0.5, x + 0.5, e.mean) for x, e in enumerate(one.seen(_READER))]
            lines |= draw_levels(axes, one, levels)
        axes.set_title(method_label(method), pad=12)
        axes.set_xlabel("After step")
    for axes in grid.flat[len(methods) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("Accuracy (%)")
    canvas.legend(
        figure,
        [*(handles[kind.key] for kind in kinds), *lines.values()],
        [*(kind.label for kind in kinds), *lines],
    )
    rows = [
        {
            **one.columns(),
            "step": step,
            "mean": value.mean,
            "interval": value.interval,
            "n": value.n,
        }
        for one in (*series, *references)
        for step, value in enumerate(one.seen(_READER))
    ]
    return figure, rows


def replay_size(series: Sequence[Series], title: str, references: Sequence[Series] = ()) -> Drawn:
    """CA and FA (left), F and FT (right) against replay size; None unless the grid has several
    sizes.

    Sizes stand at equal distances, whatever their values. One row of panels per method; the thin
    lines are the reference rows' FA.
    """
    replayed = [one for one in series if one.replay_size is not None]
    sizes = sorted({(one.replay_unit, float(one.replay_size or 0)) for one in replayed})
    if len(sizes) < 2:
        return None
    methods = _methods(replayed)
    panels = (("continual_accuracy", "final_accuracy"), ("forgetting", "forward_transfer"))
    figure = canvas.new_figure(
        max(7.6, 1.3 * len(sizes) + 2),
        2.5 * len(methods) + 1.3,
        f"{title}: size of the replay memory",
    )
    grid = figure.subplots(len(methods), 2, squeeze=False, sharex=True)
    handles: dict[str, Any] = {}
    lines: dict[str, Any] = {}
    for row, method in enumerate(methods):
        for axes, metrics in zip(grid[row], panels, strict=True):
            handles.update(
                _replay_lines(
                    axes, [one for one in replayed if one.method == method], sizes, metrics
                )
            )
            if row == 0:
                axes.set_title(
                    f"{METRIC_LABELS[metrics[0]]} and {METRIC_LABELS[metrics[1]].lower()}"
                )
        for one in of_method(references, method):
            final = one.estimate(_READER, "final_accuracy").mean
            lines |= draw_levels(grid[row][0], one, [(-0.4, len(sizes) - 0.6, final)])
        canvas.percent_axis(grid[row][0])
        grid[row][0].set_ylabel(
            f"{method_label(method)}\naccuracy (%)" if len(methods) > 1 else "Accuracy (%)"
        )
        grid[row][1].grid(axis="y")
        grid[row][1].axhline(0, color=canvas.INK, linewidth=0.8)
        grid[row][1].set_ylabel("Percentage points")
    units = {unit for unit, _ in sizes}
    labels = [size_text(size, unit) for unit, size in sizes]
    for axes in grid[-1]:
        axes.set_xticks(
            range(len(sizes)), labels if len(units) > 1 else [label.split()[0] for label in labels]
        )
        axes.set_xlim(-0.4, len(sizes) - 0.6)
        axes.set_xlabel(
            f"Replay size ({_UNITS[sizes[0][0]]})" if len(units) == 1 else "Replay size"
        )
    handles |= {f"{name}: {METRIC_SHORT['final_accuracy']}": line for name, line in lines.items()}
    canvas.legend(figure, list(handles.values()), list(handles))
    shown = [(one, metric) for one in replayed for pair in panels for metric in pair]
    shown += [(one, "final_accuracy") for one in references]
    return figure, [_estimate_row(one, metric) for one, metric in shown]


def _replay_lines(
    axes: Any, replayed: Sequence[Series], sizes: Sequence[Any], metrics: Sequence[str]
) -> dict[str, Any]:
    """A method's two metrics of each variant against replay size, with intervals; a handle per
    label.
    """
    variants = list(dict.fromkeys(one.variant for one in replayed))
    handles = {}
    for rank, variant in enumerate(variants):
        points = [one for one in replayed if one.variant == variant]
        colour = points[-1].colour  # the largest size's, which is the variant's own
        for metric, marker, line in zip(metrics, "os", ("-", "--"), strict=True):
            estimates = [
                (sizes.index((one.replay_unit, one.replay_size)), one.estimate(_READER, metric))
                for one in points
            ]
            drawn = [
                (x, 100 * e.mean, 100 * (e.interval or 0.0))
                for x, e in estimates
                if e.mean is not None
            ]
            if not drawn:
                continue
            # A small shift sideways, so that intervals of several variants do not hide each other.
            shift = 0.07 * (rank - (len(variants) - 1) / 2)
            xs, ys, spread = (
                [x + shift for x, _, _ in drawn],
                [y for _, y, _ in drawn],
                [d for _, _, d in drawn],
            )
            fill = colour if line == "-" else "white"
            bars = axes.errorbar(
                xs,
                ys,
                yerr=spread if any(spread) else None,
                marker=marker,
                linestyle=line,
                color=colour,
                mfc=fill,
                markersize=5,
                capsize=3,
                elinewidth=0.9,
            )
            name = VARIANT_LABELS.get(variant, variant)
            handles[f"{name}: {metric_label(metric)}"] = bars.lines[0]
    return handles


def _methods(series: Sequence[Series]) -> list[str]:
    """The methods, in the grid's order."""
    return list(dict.fromkeys(one.method for one in series))


def _estimate_row(one: Series, metric: str) -> Row:
    """A series' estimate of a metric as a tidy row."""
    value = one.estimate(_READER, metric)
    return {
        **one.columns(),
        "metric": metric,
        "mean": value.mean,
        "interval": value.interval,
        "n": value.n,
    }
