"""Decorrelative feature distillation (CaSSLe, Fini et al. 2022, arXiv:2112.04215; fidelity.md
§5).
"""

from __future__ import annotations

from torch import Tensor

from kaizen.distill.base import ViewwiseDistiller
from kaizen.params import FeatureDistillParams
from kaizen.ssl.barlow_twins import barlow_twins
from kaizen.ssl.base import SSLMethod


class DecorrelativeDistiller(ViewwiseDistiller):
    """Barlow Twins' loss between prediction and frozen projection, with constants of its own."""

    def __init__(self, params: FeatureDistillParams, ssl: SSLMethod) -> None:
        """See `FeatureDistiller`."""
        super().__init__(params, ssl)
        self.constants = params.decorrelative

    def view_loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Distance of the cross-correlation of ``predicted`` and ``target``, each [N, D], from the
        identity.
        """
        return barlow_twins(
            predicted, target.detach(), self.constants.off_diagonal, self.constants.scale
        )
