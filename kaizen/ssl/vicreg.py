"""VICReg (Bardes et al. 2022, arXiv:2105.04906; fidelity.md §4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kaizen.compute.precision import full_precision, widened
from kaizen.models.backbone import Backbone
from kaizen.models.heads import expander
from kaizen.params import VICRegParams
from kaizen.ssl.base import Moment, SSLMethod, SSLOutput

_EPSILON = 1e-4


def vicreg(z1: Tensor, z2: Tensor, invariance: float, variance: float, covariance: float) -> Tensor:
    """Weighted sum of invariance, variance and covariance terms of projections z1, z2, each [N, D],
    N >= 2.

    Variance and covariance are summed over the two views, as the reference does: twice the
    original's (fidelity.md §4). Returns a scalar; half types are widened to float32 first.
    """
    with full_precision(z1.device.type):
        views = (widened(z1), widened(z2))
        loss = invariance * F.mse_loss(*views)
        for z in views:
            centred = z - z.mean(dim=0)
            covariances = centred.T @ centred / (len(z) - 1)
            deviation = (covariances.diagonal() + _EPSILON).sqrt()
            off_diagonal = covariances.square().sum() - covariances.diagonal().square().sum()
            loss = (
                loss
                + variance * F.relu(1 - deviation).mean()
                + covariance * off_diagonal / z.shape[1]
            )
        return loss


class VICReg(SSLMethod):
    """VICReg: a projector of three linear layers under the three terms; no momentum network, no
    negatives.
    """

    def __init__(self, params: VICRegParams, encoder: Backbone) -> None:
        """Build the projector."""
        super().__init__()
        self.weights = (params.invariance_weight, params.variance_weight, params.covariance_weight)
        self.projection_dim = params.projector_out
        self.projector = expander(
            encoder.feature_dim, params.projector_hidden, params.projector_out
        )

    def forward(
        self, features: tuple[Tensor, Tensor], views: tuple[Tensor, Tensor], moment: Moment
    ) -> SSLOutput:
        """The three terms of the two views' projections; ``views`` is not used."""
        z1, z2 = self.project(features[0]), self.project(features[1])
        return SSLOutput(vicreg(z1, z2, *self.weights), (z1, z2))

    def project(self, features: Tensor) -> Tensor:
        """Return the raw projector output [N, projection_dim] of features [N, F]."""
        projections: Tensor = self.projector(features)
        return projections
