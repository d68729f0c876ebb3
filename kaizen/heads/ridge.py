"""Ridge regression on the classes as one-hot targets (as in RanPAC, NeurIPS 2023)."""

from __future__ import annotations

from torch import Tensor

from kaizen.heads.base import LinearHead
from kaizen.heads.spectrum import Spectrum, generalised_cross_validation, least
from kaizen.heads.statistics import ClassStatistics


def solve(
    all_classes: ClassStatistics, current: ClassStatistics, given: float | None
) -> LinearHead:
    """W = T^-1 (means - m) / K with T = (1 - a) M + a mean(diag M) I, and b = 1 / K - W m.

    m is the mean of the classes' means, M the second moment about it, every class as heavy as each
    other whatever its number of rows. The shrinkage a, 0 to 1, is ``given``, or chosen by
    generalised cross-validation on the current task's rows; of a task without two classes, on all.
    """
    moment, right = _moments(all_classes)
    shrinkage = _chosen(current if len(current.classes) > 1 else all_classes)
    shrinkage = shrinkage if given is None else given
    spectrum = Spectrum.of(moment).shrunk(shrinkage)
    weight = spectrum.solve(right).T
    bias = 1 / len(right.T) - weight @ all_classes.means.mean(0)
    return LinearHead(all_classes.classes, weight, bias, shrinkage, spectrum.condition())


def _moments(statistics: ClassStatistics) -> tuple[Tensor, Tensor]:
    """The second moment M [D, D] about the mean of the means, and the inputs' with the targets
    [D, K].
    """
    apart = statistics.means - statistics.means.mean(0)
    count = len(apart)
    if statistics.per_class:
        within = (statistics.scatter / statistics.counts[:, None, None]).mean(0)
    else:
        within = statistics.scatter / statistics.counts.sum()
    return within + apart.T @ apart / count, apart.T / count


def _chosen(statistics: ClassStatistics) -> float:
    """The shrinkage with the least error of generalised cross-validation."""
    moment, right = _moments(statistics)
    spectrum = Spectrum.of(moment)
    # One-hot targets of K classes that are as heavy as each other, about their mean.
    power = 1 - 1 / len(statistics.classes)
    error = generalised_cross_validation(spectrum, right, power, statistics.rows)
    share = least(error, spectrum)
    return share / (1 + share)
