"""Predictive feature distillation by the squared error (CaSSLe, arXiv:2112.04215; fidelity.md
§5).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kaizen.compute.precision import full_precision, widened
from kaizen.distill.base import ViewwiseDistiller


class PredictiveMSEDistiller(ViewwiseDistiller):
    """Squared distance of prediction and frozen projection, not normalised: VICReg's invariance
    term.
    """

    def view_loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Mean over all elements of the squared error of ``predicted`` and ``target``, each [N,
        D].
        """
        with full_precision(predicted.device.type):
            return F.mse_loss(widened(predicted), widened(target).detach())
