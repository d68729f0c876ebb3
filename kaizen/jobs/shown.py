"""What `snakemake --report` shows of a published tree, with captions, categories and labels."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from kaizen.store.layout import REPORT_PAGE

_SUMMARY = Path("results/summary")
# Names of the summary's figures, in the report's order, and what a reader looks for them by.
FIGURES = {
    "accuracy_bars": "The metrics with their intervals",
    "per_task_heatmap": "Accuracy on each task after each step",
    "accuracy_over_steps": "Accuracy on the tasks seen so far",
    "heads": "Final accuracy by who reads the features",
    "replay_size": "Size of the replay memory",
    "differences": "Differences at the same seeds",
    "confusion_matrix": "Confusion after the last step",
    "loss_terms": "Terms of the loss",
    "calibration_error": "Expected calibration error after each step",
    "features": "Rank and drift of the features",
}
_TABLES = {
    "results": "every metric of every run",
    "accuracy": "accuracy on each task after each step",
    "differences": "differences between variants",
    "per_class": "accuracy on each class",
    "calibration": "expected calibration error after each step",
    "reliability": "accuracy by confidence after the last step",
    "features": "rank and drift of the features",
}


class Shown(NamedTuple):
    """A file of the report, and the arguments of Snakemake's `report`."""

    path: str
    caption: str
    category: str
    labels: dict[str, str]


def shown_files(root: Path) -> list[Shown]:
    """The page, figures, tables and cards that are published in the checkout ``root``."""
    found = [_shown(REPORT_PAGE, "page", "Report", "page", "all of it on one page")]
    for name, title in FIGURES.items():
        paths = [_SUMMARY / "figures" / f"{name}.{suffix}" for suffix in ("png", "svg", "pdf")]
        # One of its formats: they show the same.
        there = next((path for path in paths if (root / path).is_file()), None)
        if there is not None:
            found.append(_shown(there.as_posix(), name, "Figures", "figure", title))
    for name, title in _TABLES.items():
        path = _SUMMARY / f"{name}.csv"
        if (root / path).is_file():
            found.append(_shown(path.as_posix(), "table", "Tables", "table", title))
    for path in sorted((root / _SUMMARY / "cards").glob("*.md")):
        place = path.relative_to(root).as_posix()
        found.append(_shown(place, "card", "Cards", "card", path.stem))
    return found


def _shown(path: str, caption: str, category: str, label: str, text: str) -> Shown:
    return Shown(path, f"workflow/report/{caption}.rst", category, {label: text})
