"""NNCLR (Dwibedi et al. 2021, arXiv:2104.14548; fidelity.md §4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaizen.compute.precision import full_precision, unit_rows
from kaizen.models.backbone import Backbone
from kaizen.models.heads import Layer, mlp, two_layers
from kaizen.params import NNCLRParams
from kaizen.ssl.base import Moment, SSLMethod, SSLOutput
from kaizen.ssl.queue import FeatureQueue


def neighbour_info_nce(neighbours: Tensor, predictions: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each neighbour's own prediction against the batch's (arXiv:2104.14548, eq.
    2).

    ``neighbours`` and ``predictions``, each [N, D], belong together row by row; logits are cosine /
    temperature. No gradient reaches the neighbours. Returns a scalar; half types are widened to
    float32 first.
    """
    with full_precision(predictions.device.type):
        logits = unit_rows(neighbours.detach()) @ unit_rows(predictions).T / temperature
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


@torch.no_grad()
def nearest(rows: Tensor, columns: Tensor) -> Tensor:
    """Of unit columns [D, Q] that with the largest cosine to each unit row [N, D], as rows [N,
    D].
    """
    with full_precision(rows.device.type):
        return columns[:, (rows @ columns.to(rows.dtype)).argmax(dim=1)].T


class NNCLR(SSLMethod):
    """NNCLR: predictions against the nearest earlier projection of the other view, symmetric."""

    student_only = ("predictor", "queue")

    def __init__(self, params: NNCLRParams, encoder: Backbone) -> None:
        """Build the projector of three layers, batch norm after each, the predictor and the
        queue.
        """
        super().__init__()
        self.params = params
        self.projection_dim = params.projector_out
        hidden, out = params.projector_hidden, params.projector_out
        self.projector = mlp(
            Layer(encoder.feature_dim, hidden, batch_norm=True, relu=True),
            Layer(hidden, hidden, batch_norm=True, relu=True),
            Layer(hidden, out, batch_norm=True, relu=False),
        )
        self.predictor = two_layers(out, params.predictor_hidden, out, batch_norm=True)
        self.queue = FeatureQueue(1, out, params.queue_size)

    def forward(
        self, features: tuple[Tensor, Tensor], views: tuple[Tensor, Tensor], moment: Moment
    ) -> SSLOutput:
        """View 1's neighbours against view 2's predictions and the reverse; the mean. ``views`` is
        not used.
        """
        raw1, raw2 = self.projector(features[0]), self.projector(features[1])
        z1, z2 = unit_rows(raw1), unit_rows(raw2)
        earlier, temperature = self.queue.columns[0], self.params.temperature
        loss = neighbour_info_nce(nearest(z1, earlier), self.predictor(raw2), temperature)
        loss = (
            loss + neighbour_info_nce(nearest(z2, earlier), self.predictor(raw1), temperature)
        ) / 2
        self.pending = (z1.detach(),)
        return SSLOutput(loss, (z1, z2))

    def project(self, features: Tensor) -> Tensor:
        """Return the normalised projection [N, projection_dim] of features [N, F], as the queue
        holds it.
        """
        return unit_rows(self.projector(features))

    def after_step(self, moment: Moment, encoder: nn.Module) -> None:
        """Put the batch's projections of view 1 into the queue, replay rows too."""
        self.queue.push(*self.pending)
        self.pending = ()
