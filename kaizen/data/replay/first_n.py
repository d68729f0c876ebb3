"""First n: the reference's rule (fidelity.md §7)."""

from __future__ import annotations

import numpy as np

from kaizen.data.replay.base import ReplayStream, Size, choose_by_group


def choose(stream: ReplayStream, size: Size) -> list[np.ndarray]:
    """The first rows of each class of each task in dataset order."""
    return choose_by_group(stream, size, lambda group, count: group.rows[:count])
