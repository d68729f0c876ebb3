"""Learned prototypes without bias under weight norm (Salimans & Kingma 2016, arXiv:1602.07868):
SwAV's and DINO's.

Own code because torch's own is a parametrisation: it gives each module a class made at run time,
and the product would be in half precision under autocast.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kaizen.compute.precision import full_precision, unit_rows


class Prototypes(nn.Module):
    """Scores of projections: their cosine with each prototype, times the prototype's length."""

    length: nn.Parameter | None

    def __init__(self, dim: int, count: int, learned_length: bool) -> None:
        """Start ``count`` prototypes of ``dim`` dimensions as a linear layer starts.

        A learned length starts as the initial weight's and is a parameter of its own, [count, 1];
        otherwise all lengths are 1 for good.
        """
        super().__init__()
        self.direction = nn.Parameter(nn.Linear(dim, count, bias=False).weight.detach())
        self.length = (
            nn.Parameter(self.direction.detach().norm(dim=1, keepdim=True))
            if learned_length
            else None
        )

    def forward(self, projections: Tensor) -> Tensor:
        """Return the scores [N, count] of projections [N, dim] of any length, in full precision
        even under autocast.
        """
        with full_precision(projections.device.type):
            weight = unit_rows(self.direction)
            if self.length is not None:
                weight = weight * self.length
            return F.linear(unit_rows(projections), weight)
