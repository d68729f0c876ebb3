"""MoCo v2+ (He et al. 2020, arXiv:1911.05722; Chen et al. 2020, arXiv:2003.04297; fidelity.md
§4).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaizen.compute.precision import full_precision, unit_rows, widened
from kaizen.models.backbone import Backbone
from kaizen.models.heads import two_layers
from kaizen.params import MoCoV2PlusParams
from kaizen.ssl.base import Moment, SSLMethod, SSLOutput
from kaizen.ssl.momentum import MomentumNetwork
from kaizen.ssl.queue import FeatureQueue


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each query's own key against the queue's columns (arXiv:1911.05722, eq. 1).

    ``queries``, ``keys``: unit rows [N, D]; ``queue``: unit columns [D, Q]. Returns a scalar; half
    types are widened to float32 first.
    """
    with full_precision(queries.device.type):
        q, k = widened(queries), widened(keys)
        positive = (q * k).sum(dim=1, keepdim=True)
        logits = torch.cat([positive, q @ queue.to(q.dtype)], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device))


class MoCoV2Plus(SSLMethod):
    """MoCo v2+: queries against a momentum network's keys, each view with a queue of its own,
    symmetric.
    """

    student_only = ("momentum", "queue")

    def __init__(self, params: MoCoV2PlusParams, encoder: Backbone) -> None:
        """Build the projector (two linear layers, no batch norm), the momentum network and the
        queues.
        """
        super().__init__()
        self.params = params
        self.projection_dim = params.projector_out
        self.projector = two_layers(
            encoder.feature_dim, params.projector_hidden, params.projector_out, batch_norm=False
        )
        self.momentum = MomentumNetwork(
            encoder, self.projector, params.momentum_base, params.momentum_final
        )
        self.queue = FeatureQueue(2, params.projector_out, params.queue_size)

    def forward(
        self, features: tuple[Tensor, Tensor], views: tuple[Tensor, Tensor], moment: Moment
    ) -> SSLOutput:
        """View 1's queries against view 2's keys and queue 1, and the reverse; the mean of both."""
        q1, q2 = self.project(features[0]), self.project(features[1])
        k1, k2 = (unit_rows(key) for key in self.momentum(views))
        negatives = self.queue.columns
        loss = info_nce(q1, k2, negatives[1], self.params.temperature)
        loss = (loss + info_nce(q2, k1, negatives[0], self.params.temperature)) / 2
        # The loss still needs the old queue for its backward pass.
        self.pending = (k1, k2)
        return SSLOutput(loss, (q1, q2))

    def project(self, features: Tensor) -> Tensor:
        """Return the normalised projection [N, projection_dim] of features [N, F], as the reference
        distils it.
        """
        return unit_rows(self.projector(features))

    def after_step(self, moment: Moment, encoder: nn.Module) -> None:
        """Put the batch's keys into the queues, replay rows too, and let the momentum network
        follow.
        """
        self.queue.push(*self.pending)
        self.pending = ()
        self.momentum.follow(encoder, self.projector, moment)
