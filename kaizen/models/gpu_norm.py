"""Batch norm on a GPU together with the addition and the ReLU that follow it, in bfloat16.

Operation by operation each of them reads and writes the whole map: 13 passes over memory for both
ways. Here it is 8, by kernels that are compiled when they are first needed
(`kaizen.models.gpu_norm_source`), and what lies between is rounded once. Sums are always taken in
the same order, so the bits are the same every time.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaizen.compute.kernels import Kernels
from kaizen.models.gpu_norm_source import SOURCE

_THREADS = 256
# Chunks of the rows whose sums are taken apart, at most.
_CHUNKS = 256


@functools.cache
def kernels() -> Kernels:
    """The kernels, compiled; raises RuntimeError where they cannot be."""
    return Kernels(SOURCE)


def fused(norm: nn.BatchNorm2d, x: Tensor, other: Tensor | None, groups: int, relu: bool) -> Tensor:
    """The batch norm of maps, of ``groups`` parts with statistics of their own, plus ``other``, cut
    below 0 if ``relu``; moves the running statistics.
    """
    result: Tensor = _Fused.apply(x, other, norm.weight, norm.bias, norm, groups, relu)  # type: ignore[no-untyped-call]  # torch's
    return result


def takes(x: Tensor) -> bool:
    """Whether the kernels can divide the channels of maps [N, C, H, W] among a block's threads."""
    return x.shape[1] % 8 == 0 and x.shape[1] <= 8 * _THREADS


class _Fused(torch.autograd.Function):
    """The passes of a batch norm in training, forward and backward."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        other: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        norm: nn.BatchNorm2d,
        groups: int,
        relu: bool,
    ) -> Tensor:
        x = _by_rows(x)
        other = None if other is None else _by_rows(other)
        shape = _Shape(x, groups)
        numbers = torch.empty(groups, 4, shape.channels, device=x.device)
        partial = shape.partial_sums(x.device)
        run = kernels().launch
        run(
            "statistics",
            *(shape.summing, shape.threads, x, partial),
            *(shape.rows, shape.columns, shape.summed),
            shared=shape.shared,
        )
        run(
            "settle",
            *((shape.columns, 1), _THREADS, x, partial, weight, bias),
            *(norm.running_mean, norm.running_var, numbers),
            *(shape.rows, shape.channels, shape.chunks, groups, norm.momentum, norm.eps),
        )
        y = torch.empty_like(x)
        run(
            "normalise",
            *(shape.mapping, shape.threads, x, other, y, numbers[0, 2], numbers[0, 3]),
            *(4 * shape.channels, shape.rows, shape.columns, shape.mapped, int(relu)),
        )
        ctx.kind = 0 if not relu else 1 if other is None else 2
        ctx.groups, ctx.added = groups, other is not None
        ctx.save_for_backward(x, weight, numbers, y if ctx.kind == 2 else None)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, numbers, y = ctx.saved_tensors
        gradient = _by_rows(gradients[0].to(x.dtype))
        shape = _Shape(x, ctx.groups)
        partial = shape.partial_sums(x.device)
        run = kernels().launch
        run(
            "backward_sums",
            *(shape.summing, shape.threads, gradient, x, y, numbers, partial),
            *(shape.rows, shape.columns, shape.summed, ctx.kind),
            shared=shape.shared,
        )
        factors = torch.empty(ctx.groups, 3, shape.channels, device=x.device)
        for_weight, for_bias = torch.empty_like(weight), torch.empty_like(weight)
        run(
            "backward_settle",
            *((shape.columns, 1), _THREADS, partial, weight, numbers, factors),
            *(for_weight, for_bias, shape.rows, shape.channels, shape.chunks, ctx.groups),
        )
        result = torch.empty_like(x)
        # Without a ReLU what was added has the gradient as it is.
        for_other = torch.empty_like(x) if ctx.kind == 2 else gradient if ctx.added else None
        run(
            "backward",
            *(shape.mapping, shape.threads, gradient, x, y, numbers, factors, result),
            *(for_other if ctx.kind == 2 else None, shape.rows, shape.columns),
            *(shape.mapped, ctx.kind),
        )
        return result, for_other, for_weight, for_bias, None, None, None


class _Shape:
    """How the kernels divide maps [N, C, H, W] of ``groups`` parts among blocks and threads."""

    def __init__(self, x: Tensor, groups: int) -> None:
        self.channels = x.shape[1]
        self.columns = self.channels // 8
        self.rows = x.numel() // self.channels // groups
        lanes = _THREADS // self.columns
        self.threads = lanes * self.columns
        self.shared = 4 * lanes * 2 * self.channels
        # Rows of a block: of those that add up, and of those that go from map to map.
        wanted = min(_CHUNKS, max(1, self.rows // (16 * lanes)))
        self.summed = -(-self.rows // wanted)
        self.chunks = -(-self.rows // self.summed)
        self.mapped = 8 * lanes
        self.summing = (self.chunks, groups)
        self.mapping = (-(-self.rows // self.mapped), groups)

    def partial_sums(self, device: torch.device) -> Tensor:
        return torch.empty(*self.summing, 2, self.channels, device=device)


def _by_rows(maps: Tensor) -> Tensor:
    """[N, C, H, W] as [N, H, W, C] in memory."""
    return maps.contiguous(memory_format=torch.channels_last)


def shifted(x: Tensor, bias: Tensor, other: Tensor | None, relu: bool) -> Tensor:
    """x + bias (float32 [C]) + other, at least 0 where ``relu``, in one pass over bfloat16 maps
    [N, C, H, W]; without gradient.
    """
    if not takes(x):
        y = x + bias.to(x.dtype).view(-1, 1, 1)
        y = y if other is None else y + other
        return F.relu(y) if relu else y
    x = _by_rows(x)
    shape, y = _Shape(x, 1), torch.empty_like(x)
    kernels().launch(
        "normalise",
        *(shape.mapping, shape.threads, x, None if other is None else _by_rows(other), y),
        *(None, bias, 0, shape.rows, shape.columns, shape.mapped, int(relu)),
    )
    return y
