"""Tiny streams for tests: folders of images that arrive one after the other in a project."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from project import Project, make_project, write_image

RAW = "data/raw/animals"
# Names that sort before those that arrived earlier; "ant" comes back.
ARRIVALS: tuple[Mapping[str, int], ...] = (
    {"cat": 10, "dog": 10},
    {"ant": 10, "bee": 10},
    {"ape": 10, "cat": 10},
    {"": 16},
    {"eel": 10},
)


def write_arrival(folder: Path, classes: Mapping[str, int], seed: int) -> None:
    """Write train/<class>/00.png …; the name "" stands for images without a class."""
    for place, (name, count) in enumerate(classes.items()):
        inside = folder / "train" / name if name else folder / "unlabelled" / "some" / "where"
        for number in range(count):
            write_image(inside / f"{number:02d}.png", 10_000 * seed + 100 * place + number)


def make_stream(
    root: Path,
    changes: Mapping[str, Any] | None = None,
    arrivals: Sequence[Mapping[str, int]] = ARRIVALS,
) -> Project:
    """A project whose raw images lie in data/raw/animals/day-0, day-1, …; nothing is appended."""
    source = {"dataset.source": "stream", "dataset.path": RAW}
    project = make_project(root, {**source, "train.epochs": 1, **(changes or {})})
    shutil.rmtree(project.images)
    for number, classes in enumerate(arrivals):
        write_arrival(root / RAW / f"day-{number}", classes, number)
    return project


def append(project: Project, number: int) -> str:
    """Append an arrival; returns what it printed."""
    return project.kaizen("append", f"day-{number}").good()
