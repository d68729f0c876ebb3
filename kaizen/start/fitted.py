"""Parameters that fit a folder of images."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kaizen.params.data import LEAST_DEVIATION
from kaizen.start.measure import Measured

# The largest side that is chosen: what a small network learns in minutes on a CPU.
SIDE = 64
# A task's epoch is to have so many batches, and its training so many updates.
_BATCHES, _UPDATES = 8, 400


@dataclass(frozen=True)
class Fitted:
    """What was chosen for a folder's images."""

    tasks: tuple[int, ...]  # the number of classes of each; none: a task is a part of every class
    parts: int
    size: int
    # The shorter side that images are brought to; None: as they are.
    load_size: int | None
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    batch: int
    epochs: int
    width: int


def fit(found: Measured) -> Fitted:
    """Choose; the same images always get the same."""
    sizes = _task_sizes(len(found.classes))
    parts = len(sizes) or 2
    size = max(16, min(SIDE, found.side // 4 * 4))
    channels = 3 if found.coloured else 1
    mean, std = found.looks.mean, found.looks.std
    if channels != len(mean):
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    per_task = found.train / parts
    batch = 2 ** math.floor(math.log2(max(8, min(128, per_task / _BATCHES))))
    epochs = max(10, min(50, round(_UPDATES / max(1, per_task / batch))))
    width = 16 if found.train < 2000 else 32 if found.train < 20000 else 64
    return Fitted(
        sizes,
        parts,
        size,
        None if found.one_size and found.side <= SIDE else size,
        channels,
        tuple(round(min(1.0, value), 3) for value in mean),
        tuple(round(value, 3) if value >= max(LEAST_DEVIATION, 1e-3) else 1.0 for value in std),
        batch,
        epochs,
        width,
    )


def _task_sizes(classes: int) -> tuple[int, ...]:
    """How many classes each task has: 5 tasks, or 4 or 3 where that divides better, of at least two
    classes each; none where there are too few classes for two tasks.
    """
    if classes < 4:
        return ()
    most = min(5, classes // 2)
    tasks = next((t for t in range(most, min(most, 3) - 1, -1) if classes % t == 0), most)
    each, more = divmod(classes, tasks)
    return (each + 1,) * more + (each,) * (tasks - more)
