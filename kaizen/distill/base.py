"""The interface through which training knows a feature distiller, and the predictor that they
share.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from kaizen.models.heads import two_layers
from kaizen.params import FeatureDistillParams
from kaizen.ssl.base import SSLMethod


class FeatureDistiller(nn.Module, ABC):
    """Feature distillation L_FE^KD: a loss between student and frozen teacher (fidelity.md §5).

    A subclass is built as ``(params: FeatureDistillParams, ssl: SSLMethod)``; its predictor is made
    at step 1 and carried from step to step.
    """

    # What the learning rate is multiplied by for the distiller's own parameters.
    lr_factor: float = 1.0

    def __init__(self, params: FeatureDistillParams, ssl: SSLMethod) -> None:
        """Build the predictor [N, D] -> [N, D], D = ssl.projection_dim: linear, batch norm, ReLU,
        linear; or none.
        """
        super().__init__()
        dim, hidden = ssl.projection_dim, params.predictor_hidden
        self.predictor: nn.Module = nn.Identity()
        if hidden:
            self.predictor = two_layers(dim, hidden, dim, batch_norm=True)

    def targets(self, teacher: SSLMethod, features: Tensor) -> Tensor:
        """What the student is to match, from the teacher's features [N, F] of one view: its
        projections [N, D].
        """
        return teacher.project(features)

    @abstractmethod
    def forward(self, student: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> Tensor:
        """Return the scalar loss of the student's projections of two views, each [N, D], against
        `targets` of each.

        Computed in full precision even under autocast; no gradient reaches the targets.
        """


class ViewwiseDistiller(FeatureDistiller):
    """A distiller whose loss compares one view's prediction with that view's target; the mean over
    both views.
    """

    def forward(self, student: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> Tensor:
        """Predict the targets from the student's projections; return the mean of the views' losses,
        a scalar.
        """
        losses = [
            self.view_loss(self.predictor(z), f) for z, f in zip(student, targets, strict=True)
        ]
        return torch.stack(losses).mean()

    @abstractmethod
    def view_loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of one view, in full precision; no gradient reaches ``target``."""
