"""What several seeds say: means and paired differences with their 95 % intervals (Student's t)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

_T_975 = (
    12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157,
    2.228139, 2.200985, 2.178813, 2.160369, 2.144787, 2.13145, 2.119905, 2.109816, 2.100922,
    2.093024, 2.085963, 2.079614, 2.073873, 2.068658, 2.063899, 2.059539, 2.055529, 2.051831,
    2.048407, 2.04523, 2.042272,
)  # fmt: skip
_Z_975 = 1.959963985
# Equal accuracies may give metrics that differ in the last bits; that is no difference between
# variants.
_TIE = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A mean over n seeds and the half width of its 95 % interval; None where undefined (n = 0; n <
    2).
    """

    mean: float | None
    interval: float | None
    n: int


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean of A - B over the n seeds that both have, its interval, and the number of seeds in
    which A is better.
    """

    better: int


def t_quantile(df: int) -> float:
    """The 97.5 % quantile of Student's t with ``df`` >= 1 degrees of freedom, to about 1e-5.

    A table up to 30; beyond, the Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5), which
    needs no scipy. Raises ValueError for df < 1.
    """
    if df < 1:
        raise ValueError(f"degrees of freedom must be at least 1, not {df}")
    if df <= len(_T_975):
        return _T_975[df - 1]
    z = _Z_975
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    quantile: float = sum(term / df**power for power, term in enumerate(terms))
    return quantile


def estimate(values: Sequence[float | None]) -> Estimate:
    """Mean and 95 % interval (Student's t over seeds) of the values that are defined."""
    defined = [value for value in values if value is not None]
    n = len(defined)
    if n < 2:
        return Estimate(defined[0] if defined else None, None, n)
    return Estimate(fmean(defined), t_quantile(n - 1) * stdev(defined) / math.sqrt(n), n)


def paired_difference(
    a: Mapping[int, float | None], b: Mapping[int, float | None], lower_is_better: bool = False
) -> Difference:
    """A - B at the same seeds, from seed -> value of each; the interval is that of the per-seed
    differences.

    A seed that only one of them has, or whose value is undefined, is left out. A tie counts for
    neither.
    """
    pairs = [(a[seed], b[seed]) for seed in sorted(a.keys() & b.keys())]
    differences = [x - y for x, y in pairs if x is not None and y is not None]
    found = estimate(differences)
    sign = -1 if lower_is_better else 1
    return Difference(
        found.mean, found.interval, found.n, sum(sign * d > _TIE for d in differences)
    )
