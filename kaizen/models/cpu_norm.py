"""Batch norm on a CPU together with the addition and the ReLU that follow it, in bfloat16: by
compiled functions (`kaizen.models.compiled_norm`), in a third of the time of torch's operators.

What lies between is rounded once, and statistics are torch's up to float32's rounding.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from kaizen.compute.compiled import can_compile
from kaizen.compute.device import Compute

# Rows of about so many values: `kaizen.models.compiled_norm`.
_ROW = 128


def computes(compute: Compute) -> bool:
    """Whether the compiled functions compute on this device in this precision: on one thread, as
    torch's take several.
    """
    return (
        compute.device.type == "cpu"
        and compute.dtype == torch.bfloat16
        and torch.get_num_threads() == 1
        and can_compile()
    )


def takes(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    """Whether they take maps [N, C, H, W] that lie in memory as these do."""
    return (
        x.device.type == "cpu"
        and x.is_contiguous(memory_format=torch.channels_last)
        and norm.weight.dtype == torch.float32
    )


def fused(norm: nn.BatchNorm2d, x: Tensor, other: Tensor | None, groups: int, relu: bool) -> Tensor:
    """The batch norm of maps, of ``groups`` parts with statistics of their own, plus ``other``, cut
    below 0 if ``relu``; moves the running statistics.
    """
    result: Tensor = _Fused.apply(x, other, norm.weight, norm.bias, norm, groups, relu)  # type: ignore[no-untyped-call]  # torch's
    return result


class _Fused(torch.autograd.Function):
    """Batch norm, addition and ReLU as one operation (Ioffe and Szegedy 2015, arXiv:1502.03167)."""

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
        from kaizen.models import compiled_norm

        channels, y = len(weight), torch.empty_like(x)
        shape, statistics = _rows(x, groups), weight.new_empty(groups, 2, channels)
        other = None if other is None else _laid_out(other)
        running = norm.running_mean, norm.running_var
        compiled_norm.forward(
            groups,
            shape,
            x.data_ptr(),
            0 if other is None else other.data_ptr(),
            y.data_ptr(),
            weight.data_ptr(),
            bias.data_ptr(),
            statistics.data_ptr(),
            tuple(kept.data_ptr() for kept in running if kept is not None),
            channels,
            norm.eps,
            norm.momentum,
            relu,
        )
        # Without a ReLU nothing asks what came out.
        ctx.save_for_backward(x, y if relu else None, weight, statistics)
        ctx.shape, ctx.groups, ctx.added, ctx.relu = shape, groups, other is not None, relu
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from kaizen.models import compiled_norm

        x, y, weight, statistics = ctx.saved_tensors
        gradient, for_x = _laid_out(gradients[0]), torch.empty_like(x)
        masked = ctx.added and ctx.relu
        passed = torch.empty_like(x) if masked else gradient
        for_parameters = weight.new_empty(2, len(weight))
        compiled_norm.backward(
            ctx.groups,
            ctx.shape,
            gradient.data_ptr(),
            x.data_ptr(),
            x.data_ptr() if y is None else y.data_ptr(),
            weight.data_ptr(),
            statistics.data_ptr(),
            for_x.data_ptr(),
            passed.data_ptr() if masked else 0,
            for_parameters.data_ptr(),
            len(weight),
            ctx.relu,
        )
        for_weight, for_bias = for_parameters.unbind()
        return for_x, passed if ctx.added else None, for_weight, for_bias, None, None, None


def _laid_out(maps: Tensor) -> Tensor:
    """The maps with channels last."""
    return maps.contiguous(memory_format=torch.channels_last)


def _rows(maps: Tensor, groups: int) -> tuple[int, int]:
    """Number and length of the rows as which `kaizen.models.compiled_norm` takes each of the parts
    of maps [N, C, H, W].
    """
    channels, values = maps.shape[1], maps.numel() // groups
    copies = math.gcd(values // channels, max(1, _ROW // channels))
    return values // (channels * copies), channels * copies
