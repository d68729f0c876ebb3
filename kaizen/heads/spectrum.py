"""Systems of equations with one symmetric matrix, and the rule that chooses what is added to its
diagonal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# What an automatic choice tries, as shares of the diagonal's mean: half powers of ten.
GRID = tuple(10.0 ** (half / 2) for half in range(-12, 3))


@dataclass(frozen=True)
class Spectrum:
    """A symmetric positive semidefinite matrix float64 [D, D] by its eigenvalues [D], ascending,
    and eigenvectors, the columns of [D, D].

    Eigenvalues that are 0 but for rounding count as 0.
    """

    values: Tensor
    vectors: Tensor

    @staticmethod
    def of(matrix: Tensor) -> Spectrum:
        """Decompose ``matrix``: O(D^3)."""
        values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
        noise = values.abs().max() * len(values) * torch.finfo(torch.float64).eps
        return Spectrum(values.where(values > noise, torch.zeros_like(values)), vectors)

    def shrunk(self, share: float) -> Spectrum:
        """That of (1 - share) matrix + share mean(diagonal) I, ``share`` from 0 to 1."""
        return Spectrum((1 - share) * self.values + share * self.diagonal_mean, self.vectors)

    @property
    def diagonal_mean(self) -> float:
        """The mean of the matrix's diagonal."""
        return float(self.values.mean())

    def solve(self, right: Tensor, added: float = 0.0) -> Tensor:
        """The X of (matrix + added I) X = ``right`` [D, M], of the smallest norm where there are
        several.
        """
        values = self.values + added
        inverse = torch.where(values > 0, 1 / values, torch.zeros_like(values))
        solved: Tensor = self.vectors @ (inverse[:, None] * (self.vectors.T @ right))
        return solved

    def condition(self, added: float = 0.0) -> float:
        """The largest eigenvalue of matrix + added I over its smallest one above 0; 1 for 0."""
        values = self.values + added
        above = values[values > 0]
        return float(above.max() / above.min()) if len(above) else 1.0


def least(error: Callable[[float], float], spectrum: Spectrum) -> float:
    """The share of the diagonal's mean, of GRID, with the least ``error`` of what is added.

    The largest of those that are equal; the largest of all where none has a finite error.
    """
    errors = [(error(share * spectrum.diagonal_mean), -share) for share in GRID]
    finite = [pair for pair in errors if pair[0] < float("inf")]
    return float(-min(finite)[1]) if finite else GRID[-1]


def generalised_cross_validation(
    spectrum: Spectrum, right: Tensor, power: float, rows: int
) -> Callable[[float], float]:
    """The GCV error of a ridge regression as a function of what is added to the diagonal (Golub,
    Heath and Wahba 1979).

    ``spectrum`` is that of the centred inputs' second moment, ``right`` [D, M] the inputs' with the
    M targets', ``power`` the sum of the targets' own, each a mean over ``rows``. Where the fit has
    as many degrees of freedom as there are rows, the error is infinite.
    """
    squares = (spectrum.vectors.T @ right).square().sum(1)
    values = spectrum.values

    def error(added: float) -> float:
        if added <= 0:
            return float("inf")
        inverse = 1 / (values + added)
        fitted = (squares * inverse * (2 - values * inverse)).sum().item()
        # The mean takes one degree of freedom more.
        free = 1 - (1 + (values * inverse).sum().item()) / rows
        return float(max(power - fitted, 0.0) / free**2) if free > 0 else float("inf")

    return error
