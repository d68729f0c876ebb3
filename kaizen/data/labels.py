"""Which training images keep their label when only a share of them may."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kaizen.data.split import seeded_order


def labelled(labels: Sequence[int] | np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose the rows that keep their label: bool [N] for true labels int [N].

    Exactly ceil(fraction * n) of each class's n rows. For one seed smaller fractions are nested in
    larger ones; a class's choice depends on its own number of rows only, not on the other classes.
    """
    values = np.asarray(labels, dtype=np.int64)
    chosen = np.zeros(len(values), dtype=bool)
    for label in np.unique(values):
        members = np.flatnonzero(values == label)
        # The guard keeps 0.1 * 30 = 3.0000000000000004 from becoming 4.
        count = math.ceil(fraction * len(members) - 1e-9)
        chosen[members[seeded_order(len(members), seed, "labels", int(label))[:count]]] = True
    return chosen
