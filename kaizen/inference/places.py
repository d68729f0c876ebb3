"""Where things of a published run lie: its steps, as folders step-NN or exported files
step-NN.onnx, and the test shards of the project that it is of. Needs no torch.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_STEP = re.compile(r"step-(\d{1,9})(\.onnx)?")
_SHARDS = "data/shards"
_TASK = re.compile(r"task-(\d{1,9})\.test\.parquet")


def step_number(path: Path) -> int | None:
    """The number of the step that a folder's or an exported file's name says; None where it says
    none.
    """
    match = _STEP.fullmatch(path.name)
    return int(match[1]) if match else None


def steps_in(folder: Path, exported: bool = True) -> list[tuple[int, Path]]:
    """The steps in a folder with their numbers, in their order: folders step-NN, and, where they
    count, files step-NN.onnx. None where it has none, or is gone for a moment.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = []
    for name in names:
        match, path = _STEP.fullmatch(name), folder / name
        if match and path.is_dir() == (match[2] is None) and (exported or match[2] is None):
            found.append((int(match[1]), path))
    return sorted(found)


def shards_of_project(path: Path, up_to: int | None = None) -> list[Path]:
    """The test shards of the project whose published tree holds ``path``, of the tasks up to number
    ``up_to`` (None: all), in their order; none where there is no such project.
    """
    for root in path.absolute().parents:
        folder = root / _SHARDS
        if folder.is_dir() and (root / "results").is_dir():
            numbered = [
                (int(match[1]), file)
                for file in folder.rglob("task-*.test.parquet")
                if (match := _TASK.fullmatch(file.name))
            ]
            return [file for task, file in sorted(numbered) if up_to is None or task <= up_to]
    return []
