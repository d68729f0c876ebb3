"""The most confused pairs of classes on the page, with test images that were mistaken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kaizen.evaluation.mistaken import MistakenImage
from kaizen.page.pictures import Pictures
from kaizen.page.results import Results
from kaizen.report.figures.specs import SEEDS, SERIES, figure


def rows(results: Results, keep: int) -> dict[str, tuple[str, Iterator[list[Any]]]]:
    """The columns and rows of the figure; ``pictures`` are [place in `addresses`, task, row,
    confidence] each.
    """
    return {"confused": ("s e c p v count n pictures", _rows(results))}


def addresses(results: Results) -> list[str]:
    """The pictures' data: addresses, each once."""
    return list(dict.fromkeys(results.examples.pictures.values()))


def _rows(results: Results) -> Iterator[list[Any]]:
    places = {uri: place for place, uri in enumerate(addresses(results))}
    shown = results.examples
    for s, one in enumerate(results.series):
        for run in one.runs:
            for pair in shown.pairs.get(run.point, ()):
                counts = run.confusion[-1] if run.confusion else {}
                total = sum(count for (label, _), count in counts.items() if label == pair.label)
                pictures = [
                    [places[uri], image.task, image.row, image.confidence]
                    for image in pair.images
                    if (uri := _uri(image, shown.pictures)) is not None
                ]
                share = round(pair.count / max(pair.count, total), 6)
                about = [s, run.point.seed, pair.label, pair.predicted]
                yield [*about, share, pair.count, 1, pictures]


def _uri(image: MistakenImage, pictures: Pictures) -> str | None:
    return pictures.get((image.task, image.row))


def confused(results: Results) -> dict[str, Any]:
    """The most confused pairs with their images, as elements of the page and no chart."""
    return figure(
        "confused",
        "The most confused classes",
        "What the trained classifier mistakes most often after the last step, of one seed per "
        "variant: the true class, what it is taken for, and the test images of which it was "
        "surest.",
        [
            *SERIES, *SEEDS, ("class", "True class", "text"), ("predicted", "Taken for", "text"),
            ("value", "Share of the class (%)", "percent"), ("count", "Images", "count"),
        ],
        {},
        data="confused",
        reader=False,
        seeds=False,
        pictures=True,
        file="mistaken.json",
    )  # fmt: skip
