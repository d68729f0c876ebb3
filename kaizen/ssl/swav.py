"""SwAV (Caron et al. 2020, arXiv:2006.09882; fidelity.md §4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaizen.compute.precision import full_precision, unit_rows, widened
from kaizen.models.backbone import Backbone
from kaizen.models.heads import two_layers
from kaizen.params import SwAVParams
from kaizen.ssl.base import Moment, PrototypeMethod, SSLOutput
from kaizen.ssl.prototypes import Prototypes
from kaizen.ssl.queue import FeatureQueue


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Assign N samples softly and evenly to K prototypes, by Sinkhorn-Knopp (arXiv:2006.09882,
    §3.1).

    From exp(scores / epsilon), [N, K], each iteration gives every prototype the same total, then
    every sample. Returns assignments [N, K] whose rows sum to 1, without gradient; half types are
    widened to float32 first.
    """
    with full_precision(scores.device.type):
        # In logarithms, as a prototype far from all samples would underflow and then divide by
        # zero. The totals, N / K and 1, would be constants that the next normalisation cancels.
        log_assignments = widened(scores) / epsilon
        for _ in range(iterations):
            log_assignments = torch.log_softmax(torch.log_softmax(log_assignments, dim=0), dim=1)
        return log_assignments.exp()


def swapped_prediction(
    scores: tuple[Tensor, Tensor], assignments: tuple[Tensor, Tensor], temperature: float
) -> Tensor:
    """Cross-entropy of each view's softmax(scores / temperature) against the other's assignments,
    all [N, K].

    The mean over rows and the two directions (arXiv:2006.09882, eq. 2). Returns a scalar; half
    types are widened to float32 first.
    """
    with full_precision(scores[0].device.type):
        first, second = (
            F.cross_entropy(widened(scores[i]) / temperature, assignments[1 - i]) for i in (0, 1)
        )
        return (first + second) / 2


class SwAV(PrototypeMethod):
    """SwAV: each view predicts the other's even assignment to prototypes; earlier projections join
    the assignment.
    """

    student_only = ("queue",)

    def __init__(self, params: SwAVParams, encoder: Backbone) -> None:
        """Build the projector (linear, batch norm, ReLU, linear), the prototypes and the queues."""
        super().__init__()
        self.params = params
        self.projection_dim = params.projector_out
        self.prototype_count = params.prototypes
        self.projector = two_layers(
            encoder.feature_dim, params.projector_hidden, params.projector_out, batch_norm=True
        )
        self.prototypes = Prototypes(params.projector_out, params.prototypes, learned_length=True)
        self.queue = (
            FeatureQueue(2, params.projector_out, params.queue_size) if params.queue_size else None
        )

    def start_task(self) -> None:
        """Empty the queues: the projections of another task would distort the assignment
        (fidelity.md §4).
        """
        if self.queue is not None:
            self.queue.clear()

    def forward(
        self, features: tuple[Tensor, Tensor], views: tuple[Tensor, Tensor], moment: Moment
    ) -> SSLOutput:
        """The swapped prediction; ``views`` is not used."""
        z1, z2 = self.project(features[0]), self.project(features[1])
        scores = (self.prototypes(z1), self.prototypes(z2))
        assignments = (self._assign(scores[0], 0, moment), self._assign(scores[1], 1, moment))
        self.pending = (unit_rows(z1.detach()), unit_rows(z2.detach()))
        return SSLOutput(swapped_prediction(scores, assignments, self.params.temperature), (z1, z2))

    def phase(self, moment: Moment) -> bool:
        """Whether the queues take part."""
        return self.queue is not None and moment.epoch >= self.params.queue_from_epoch

    def project(self, features: Tensor) -> Tensor:
        """Return the raw projector output [N, projection_dim] of features [N, F]."""
        projections: Tensor = self.projector(features)
        return projections

    def before_update(self, moment: Moment, encoder: nn.Module) -> None:
        """Let the prototypes rest in a task's first epochs."""
        if moment.epoch < self.params.freeze_prototypes_epochs:
            for parameter in self.prototypes.parameters():
                parameter.grad = None

    def after_step(self, moment: Moment, encoder: nn.Module) -> None:
        """Put the batch's normalised projections into the queues, replay rows too."""
        if self.queue is not None:
            self.queue.push(*self.pending)
        self.pending = ()

    @torch.no_grad()
    def _assign(self, scores: Tensor, view: int, moment: Moment) -> Tensor:
        """The batch's assignments [N, K], from its scores [N, K] and, from its epoch on, those of
        the view's queue.

        Places that are still empty score 0 with all prototypes: as in the reference they weigh on
        all alike, which softens the balance until the queue is full.
        """
        together = scores
        if self.queue is not None and self.phase(moment):
            together = torch.cat([scores, self.prototypes(self.queue.columns[view].T)])
        assignments = sinkhorn(
            together, self.params.sinkhorn_epsilon, self.params.sinkhorn_iterations
        )
        return assignments[: len(scores)]
