"""Predictive feature distillation (CaSSLe, Fini et al. 2022, arXiv:2112.04215; fidelity.md §5)."""

from __future__ import annotations

from torch import Tensor

from kaizen.distill.base import ViewwiseDistiller
from kaizen.params import FeatureDistillParams
from kaizen.ssl.base import SSLMethod
from kaizen.ssl.byol import cosine_regression


class PredictiveDistiller(ViewwiseDistiller):
    """BYOL's loss with the frozen projections in the place of the momentum network's: 2 - 2 cos(p,
    f).
    """

    def __init__(self, params: FeatureDistillParams, ssl: SSLMethod) -> None:
        """See `FeatureDistiller`; under a weight below 1 the predictor's rate makes up for it
        (fidelity.md §5).
        """
        super().__init__(params, ssl)
        # At weight 0 no gradient arrives that a rate could make up for.
        if params.weight:
            self.lr_factor = 1 / min(params.weight, 1.0)

    def view_loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Mean over rows of 2 - 2 cos(predicted, target), each [N, D]."""
        return cosine_regression(predicted, target)
