"""An epoch while it is trained: what it began with, and its sums so far."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Epoch:
    """An epoch while it is trained, or what a resumption left of one."""

    number: int
    seed: int
    rates: dict[str, float]
    """The learning rate of each of the optimiser's groups."""
    sums: Tensor
    """Of the four terms over the epoch's batches so far: float64 [4], on the compute device."""
    first: int
    """Its first batch since the last resumption."""
    began: float = field(default_factory=time.monotonic)

    def add(self, terms: Tensor) -> None:
        """Count the terms [4] of one batch, without waiting for the device."""
        # Through the weights one term that is not finite makes all others so: the sums stop at the
        # first.
        self.sums = torch.where(self.sums.isfinite().all(), self.sums + terms, self.sums)
