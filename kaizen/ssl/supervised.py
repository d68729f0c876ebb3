"""No self-supervised loss: labels alone train the encoder, through the classifier.

What answers "why self-supervision at all": the classifier's hidden layer stands where a method has
its projector, as in supervised pretraining (Khosla et al. 2020, arXiv:2004.11362, its baseline
"cross-entropy").
"""

from __future__ import annotations

import torch
from torch import Tensor

from kaizen.models.backbone import Backbone
from kaizen.ssl.base import Moment, SSLMethod, SSLOutput


class Supervised(SSLMethod):
    """A method without heads, of which the loss is 0: `kaizen.training.objective` has the
    cross-entropy.
    """

    def __init__(self, params: None, encoder: Backbone) -> None:
        """There are no parameters."""
        super().__init__()
        self.projection_dim = encoder.feature_dim

    def forward(
        self, features: tuple[Tensor, Tensor], views: tuple[Tensor, Tensor], moment: Moment
    ) -> SSLOutput:
        """A loss of 0, float32 [], without gradient; features [N, F] are the projections."""
        return SSLOutput(features[0].new_zeros((), dtype=torch.float32), features)

    def project(self, features: Tensor) -> Tensor:
        """Features [N, F] as they are."""
        return features
