"""A batch norm and what follows it in a residual network: the addition of the shortcut, and a
ReLU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kaizen.models import cpu_norm, gpu_norm


def norm_relu(
    norm: nn.Module, relu: nn.Module | None, x: Tensor, other: Tensor | None = None
) -> Tensor:
    """``relu`` (None: nothing) of ``norm`` of maps [N, C, H, W], plus ``other``, of the same shape,
    where there is one: module by module, or as one operation where ``norm`` is a `FusedNorm`.
    """
    if isinstance(norm, FusedNorm):
        return norm.followed(x, other, relu is not None)
    result: Tensor = norm(x)
    if other is not None:
        # Not in place: in bfloat16 on a CPU that takes twice as long.
        result = result + other
    return result if relu is None else relu(result)


class FusedNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d`, with the addition and the ReLU that follow it (fidelity.md §2)."""

    groups = 1
    """Parts of a batch that have statistics of their own, one after the other: two, where both
    views of a batch go through the network at once."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [N, C, H, W]."""
        return self.followed(input, None, False)

    def followed(self, input: Tensor, other: Tensor | None, relu: bool) -> Tensor:
        """Normalise [N, C, H, W], add ``other`` of the same shape, drop what is negative if
        ``relu``.
        """
        if gpu_norm.fits(self, input, other, self.groups):
            return gpu_norm.fused(self, input, other, self.groups, relu)
        if cpu_norm.fits(self, input, other, self.groups):
            return cpu_norm.fused(self, input, other, self.groups, relu)
        parts = input.chunk(self.groups) if self.training else (input,)
        results = [super(FusedNorm, self).forward(part) for part in parts]
        result = results[0] if len(results) == 1 else torch.cat(results)
        if other is not None:
            result = result + other
        return result.relu_() if relu else result
