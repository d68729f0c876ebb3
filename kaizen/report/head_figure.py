"""The figure of the heads: what each makes of the same features."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kaizen.report import canvas
from kaizen.report.series import HEAD_SHORT, METRIC_LABELS, Series, method_label
from kaizen.report.tables import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS = ("continual_accuracy", "final_accuracy")
# Okabe and Ito's, apart from each other; the variants stand on the axis here.
COLOURS = {"classifier": "#7F7F7F", "ncm": "#56B4E9", "lda": "#0072B2", "ridge": "#D55E00"}
_MOST_LABELLED = 24  # bars of one panel; more values over them would run into each other


def heads(series: Sequence[Series], title: str) -> tuple[Figure, list[Row]] | None:
    """Continual and final accuracy: a group of bars per series, in it one per head; None where
    there is the trained head alone.
    """
    shown = [head for head in HEAD_SHORT if any(head in one.readers() for one in series)]
    if len(shown) < 2:
        return None
    several = len({one.method for one in series}) > 1
    names = [f"{method_label(one.method)}\n{one.label}" if several else one.label for one in series]
    labelled = len(series) * len(shown) <= _MOST_LABELLED
    width = max(5.0, (0.24 * len(shown) + 0.9) * len(series) + 1)
    figure = canvas.new_figure(width, 5.4, f"{title}: heads on the same features")
    handles: list[Any] = []
    for axes, metric in zip(figure.subplots(2, 1, sharex=True), _PANELS, strict=True):
        blocks = []
        for head in shown:
            # A block of bars has a series' colour and label.
            look = dataclasses.replace(series[0], colour=COLOURS[head], label=HEAD_SHORT[head])
            found = [
                one.estimate(head, metric) if head in one.readers() else None for one in series
            ]
            blocks.append((look, found))
        handles = canvas.bars(axes, names, blocks, labelled)
        axes.set_title(METRIC_LABELS[metric], pad=12)
        axes.set_ylabel("Accuracy (%)")
    canvas.legend(figure, handles, [HEAD_SHORT[head] for head in shown])
    rows: list[Row] = []
    for one in series:
        for head in (head for head in shown if head in one.readers()):
            for metric in _PANELS:
                value = one.estimate(head, metric)
                rows.append(
                    {
                        **one.columns(),
                        "reader": head,
                        "metric": metric,
                        "mean": value.mean,
                        "interval": value.interval,
                        "n": value.n,
                    }
                )
    return figure, rows
