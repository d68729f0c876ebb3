"""SimSiam (Chen & He 2021, arXiv:2011.10566; fidelity.md §4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kaizen.compute.precision import full_precision, widened
from kaizen.models.backbone import Backbone
from kaizen.models.heads import Layer, mlp
from kaizen.params import SimSiamParams
from kaizen.ssl.base import Moment, SSLMethod, SSLOutput


def negative_cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean over rows of -cos(predicted, target), each [N, D] (arXiv:2011.10566, eq. 1); no gradient
    reaches ``target``.

    Returns a scalar; half types are widened to float32 first.
    """
    with full_precision(predicted.device.type):
        return -F.cosine_similarity(widened(predicted), widened(target).detach(), dim=1).mean()


class SimSiam(SSLMethod):
    """SimSiam: a predictor regresses the other view's projection, which gets no gradient; no
    momentum network.
    """

    static_heads = frozenset({"predictor"})
    student_only = ("predictor",)

    def __init__(self, params: SimSiamParams, encoder: Backbone) -> None:
        """Build the projector, whose output is batch-normalised without scale and shift, and the
        predictor.

        No linear layer before a batch norm has a bias: it would have no effect (the reference
        freezes the last one's).
        """
        super().__init__()
        self.projection_dim = params.projector_out
        hidden, out = params.projector_hidden, params.projector_out
        self.projector = mlp(
            Layer(encoder.feature_dim, hidden, batch_norm=True, relu=True, bias=False),
            Layer(hidden, hidden, batch_norm=True, relu=True, bias=False),
            Layer(hidden, out, batch_norm=True, relu=False, bias=False, affine=False),
        )
        self.predictor = mlp(
            Layer(out, params.predictor_hidden, batch_norm=True, relu=True, bias=False),
            Layer(params.predictor_hidden, out, batch_norm=False, relu=False),
        )

    def forward(
        self, features: tuple[Tensor, Tensor], views: tuple[Tensor, Tensor], moment: Moment
    ) -> SSLOutput:
        """The mean of the two directions; ``views`` is not used."""
        z1, z2 = self.project(features[0]), self.project(features[1])
        loss = (
            negative_cosine(self.predictor(z1), z2) + negative_cosine(self.predictor(z2), z1)
        ) / 2
        return SSLOutput(loss, (z1, z2))

    def project(self, features: Tensor) -> Tensor:
        """Return the raw projector output [N, projection_dim] of features [N, F]."""
        projections: Tensor = self.projector(features)
        return projections
