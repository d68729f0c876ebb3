"""A batch norm and what follows it in a residual network: the addition of the shortcut, and a
ReLU.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from kaizen.compute.compiled import can_compile
from kaizen.models.gpu_norm import FusedNorm

# Rows of about so many values: `kaizen.models.compiled_norm`.
_ROW = 128


def norm_relu(
    norm: nn.Module, relu: nn.Module | None, x: Tensor, other: Tensor | None = None
) -> Tensor:
    """``relu`` (None: nothing) of ``norm`` of maps [N, C, H, W], plus ``other``, of the same shape,
    where there is one.

    In bfloat16 on one thread of a CPU a batch norm in training is computed together with them, in a
    third of the time: sums are rounded once instead of three times, statistics are torch's up to
    float32's rounding (fidelity.md §2). On a GPU `kaizen.models.gpu_norm` may do so. Everywhere
    else module by module.
    """
    if isinstance(norm, FusedNorm):
        return norm.followed(x, other, relu is not None)
    if isinstance(norm, nn.BatchNorm2d) and _fits(norm, relu, x, other):
        result: Tensor = _NormReLU.apply(x, other, norm.weight, norm.bias, norm, relu is not None)  # type: ignore[no-untyped-call]  # torch's
        return result
    result = norm(x)
    if other is not None:
        # Not in place: in bfloat16 on a CPU that takes twice as long.
        result = result + other
    return result if relu is None else relu(result)


def _fits(norm: nn.BatchNorm2d, relu: nn.Module | None, x: Tensor, other: Tensor | None) -> bool:
    """Whether the compiled functions compute this."""
    return (
        norm.training
        and x.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and type(norm) is nn.BatchNorm2d
        and type(relu) in (nn.ReLU, type(None))
        and norm.weight is not None
        and norm.weight.dtype == torch.float32
        and norm.running_mean is not None
        and norm.momentum is not None
        and x.is_contiguous(memory_format=torch.channels_last)
        and (other is None or (other.dtype == x.dtype and other.shape == x.shape))
        # One value of a channel has no variance; torch says so.
        and x.numel() > x.shape[1]
        and torch.get_num_threads() == 1
        and can_compile()
    )


class _NormReLU(torch.autograd.Function):
    """Batch norm, addition and ReLU as one operation (Ioffe and Szegedy 2015, arXiv:1502.03167)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        other: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        norm: nn.BatchNorm2d,
        relu: bool,
    ) -> Tensor:
        """Normalise by the statistics of the batch, and move the running ones as `nn.BatchNorm2d`
        does.
        """
        from kaizen.models import compiled_norm

        channels, y = len(weight), torch.empty_like(x)
        shape, statistics = _rows(x), weight.new_empty(2, channels)
        other = None if other is None else _laid_out(other)
        running = norm.running_mean, norm.running_var
        compiled_norm.forward(
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
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        ctx.save_for_backward(x, y, weight, statistics)
        ctx.shape, ctx.added, ctx.relu = shape, other is not None, relu
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of maps, addition, weight and bias."""
        from kaizen.models import compiled_norm

        x, y, weight, statistics = ctx.saved_tensors
        gradient, for_x = _laid_out(gradients[0]), torch.empty_like(x)
        masked = ctx.added and ctx.relu
        passed = torch.empty_like(x) if masked else gradient
        for_parameters = torch.empty_like(statistics)
        compiled_norm.backward(
            ctx.shape,
            gradient.data_ptr(),
            x.data_ptr(),
            y.data_ptr(),
            weight.data_ptr(),
            statistics.data_ptr(),
            for_x.data_ptr(),
            passed.data_ptr() if masked else 0,
            for_parameters.data_ptr(),
            len(weight),
            ctx.relu,
        )
        for_weight, for_bias = for_parameters.unbind()
        return for_x, passed if ctx.added else None, for_weight, for_bias, None, None


def _laid_out(maps: Tensor) -> Tensor:
    """The maps with channels last."""
    return maps.contiguous(memory_format=torch.channels_last)


def _rows(maps: Tensor) -> tuple[int, int]:
    """Number and length of the rows as which `kaizen.models.compiled_norm` takes maps [N, C, H,
    W].
    """
    channels = maps.shape[1]
    copies = math.gcd(maps.numel() // channels, max(1, _ROW // channels))
    return maps.numel() // (channels * copies), channels * copies
