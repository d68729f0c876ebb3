"""The momentum network of MoCo, BYOL and DINO: a slowly following copy of encoder and projector."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from kaizen.models.fused_norms import encoded
from kaizen.ssl.base import Moment


def momentum_coefficient(step: int, steps: int, base: float, final: float) -> float:
    """The coefficient tau at optimiser step ``step`` of a task's ``steps``: half a cosine from
    ``base`` to ``final``.

    It starts again from ``base`` at every task (fidelity.md §4).
    """
    return final - (final - base) * (math.cos(math.pi * step / steps) + 1) / 2


class MomentumNetwork(nn.Module):
    """A copy of encoder and projector that no gradient reaches and that follows them by a moving
    average.
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module, base: float, final: float) -> None:
        """Start as an exact copy; ``base`` and ``final`` are the coefficient's, see
        `momentum_coefficient`.
        """
        super().__init__()
        self.base, self.final = base, final
        self.encoder = copy.deepcopy(encoder)
        self.projector = copy.deepcopy(projector)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, views: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Projections [N, D] of two views [N, C, H, W], without gradient."""
        first, second = encoded(self.encoder, views)
        return self.projector(first), self.projector(second)

    @torch.no_grad()
    def follow(self, encoder: nn.Module, projector: nn.Module, moment: Moment) -> None:
        """Move the parameters after the optimiser step of ``moment``: m <- tau m + (1 - tau) p.

        Parameters only: the running statistics of batch norm come from this network's own forward
        passes (fidelity.md §4).
        """
        own: list[Tensor] = [*self.encoder.parameters(), *self.projector.parameters()]
        followed: list[Tensor] = [*encoder.parameters(), *projector.parameters()]
        coefficient = momentum_coefficient(moment.step, moment.steps, self.base, self.final)
        torch._foreach_lerp_(own, followed, 1.0 - coefficient)
