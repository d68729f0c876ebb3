"""Calibration on the page: accuracy against confidence, and the expected calibration error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kaizen.evaluation.calibration import Bins, pooled
from kaizen.page.results import Results
from kaizen.report.figures.recorded import calibrated
from kaizen.report.figures.specs import (
    READ,
    SEEDS,
    SERIES,
    SHAPE,
    figure,
    panels,
)


def rows(results: Results, keep: int) -> dict[str, tuple[str, Iterator[list[Any]]]]:
    """The columns and rows of each figure; ``keep`` is 0 for all, 1 for those without single
    seeds.
    """
    return {
        "reliability": ("s r e bin sure v images n", _reliability(results, keep)),
    }


def _reliability(results: Results, keep: int) -> Iterator[list[Any]]:
    for s, one in enumerate(results.series):
        for r, reader in calibrated(one):
            last = [run.calibration[-1][reader] for run in one.runs]
            yield from ([s, r, None, *row, len(last)] for row in _of_bins(pooled(last)))
            if not keep and len(results.seeds) > 1:
                for run, bins in zip(one.runs, last, strict=True):
                    yield from ([s, r, run.point.seed, *row, 1] for row in _of_bins(bins))


def _of_bins(bins: Bins) -> Iterator[list[Any]]:
    """Of each bin with images: its number, mean confidence, accuracy, and number of images."""
    for place, images in enumerate(bins.images):
        if images:
            sure, right = bins.confidence[place] / images, bins.right[place] / images
            yield [place, round(sure, 6), round(right, 6), images]


def reliability() -> dict[str, Any]:
    """Accuracy against confidence after the last step, a panel per series."""
    scale = {"domain": [0, 100], "nice": False}
    axis = {"tickCount": 5, "grid": True}
    x = {
        "field": "confidence", "type": "quantitative", "title": "mean confidence (%)",
        "scale": scale, "axis": axis,
    }  # fmt: skip
    y = {
        "field": "value", "type": "quantitative", "title": "accuracy (%)", "scale": scale,
        "axis": axis,
    }  # fmt: skip
    size = {
        "field": "images", "type": "quantitative", "title": "test images in the bin",
        "scale": {"type": "sqrt", "range": [14, 320]},
        "legend": {
            "orient": "bottom", "direction": "horizontal", "tickCount": 4, "format": "d",
            "symbolFillColor": "#8a8a8a", "symbolStrokeWidth": 0,
        },
    }  # fmt: skip
    plain = {"field": "series", "type": "nominal", "scale": "@colour", "legend": None}
    layer: list[dict[str, Any]] = [
        {
            "mark": {"type": "rule", "strokeDash": [4, 4], "color": "currentColor"},
            "encoding": {
                "x": {"datum": 0, "type": "quantitative"},
                "x2": {"datum": 100},
                "y": {"datum": 0, "type": "quantitative"},
                "y2": {"datum": 100},
            },
        },
        {
            "mark": {"type": "line", "strokeWidth": 1.5},
            "encoding": {"x": x, "y": y, "color": plain},
        },
        {
            "mark": {"type": "point", "filled": True, "cursor": "pointer", "opacity": 1},
            "encoding": {
                "x": x, "y": y, "size": size, "color": plain,
                "shape": {**SHAPE, "legend": None}, "tooltip": "@tooltip",
            },
        },
    ]  # fmt: skip
    inner = {"width": 190, "height": 190, "layer": layer}
    return figure(
        "reliability",
        "Confidence and accuracy after the last step",
        "Test images by how sure the answer was, in 15 bins; a mark is as large as its bin has "
        "images, of all seeds together. On the dotted line confidence is what it says; below it "
        "answers are surer than right. A head's confidence is the softmax of its scores, which it "
        "answers with; those of ridge are no probabilities.",
        [
            *SERIES, *READ, *SEEDS, ("bin", "Bin", "count"),
            ("confidence", "Mean confidence (%)", "percent"), ("value", "Accuracy (%)", "percent"),
            ("images", "Test images", "count"), ("n", "Seeds", "count"),
        ],
        panels(inner, width=270),
        data="reliability",
        reader=True,
        seeds=True,
        loose=["sure", "images"],
        where="results/summary/reliability.csv",
    )  # fmt: skip
