"""Where the features of an earlier encoder lie in those of a later one: a map in closed form.

The map of x to y is y = A x + b, by ridge regression over images that both encoders saw (LDC:
Gomez-Villa et al., ECCV 2024; DPCR, ICML 2025). Sums alone are kept of the images, all in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kaizen.heads.spectrum import Spectrum, generalised_cross_validation, least


@dataclass(frozen=True)
class PairMoments:
    """Sums over images of features x [D] before and y [D] after a step, about their means.

    ``xx``, ``xy`` and ``yy`` are the sums of (x - mean x)(x - mean x)^T and so on: float64 [D, D].
    """

    rows: int
    mean_x: Tensor
    mean_y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    @staticmethod
    def empty(size: int) -> PairMoments:
        """Of no images, with ``size`` features."""
        none, square = torch.zeros(size).double(), torch.zeros(size, size).double()
        return PairMoments(0, none, none, square, square, square)

    @staticmethod
    def of(before: Tensor, after: Tensor) -> PairMoments:
        """Of images with features ``before`` and ``after`` [N, D], of any float type, N > 0."""
        x, y = before.double(), after.double()
        mean_x, mean_y = x.mean(0), y.mean(0)
        x, y = x - mean_x, y - mean_y
        return PairMoments(len(x), mean_x, mean_y, x.T @ x, x.T @ y, y.T @ y)

    def add(self, other: PairMoments) -> PairMoments:
        """Of these images and the other's."""
        rows = self.rows + other.rows
        if not rows:
            return self
        share = other.rows / rows
        x, y = other.mean_x - self.mean_x, other.mean_y - self.mean_y
        weight = self.rows * share
        return PairMoments(
            rows,
            self.mean_x + share * x,
            self.mean_y + share * y,
            self.xx + other.xx + weight * torch.outer(x, x),
            self.xy + other.xy + weight * torch.outer(x, y),
            self.yy + other.yy + weight * torch.outer(y, y),
        )

    def about_zero(self) -> PairMoments:
        """The same sums about 0 instead of the means."""
        x, y, zero = self.mean_x, self.mean_y, torch.zeros_like(self.mean_x)
        xx, xy, yy = (self.rows * torch.outer(*pair) for pair in ((x, x), (x, y), (y, y)))
        return PairMoments(self.rows, zero, zero, self.xx + xx, self.xy + xy, self.yy + yy)


@dataclass(frozen=True)
class DriftMap:
    """y = A x + b: ``weight`` A float64 [D, D], ``offset`` b [D], and the covariance [D, D] of what
    the map leaves over, None where that is not asked for.

    ``ridge`` is what was added to the diagonal, as a share of its mean, ``r2`` the share of the
    variance of y that the map explains (1 where y does not vary), ``condition`` that of the system.
    """

    weight: Tensor
    offset: Tensor
    residual: Tensor | None
    ridge: float
    r2: float
    condition: float

    def __call__(self, rows: Tensor) -> Tensor:
        """Map rows float64 [N, D]."""
        return rows @ self.weight.T + self.offset


def fit_drift(
    moments: PairMoments,
    *,
    affine: bool = True,
    residual: bool = True,
    ridge: float | None = None,
) -> DriftMap:
    """The map with the least squared error plus a penalty on A - c I.

    The penalty's weight is ``ridge`` times the mean of the diagonal of x's second moment; None
    chooses it by generalised cross-validation, which also chooses c: 1, which leaves a direction
    in which these images do not vary where it is, or 0, which gives it up. An encoder that did not
    move gives exactly A = I and b = 0, and so does no image at all. Without ``affine`` b is 0.
    """
    sums = moments if affine else moments.about_zero()
    rows = max(sums.rows, 1)
    xx, xy, yy = sums.xx / rows, sums.xy / rows, sums.yy / rows
    spectrum = Spectrum.of(xx)
    fits = [_fit((xx, xy, yy), centre, spectrum, rows, ridge) for centre in (1.0, 0.0)]
    # Of equal errors the first.
    fit = min(fits, key=lambda one: one.error)
    added = fit.ridge * spectrum.diagonal_mean
    change = spectrum.solve(fit.right, added).T
    weight = fit.centre * torch.eye(len(xx), dtype=torch.float64) + change
    crossed = change @ fit.right
    rest = fit.left - crossed - crossed.T + change @ xx @ change.T
    rest = (rest + rest.T) / 2
    scale = moments.yy.trace().item() / rows
    explained = 1 - rest.trace().clamp(min=0).item() / scale if scale > 0 else 1.0
    return DriftMap(
        weight,
        sums.mean_y - weight @ sums.mean_x,
        rest * _unused(spectrum, added, rows) if residual else None,
        fit.ridge,
        explained,
        spectrum.condition(added),
    )


class _Fit(NamedTuple):
    """Ridge regression of y - c x on x: the GCV error of the best penalty, c, the penalty, and the
    second moments of x with y - c x and of y - c x, float64 [D, D].
    """

    error: float
    centre: float
    ridge: float
    right: Tensor
    left: Tensor


def _fit(
    moments: tuple[Tensor, Tensor, Tensor],
    centre: float,
    spectrum: Spectrum,
    rows: int,
    ridge: float | None,
) -> _Fit:
    xx, xy, yy = moments
    right = xy - centre * xx
    left = yy - centre * (xy + xy.T) + centre**2 * xx
    power = left.trace().clamp(min=0).item()
    error = generalised_cross_validation(spectrum, right, power, rows)
    if ridge is None:
        ridge = least(error, spectrum)
    return _Fit(error(ridge * spectrum.diagonal_mean), centre, ridge, right, left)


def _unused(spectrum: Spectrum, added: float, rows: int) -> float:
    """What makes up for the degrees of freedom that a fit has taken from its own residuals.

    At most ``rows``: where the map goes through every row, these say nothing of it.
    """
    values = spectrum.values
    used = float((values / (values + added)).nansum()) + 1
    return rows / max(rows - used, 1.0)
