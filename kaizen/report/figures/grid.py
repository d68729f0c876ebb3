"""What figures are drawn from, and how each series looks in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kaizen.evaluation.metrics import METRICS
from kaizen.evaluation.results import JOINT, READERS, REFERENCE
from kaizen.report.classes import Classes
from kaizen.report.losses import History
from kaizen.report.reference_rows import LABELS, STEP_0
from kaizen.report.series import READER_LABELS, Series, method_label, metric_label
from kaizen.training.terms import TERM_TEXTS

SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "triangle-right")
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [4, 2, 1, 2])
# A plus, an X and an hourglass.
_REFERENCE_SHAPES = {
    "chance": "cross",
    "lda_pixels": "M-1,-.6L-.6,-1L0,-.4L.6,-1L1,-.6L.4,0L1,.6L.6,1L0,.4L-.6,1L-1,.6L-.4,0Z",
    "lda_random_network": "M-1,-1L1,-1L-1,1L1,1Z",
}
_REFERENCE_DASHES = {"chance": [1, 3], "lda_pixels": [5, 4], "lda_random_network": [6, 3, 1, 3]}
METRIC_NAMES = {metric: metric_label(metric) for metric in METRICS}
# Of features, after each step.
MEASURES = ("effective rank", "CKA with the step before")
TERM_NAMES = {name: f"{name} {text}" for name, text in TERM_TEXTS.items()}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The results of a grid: ``series`` are rivals, then ``references``, the reference rows;
    ``classes`` is None where they are not known.
    """

    series: tuple[Series, ...]
    references: tuple[Series, ...]
    classes: Classes | None
    histories: Sequence[History] = ()

    @property
    def all(self) -> tuple[Series, ...]:
        """The series and the reference rows."""
        return (*self.series, *self.references)

    @property
    def seeds(self) -> list[int]:
        """All seeds of the grid."""
        return sorted({run.point.seed for one in self.series for run in one.runs})

    @property
    def tasks(self) -> int:
        """The number of tasks."""
        return self.series[0].runs[0].tasks

    @property
    def first(self) -> dict[int, int]:
        """Label -> the task that brings it first, in the stream's order."""
        return self.classes.first_task() if self.classes else {}

    @property
    def replay_sizes(self) -> list[tuple[str, float]]:
        """The sizes of the replay memory with their units, each once."""
        sizes = [
            (s.replay_unit, float(s.replay_size)) for s in self.series if s.replay_size is not None
        ]
        return list(dict.fromkeys(sizes))

    def images(self) -> int | None:
        """The number of test images of the whole stream; None where that is not known."""
        counts = {
            sum(run.confusion[-1].values())
            for one in self.series
            for run in one.runs
            if run.confusion
        }
        return counts.pop() if len(counts) == 1 else None

    def note(self, images: int | None = None) -> str:
        """What every table and figure is based on: images (all, or so many), seeds, kind of
        interval.
        """
        images = images or self.images()
        start = "test images: not known" if images is None else f"{images:,} test images"
        seeds = max(len(one.runs) for one in self.series)
        if seeds == 1:
            return f"{start}; one seed, so there is no interval"
        return f"{start}; {seeds} seeds; ± is a 95 % interval over the seeds (Student's t)"


def words(grid: Grid) -> dict[str, Any]:
    """What the numbers in the rows stand for (`kaizen.report.figures.rows`)."""
    return {
        "series": entries(grid),
        "readers": [READER_LABELS[reader] for reader in READERS],
        "metrics": list(METRIC_NAMES.values()),
        "terms": list(TERM_NAMES.values()),
        "measures": list(MEASURES),
        "classes": [shown(name) for name in grid.classes.names] if grid.classes else [],
        "first": {str(label): task for label, task in grid.first.items()},
    }


def entries(grid: Grid) -> list[dict[str, Any]]:
    """Each series with its names and its look: colour, mark, line."""
    looks = {key: rank for rank, key in enumerate(dict.fromkeys(s.key for s in grid.series))}
    return [_entry(one, looks.get(one.key, 0)) for one in grid.all]


def _entry(one: Series, rank: int) -> dict[str, Any]:
    reference = one.method == REFERENCE
    # With more series than marks each mark comes with another line.
    line = _DASHES[(rank + rank // len(SHAPES)) % len(_DASHES)]
    shape = SHAPES[rank % len(SHAPES)]
    return {
        "m": one.method,
        "method": method_label(one.method),
        "k": one.key,
        "label": one.label,
        "colour": one.colour,
        "shape": _REFERENCE_SHAPES.get(one.key, "triangle-left") if reference else shape,
        "dash": _REFERENCE_DASHES.get(one.key, [12, 3]) if reference else line,
        "ref": _reference_kind(one) if reference else None,
        "of": one.key.removeprefix(f"{STEP_0}_") if one.key.startswith(STEP_0) else None,
        "size": None if one.replay_size is None else float(one.replay_size),
        "unit": one.replay_unit,
        "variant": one.variant,
        "joint": one.variant == JOINT,
    }


def _reference_kind(one: Series) -> str:
    return LABELS[STEP_0] if one.key.startswith(STEP_0) else LABELS.get(one.key, one.label)


def shown(name: str) -> str:
    """A text without what no font has, and SVG may not hold: control characters."""
    return "".join(c if c.isprintable() else "\ufffd" for c in name)
