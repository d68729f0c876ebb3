"""What every analytic head is: a linear classifier of features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LinearHead:
    """Scores of classes, W x + b: ``classes`` int64 [K], ``weight`` W float64 [K, D], ``bias`` b
    [K].

    ``shrinkage`` is what was chosen or given, ``condition`` the condition number of the system that
    was solved; None where the kind has none.
    """

    classes: Tensor
    weight: Tensor
    bias: Tensor
    shrinkage: float | None = None
    condition: float | None = None

    def predict(self, features: Tensor) -> Tensor:
        """The classes of features [N, D] of any float type: int64 [N], of equal scores the first.

        Only classes that it has statistics of are predicted; raises ValueError where it has none.
        """
        if not len(self.classes):
            raise ValueError("a head without a class predicts nothing")
        scores = torch.addmm(self.bias, features.double(), self.weight.T)
        return self.classes[scores.argmax(1)]
