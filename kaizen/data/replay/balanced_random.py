"""Class-balanced random replay."""

from __future__ import annotations

import numpy as np

from kaizen.data.replay.base import ClassRows, ReplayStream, Size, choose_by_group
from kaizen.data.split import seeded_order


def choose(stream: ReplayStream, size: Size) -> list[np.ndarray]:
    """Rows of each class of each task at random: the first of an order that seed, task and class
    alone decide.
    """

    def pick(group: ClassRows, count: int) -> np.ndarray:
        order = seeded_order(len(group.rows), stream.seed, "replay", group.task, group.label)
        chosen: np.ndarray = group.rows[order[:count]]
        return chosen

    return choose_by_group(stream, size, pick)
