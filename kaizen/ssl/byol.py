"""BYOL (Grill et al. 2020, arXiv:2006.07733; fidelity.md §4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kaizen.compute.precision import full_precision, widened
from kaizen.models.backbone import Backbone
from kaizen.models.heads import two_layers
from kaizen.params import BYOLParams
from kaizen.ssl.base import Moment, SSLMethod, SSLOutput
from kaizen.ssl.momentum import MomentumNetwork


def cosine_regression(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean over rows of 2 - 2 cos(predicted, target), each [N, D]; no gradient reaches ``target``.

    The squared distance of the normalised rows (arXiv:2006.07733, eq. 2). Returns a scalar; half
    types are widened to float32 first.
    """
    with full_precision(predicted.device.type):
        return (
            2 - 2 * F.cosine_similarity(widened(predicted), widened(target).detach(), dim=1).mean()
        )


class BYOL(SSLMethod):
    """BYOL: a predictor regresses the momentum network's projection of the other view."""

    student_only = ("momentum", "predictor")

    def __init__(self, params: BYOLParams, encoder: Backbone) -> None:
        """Build projector and predictor (linear, batch norm, ReLU, linear each) and the momentum
        network.
        """
        super().__init__()
        self.params = params
        self.projection_dim = params.projector_out
        self.projector = two_layers(
            encoder.feature_dim, params.projector_hidden, params.projector_out, batch_norm=True
        )
        self.predictor = two_layers(
            params.projector_out, params.predictor_hidden, params.projector_out, batch_norm=True
        )
        self.momentum = MomentumNetwork(
            encoder, self.projector, params.momentum_base, params.momentum_final
        )

    def forward(
        self, features: tuple[Tensor, Tensor], views: tuple[Tensor, Tensor], moment: Moment
    ) -> SSLOutput:
        """The sum, not the mean, of the two directions (fidelity.md §4)."""
        z1, z2 = self.project(features[0]), self.project(features[1])
        target1, target2 = self.momentum(views)
        loss = cosine_regression(self.predictor(z1), target2) + cosine_regression(
            self.predictor(z2), target1
        )
        return SSLOutput(loss, (z1, z2))

    def project(self, features: Tensor) -> Tensor:
        """Return the raw projector output [N, projection_dim] of features [N, F]."""
        projections: Tensor = self.projector(features)
        return projections

    def after_step(self, moment: Moment, encoder: nn.Module) -> None:
        """Let the momentum network follow."""
        self.momentum.follow(encoder, self.projector, moment)
