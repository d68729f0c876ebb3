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
    where there is one: as one operation where ``norm`` is a `FusedNorm` that these maps fit, else
    module by module.
    """
    if isinstance(norm, FusedNorm) and norm.fits(x, other):
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
        if self.fits(input, None):
            return self.followed(input, None, False)
        parts = input.chunk(self.groups) if self.training else (input,)
        results = [super(FusedNorm, self).forward(part) for part in parts]
        return results[0] if len(results) == 1 else torch.cat(results)

    def fits(self, x: Tensor, other: Tensor | None) -> bool:
        """Whether compiled code takes these maps, and what is added to them."""
        return (
            self.training
            and x.dtype == torch.bfloat16
            and (other is None or (other.dtype == x.dtype and other.shape == x.shape))
            and self.affine
            and self.track_running_stats
            and self.momentum is not None
            and x.shape[0] % self.groups == 0
            # One value of a channel has no variance; torch says so.
            and x.numel() > x.shape[1] * self.groups
            and (gpu_norm.takes(x) if x.is_cuda else cpu_norm.takes(self, x))
        )

    def followed(self, x: Tensor, other: Tensor | None, relu: bool) -> Tensor:
        """Normalise maps that fit, add ``other``, cut below 0 if ``relu``. Running statistics move
        as `nn.BatchNorm2d` moves them, by one part after the other.
        """
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(self.groups)
        fused = gpu_norm.fused if x.is_cuda else cpu_norm.fused
        return fused(self, x, other, self.groups, relu)
