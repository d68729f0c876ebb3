"""SimCLR (Chen et al. 2020, arXiv:2002.05709; fidelity.md §4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kaizen.compute.precision import full_precision, widened
from kaizen.models.backbone import Backbone
from kaizen.models.heads import two_layers
from kaizen.params import SimCLRParams
from kaizen.ssl.base import Moment, SSLMethod, SSLOutput


def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """NT-Xent of projections z1, z2, each [N, D]: mean over 2N rows of -log p(the same image's
    other view).

    p is the softmax of cosine / temperature over all rows but the row itself (arXiv:2002.05709, eq.
    1). Returns a scalar; half types are widened to float32 first.
    """
    with full_precision(z1.device.type):
        z = F.normalize(torch.cat([widened(z1), widened(z2)]), dim=1)
        logits = (z / temperature) @ z.T
        logits.fill_diagonal_(float("-inf"))
        rows = len(z)
        # Row i's positive is the same image in the other view: half the rows on, in a circle.
        positives = torch.arange(rows, device=z.device).roll(rows // 2)
        return F.cross_entropy(logits, positives)


class SimCLR(SSLMethod):
    """SimCLR: a projector of two linear layers, without batch norm, under NT-Xent."""

    def __init__(self, params: SimCLRParams, encoder: Backbone) -> None:
        """Build the projector from the encoder's features to ``params.projector_out``."""
        super().__init__()
        self.projection_dim = params.projector_out
        self.temperature = params.temperature
        self.projector = two_layers(
            encoder.feature_dim, params.projector_hidden, params.projector_out, batch_norm=False
        )

    def forward(
        self, features: tuple[Tensor, Tensor], views: tuple[Tensor, Tensor], moment: Moment
    ) -> SSLOutput:
        """NT-Xent of the two views' projections; ``views`` is not used."""
        z1, z2 = self.project(features[0]), self.project(features[1])
        return SSLOutput(nt_xent(z1, z2, self.temperature), (z1, z2))

    def project(self, features: Tensor) -> Tensor:
        """Return the raw projector output [N, projection_dim] of features [N, F]."""
        projections: Tensor = self.projector(features)
        return projections
