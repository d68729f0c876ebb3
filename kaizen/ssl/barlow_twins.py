"""Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230; fidelity.md §4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kaizen.compute.precision import full_precision, widened
from kaizen.models.backbone import Backbone
from kaizen.models.heads import expander
from kaizen.params import BarlowTwinsParams
from kaizen.ssl.base import Moment, SSLMethod, SSLOutput


def barlow_twins(z1: Tensor, z2: Tensor, off_diagonal: float, scale: float) -> Tensor:
    """Distance of the cross-correlation C of z1, z2, each [N, D] with N >= 2, from the identity.

    ``scale`` times the sum of (C - I)^2, entries off the diagonal weighted by ``off_diagonal``; C
    is that of the batch's standardised dimensions (arXiv:2103.03230, eq. 1). Returns a scalar; half
    types are widened to float32 first.
    """
    with full_precision(z1.device.type):
        first, second = (F.batch_norm(widened(z), None, None, training=True) for z in (z1, z2))
        correlations = first.T @ second / len(first)
        diagonal = correlations.diagonal()
        on = (diagonal - 1).square().sum()
        off = correlations.square().sum() - diagonal.square().sum()
        return scale * (on + off_diagonal * off)


class BarlowTwins(SSLMethod):
    """Barlow Twins: a projector of three linear layers under the loss; no momentum network, no
    negatives.
    """

    def __init__(self, params: BarlowTwinsParams, encoder: Backbone) -> None:
        """Build the projector."""
        super().__init__()
        self.params = params
        self.projection_dim = params.projector_out
        self.projector = expander(
            encoder.feature_dim, params.projector_hidden, params.projector_out
        )

    def forward(
        self, features: tuple[Tensor, Tensor], views: tuple[Tensor, Tensor], moment: Moment
    ) -> SSLOutput:
        """The loss of the two views' projections; ``views`` is not used."""
        z1, z2 = self.project(features[0]), self.project(features[1])
        return SSLOutput(
            barlow_twins(z1, z2, self.params.off_diagonal, self.params.scale), (z1, z2)
        )

    def project(self, features: Tensor) -> Tensor:
        """Return the raw projector output [N, projection_dim] of features [N, F]."""
        projections: Tensor = self.projector(features)
        return projections
