"""The page's figures of what evaluations record besides accuracies, put among the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kaizen.page import calibration, confused, representation
from kaizen.page.data import bounded
from kaizen.page.results import Results
from kaizen.report.figures.recorded import errors, measures

Rows = dict[str, Any]


def recorded_rows(results: Results) -> dict[str, Rows]:
    """The rows of each figure by its name, as `kaizen.page.data.rows_of_figures` has them."""
    found: dict[str, Rows] = {}
    for part in (calibration, representation, confused):
        for name, (columns, _) in part.rows(results, 0).items():

            def make(keep: int, part: Any = part, name: str = name) -> Any:
                return part.rows(results, keep)[name][1]

            of_figure = bounded(columns, make, _LEFT_OUT)
            if of_figure["rows"]:
                found[name] = of_figure
    if "confused" in found:
        found["confused"]["note"] = results.examples.note
    return found


_LEFT_OUT = ("", "The single seeds are left out, as there are so many; the CSV files have them.")


def with_recorded(
    figures: list[dict[str, Any]], results: Results, rows: Mapping[str, Rows]
) -> list[dict[str, Any]]:
    """The page's figures with these among them, those whose rows are there: the confused classes
    after the confusion, the others before time, which comes last.
    """
    found = [figure for figure in figures if figure["id"] != "time"]
    last = [figure for figure in figures if figure["id"] == "time"]
    names = [figure["id"] for figure in found]
    place = names.index("confusion") + 1 if "confusion" in names else len(found)
    if "confused" in rows:
        found.insert(place, confused.confused(results))
    more: dict[str, Callable[[], dict[str, Any]]] = {
        "reliability": calibration.reliability,
        "calibration": errors,
        "map": lambda: representation.feature_map(results),
        "features": lambda: measures(results),
    }
    found += [make() for name, make in more.items() if name in rows]
    return found + last


def not_recorded(results: Results) -> str:
    """What evaluations of an older Kaizen lack, in a sentence; empty where nothing is missing."""
    runs = [run for one in results.series for run in one.runs]
    lacking = [
        name
        for name, there in (
            ("calibration", [bool(run.calibration) for run in runs]),
            ("features", [bool(run.looks) for run in runs]),
            ("the most confused images", [results.examples.recorded]),
        )
        if not all(there)
    ]
    if not lacking:
        return ""
    return (
        f"Not recorded, as an older Kaizen evaluated these runs: {', '.join(lacking)}. "
        "`snakemake --cores all` evaluates them again, without training."
    )
