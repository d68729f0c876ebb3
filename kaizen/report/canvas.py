"""How every figure looks and how it is saved: one style, the same bytes for the same input.

Figures are made without pyplot, so there is no global state and no backend to choose. matplotlib is
imported inside the functions: its import takes about a second.
"""

from __future__ import annotations

import contextlib
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaizen import files
from kaizen.evaluation.statistics import Estimate
from kaizen.report.series import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 150
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # a title or variant may hold a dollar sign
    "svg.hashsalt": "kaizen",
}
# Without these each file would hold the time at which it was made.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}
_MAX_PIXELS = 8000  # of a figure's longer side; a huge grid gets fewer dots per inch
_INCH_PER_LETTER = 0.075  # of a legend's text at font size 9
_MOST_TITLE_LINES = 4
_INCH_PER_TITLE_LETTER = 0.1
_GROUP_WIDTH = 0.84  # of a group of bars; the rest is the gap to the next
_MAX_BAR_WIDTH = 0.45
INK = "#333333"


@contextlib.contextmanager
def style() -> Iterator[None]:
    """matplotlib's defaults plus this module's style, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcParams.update(
            {k: v for k, v in matplotlib.rcParamsDefault.items() if k != "backend"}
        )
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width: float, height: float, title: str, square: bool = False) -> Figure:
    """An empty figure of the given size in inches, laid out so that nothing is clipped.

    ``square`` is for panels of a fixed shape: they stand close together.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="compressed" if square else "constrained")
    letters = int(width / _INCH_PER_TITLE_LETTER)
    # A longer one would leave no room for the panels; the report has all of it.
    lines = textwrap.wrap(title, letters, max_lines=_MOST_TITLE_LINES, placeholder=" …")
    figure.suptitle("\n".join(lines), fontsize=11)
    return figure


def save(figure: Figure, folder: Path, name: str, formats: Sequence[str]) -> list[Path]:
    """Save ``folder/name.<format>`` for each format, atomically; return the paths."""
    longer = max(figure.get_size_inches())
    dpi = min(_DPI, _MAX_PIXELS / longer)
    paths = [folder / f"{name}.{format_}" for format_ in formats]
    for path, format_ in zip(paths, formats, strict=True):
        with files.atomic_path(path) as temporary, warnings.catch_warnings():
            # A name may be in a script that the font lacks; the tables next to the figure have it.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            figure.savefig(temporary, format=format_, dpi=dpi, metadata=_METADATA[format_])
    return paths


def percent_axis(axes: Axes) -> None:
    """A y axis from 0 to 100 %."""
    axes.set_ylim(0, 100)
    axes.set_yticks(range(0, 101, 20))
    axes.grid(axis="y")


def distinct(series: Sequence[Series]) -> list[Series]:
    """One series per key, in order: what a legend or a group of bars holds."""
    return list({one.key: one for one in reversed(series)}.values())[::-1] if series else []


def legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend under the panels, in as many columns as the figure's width takes."""
    column = 0.55 + _INCH_PER_LETTER * max(len(label) for label in labels)
    columns = max(1, min(len(labels), int(figure.get_size_inches()[0] / column)))
    columns = -(-len(labels) // -(-len(labels) // columns))  # rows of about the same length
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def bars(
    axes: Axes,
    groups: Sequence[str],
    blocks: Sequence[tuple[Series, Sequence[Estimate | None]]],
    values: bool,
) -> list[Any]:
    """Grouped bars in percent: one group per label, in each one bar per block; returns a handle per
    block.

    Error bars are the 95 % interval, where there is one; ``values`` writes the mean over each bar.
    """
    width = min(_GROUP_WIDTH / len(blocks), _MAX_BAR_WIDTH)
    handles = []
    for place, (one, estimates) in enumerate(blocks):
        offset = (place - (len(blocks) - 1) / 2) * width
        drawn = [
            (x + offset, e.mean * 100, e)
            for x, e in enumerate(estimates)
            if e is not None and e.mean is not None
        ]
        handles.append(
            axes.bar(
                [x for x, _, _ in drawn],
                [y for _, y, _ in drawn],
                width * 0.94,
                color=one.colour,
                label=one.label,
            )
        )
        spread = [(x, y, 100 * e.interval) for x, y, e in drawn if e.interval is not None]
        if spread:
            axes.errorbar(
                [x for x, _, _ in spread],
                [y for _, y, _ in spread],
                # An accuracy ends at 0 and 100 %, though a t interval of few seeds need not.
                yerr=[[min(y, d) for _, y, d in spread], [min(100 - y, d) for _, y, d in spread]],
                fmt="none", ecolor=INK, elinewidth=0.9, capsize=min(3.0, 14 * width),
            )  # fmt: skip
        if values:
            for x, y, e in drawn:
                top = min(100.0, y + 100 * (e.interval or 0.0))
                axes.annotate(
                    f"{y:.0f}",
                    (x, top),
                    (0, 1.5),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    fontsize=7,
                )
    axes.set_xticks(range(len(groups)), groups)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.tick_params(axis="x", length=0)
    percent_axis(axes)
    return handles
