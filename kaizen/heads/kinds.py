"""All heads that are asked for, from the same statistics."""

from __future__ import annotations

from collections.abc import Iterable

from kaizen.heads.base import LinearHead
from kaizen.heads.statistics import ClassStatistics
from kaizen.params import registry


def solve_heads(
    kinds: Iterable[str],
    all_classes: ClassStatistics,
    current: ClassStatistics,
    given: float | None = None,
) -> dict[str, LinearHead]:
    """A head of each of ``kinds`` (of `registry.ANALYTIC_HEADS`) from the statistics of all classes
    so far.

    Where the shrinkage is not ``given``, each kind chooses it by the ``current`` task's statistics.
    Without any class the heads have none.
    """
    if not len(all_classes.classes):
        none = LinearHead(all_classes.classes, all_classes.means, all_classes.counts)
        return dict.fromkeys(kinds, none)
    return {
        kind: registry.load(registry.ANALYTIC_HEADS[kind])(all_classes, current, given)
        for kind in kinds
    }
