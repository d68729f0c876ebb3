"""Reference rows as thin lines across the panels of a figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kaizen.report.reference_rows import LABELS, STEP_0
from kaizen.report.series import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A level in percent of the axis from x to x: (from, to, accuracy 0..1).
Level = tuple[float, float, float | None]

_STYLES: dict[str, Any] = {
    "chance": ":",
    "lda_pixels": "--",
    "lda_random_network": "-.",
    STEP_0: (0, (6, 1.5)),
}


def of_method(references: Sequence[Series], method: str) -> Iterator[Series]:
    """The rows that belong into a panel or group of ``method``: its own step 0's, and the common
    ones.
    """
    for one in references:
        if not one.key.startswith(STEP_0) or one.key == f"{STEP_0}_{method}":
            yield one


def draw_levels(axes: Axes, one: Series, levels: Sequence[Level]) -> dict[str, Any]:
    """Draw a row's levels over bars or lines, thin and grey; returns its handle by its label, or
    nothing where it has no value.
    """
    known = [(start, end, 100 * value) for start, end, value in levels if value is not None]
    if not known:
        return {}
    kind = STEP_0 if one.key.startswith(STEP_0) else one.key
    starts, ends, values = zip(*known, strict=True)
    handle = axes.hlines(
        values, starts, ends, colors=one.colour, linestyles=_STYLES[kind], linewidth=0.8, zorder=3
    )
    return {LABELS[kind]: handle}
