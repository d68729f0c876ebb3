"""What features look like on the page: maps of the kept images over the steps, the effective rank,
and the drift between steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kaizen.data.schema import UNLABELLED
from kaizen.evaluation.kept import kept_rows
from kaizen.evaluation.looks import StepLook
from kaizen.evaluation.results import JOINT
from kaizen.page.results import Results
from kaizen.report.figures.specs import SEEDS, SERIES, figure, panels
from kaizen.report.series import Series

_MOST_STEPS = 6  # that have a map
_MOST_POINTS = 9000  # of all maps
_LEAST_POINTS = 20  # of one


def rows(results: Results, keep: int) -> dict[str, tuple[str, Iterator[list[Any]]]]:
    """The columns and rows of each figure; ``keep`` is 0 for all, 1 for those without single
    seeds.
    """
    return {
        "map": ("s e t k c px py", _map(results)),
    }


def steps_of_map(results: Results) -> list[int]:
    """The steps after which there is a map: all, or some spread over them with first and last."""
    last = results.tasks - 1
    return sorted({round(x) for x in np.linspace(0, last, min(_MOST_STEPS, last + 1))})


def _mapped(results: Results) -> list[tuple[int, Series, list[int]]]:
    """The series that have maps, with their steps: of joint training the last."""
    steps = steps_of_map(results)
    return [
        (s, one, steps[-1:] if one.variant == JOINT else steps)
        for s, one in enumerate(results.series)
        if one.runs[0].looks
    ]


def points_of_map(results: Results) -> int:
    """At most so many images are on one map."""
    maps = sum(len(steps) for _, _, steps in _mapped(results))
    return max(_LEAST_POINTS, _MOST_POINTS // max(1, maps))


def _map(results: Results) -> Iterator[list[Any]]:
    """Of one seed of each series the points of the tasks seen so far."""
    most = points_of_map(results)
    for s, one, steps in _mapped(results):
        run = one.runs[0]
        for t in steps:
            for place in _shown(run.looks[t], t, most):
                look = run.looks[t]
                task, label = int(look.images.task[place]), int(look.images.label[place])
                point = [round(float(value), 3) for value in look.points[place]]
                yield [s, run.point.seed, t, task, label, *point]


def _shown(look: StepLook, step: int, most: int) -> Sequence[int]:
    if look.explains is None:
        return []
    seen = np.flatnonzero((look.images.task <= step) & (look.images.label != UNLABELLED))
    found: list[int] = seen[kept_rows(look.images.at(seen), most)].tolist()
    return found


def _basis(results: Results) -> str:
    """How many images the maps are of."""
    looks = [look for _, one, _ in _mapped(results) for look in one.runs[0].looks]
    kept, most = max(len(look.images.task) for look in looks), points_of_map(results)
    shown = "" if kept <= most else f", at most {most} of them on a map"
    return f"{kept} test images{shown}; one seed of each variant"


def feature_map(results: Results) -> dict[str, Any]:
    """The kept images' features in two dimensions, a panel per series and step."""
    steps = steps_of_map(results)
    colour = {
        "field": "task_name", "type": "nominal", "scale": "@task_colour", "legend": "@task_legend",
    }  # fmt: skip
    # One scale for both directions and all maps.
    far = max((abs(value) for row in _map(results) for value in row[-2:]), default=1.0) * 1.06
    ends = {"type": "quantitative", "axis": None, "scale": {"domain": [-far, far]}}
    mark = {"type": "point", "filled": True, "size": 34, "opacity": 0.85, "cursor": "pointer"}
    inner = {
        "width": 140,
        "height": 140,
        "view": {"stroke": "#b5b5b5"},
        "mark": mark,
        "encoding": {
            "x": {"field": "px", **ends},
            "y": {"field": "py", **ends},
            "color": colour,
            "shape": {**colour, "scale": "@task_shape"},
            "tooltip": "@tooltip",
        },
    }
    last = results.tasks - 1
    some = "" if len(steps) > last else f" Some of the {last + 1} steps are shown."
    spec = panels(inner, "map_panel", 150, "map_place") | {"columns": f"@abreast:165:{len(steps)}"}
    return figure(
        "map",
        "Features of test images by task",
        "The first two principal components of the features of a few test images, the same after "
        "each step, of one seed per variant; only tasks learnt so far. Each map is turned and "
        "mirrored, never stretched, to lie on the one of the step before, and scaled to the same "
        f"spread. Two of many dimensions: what lies apart here is apart, not the reverse.{some}",
        [
            *SERIES, *SEEDS, ("t", "After step", "count"), ("k", "Task", "count"),
            ("class", "Class", "text"), ("px", "First component", "number"),
            ("py", "Second component", "number"),
        ],
        spec,
        data="map",
        reader=False,
        seeds=False,
        of_run=True,
        basis=_basis(results),
    )  # fmt: skip
