"""Feature distillation through prototypes (CaSSLe, arXiv:2112.04215; "knowledge" in fidelity.md
§5).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kaizen.compute.precision import full_precision, widened
from kaizen.distill.base import ViewwiseDistiller
from kaizen.params import FeatureDistillParams
from kaizen.ssl.base import PrototypeMethod, SSLMethod
from kaizen.ssl.prototypes import Prototypes


class PrototypeDistiller(ViewwiseDistiller):
    """The prediction, scored by prototypes of the distiller's own, matches the teacher's assignment
    to its own.
    """

    def __init__(self, params: FeatureDistillParams, ssl: SSLMethod) -> None:
        """Add as many prototypes as ``ssl`` has; raises TypeError where it has none (validation
        refuses that).
        """
        super().__init__(params, ssl)
        self.temperature = params.prototype.temperature
        self.prototypes = Prototypes(
            ssl.projection_dim, _prototypical(ssl).prototype_count, learned_length=True
        )

    def targets(self, teacher: SSLMethod, features: Tensor) -> Tensor:
        """The teacher's scores [N, K] of its projections of features [N, F], by its frozen
        prototypes.
        """
        return _prototypical(teacher).prototype_scores(teacher.project(features))

    def view_loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Mean over rows of the cross-entropy of predictions [N, D] against softmax(target /
        temperature), [N, K].
        """
        with full_precision(predicted.device.type):
            soft = torch.softmax(widened(target).detach() / self.temperature, dim=1)
            return F.cross_entropy(self.prototypes(predicted) / self.temperature, soft)


def _prototypical(method: SSLMethod) -> PrototypeMethod:
    if not isinstance(method, PrototypeMethod):
        raise TypeError(f"{type(method).__name__} has no prototypes to distil")
    return method
