"""Contrastive feature distillation (CaSSLe, Fini et al. 2022, arXiv:2112.04215; fidelity.md §5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kaizen.compute.precision import full_precision, widened
from kaizen.distill.base import FeatureDistiller
from kaizen.params import FeatureDistillParams
from kaizen.ssl.base import SSLMethod


def contrastive_distillation(
    p1: Tensor, p2: Tensor, f1: Tensor, f2: Tensor, temperature: float
) -> Tensor:
    """Match predictions p1, p2 with frozen projections f1, f2 of the same views, each [N, D].

    Cross-entropy of cosine / temperature over all 2N columns, row i's positive being column i,
    averaged over both directions (predictions to projections and back; fidelity.md §5). Returns a
    scalar; half types are widened to float32 first. No gradient reaches f1, f2.
    """
    with full_precision(p1.device.type):
        predicted = F.normalize(torch.cat([widened(p1), widened(p2)]), dim=1)
        frozen = F.normalize(torch.cat([widened(f1), widened(f2)]).detach(), dim=1)
        logits = (predicted / temperature) @ frozen.T
        positives = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, positives) + F.cross_entropy(logits.T, positives)) / 2


class ContrastiveDistiller(FeatureDistiller):
    """Predictor under the contrastive distillation loss."""

    def __init__(self, params: FeatureDistillParams, ssl: SSLMethod) -> None:
        """See `FeatureDistiller`."""
        super().__init__(params, ssl)
        self.temperature = params.contrastive.temperature

    def forward(self, student: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> Tensor:
        """Predict the teacher's projections from the student's; return the contrastive loss, a
        scalar.
        """
        p1, p2 = self.predictor(student[0]), self.predictor(student[1])
        return contrastive_distillation(p1, p2, *targets, temperature=self.temperature)
