"""Linear discriminant analysis with one covariance of all classes (streaming LDA: Hayes and Kanan,
CVPR workshops 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor

from kaizen.heads.base import LinearHead
from kaizen.heads.spectrum import Spectrum
from kaizen.heads.statistics import ClassStatistics


def solve(
    all_classes: ClassStatistics, current: ClassStatistics, given: float | None
) -> LinearHead:
    """W = S^-1 means, b = -means S^-1 means / 2, all classes as likely as each other.

    S = (1 - a) C + a mean(diag C) I of the covariance C within classes. The shrinkage a, 0 to 1, is
    ``given``, or what `oas` makes of the current task's rows; of a task without two rows of one
    class, of all rows. Where C is 0 this is the nearest class mean.
    """
    known = current if current.degrees() > 0 else all_classes
    shrinkage = oas(known.covariance(), known.degrees().item()) if given is None else given
    spectrum = Spectrum.of(all_classes.covariance()).shrunk(shrinkage)
    if spectrum.diagonal_mean == 0:
        spectrum, shrinkage = Spectrum.of(torch.eye(all_classes.size, dtype=torch.float64)), 1.0
    weight = spectrum.solve(all_classes.means.T).T
    bias = -(weight * all_classes.means).sum(1) / 2
    return LinearHead(all_classes.classes, weight, bias, shrinkage, spectrum.condition())


def oas(covariance: Tensor, rows: float) -> float:
    """The oracle approximating shrinkage of a covariance float64 [D, D] from ``rows`` rows about a
    known mean: 0 to 1 (Chen, Wiesel, Eldar and Hero, IEEE TSP 2010, eq. 23).

    1 where nothing is known: no rows, or nothing that varies.
    """
    size = len(covariance)
    trace = covariance.trace().item()
    squares = covariance.square().sum().item()
    apart = (rows + 1 - 2 / size) * (squares - trace**2 / size)
    if rows <= 0 or apart <= 0:
        return 1.0
    return min(1.0, ((1 - 2 / size) * squares + trace**2) / apart)
