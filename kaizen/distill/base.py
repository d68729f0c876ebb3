"""The interface through which training knows a feature distiller."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class FeatureDistiller(nn.Module, ABC):
    """Feature distillation L_FE^KD: a loss between student and frozen teacher projections (fidelity.md §5).

    A subclass is built as ``(params: FeatureDistillParams, projection_dim: int)``; its predictor is made
    at step 1 and carried from step to step.
    """

    @abstractmethod
    def forward(self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
        """Return the scalar loss of the two views' projections, each [N, D], student against teacher.

        Computed in full precision even under autocast; no gradient reaches the teacher.
        """
