"""Encoders whose batch several processes share: each encodes its rows and gets the features of all.

Around the encoders nothing changes: heads, losses, queues, prototypes and centres see the features
of the whole batch in every process, and are the same in every process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kaizen.compute import distributed
from kaizen.compute.precision import full_precision, widened
from kaizen.errors import KaizenError
from kaizen.models.backbone import Backbone


def share_encoders(model: nn.Module, rows: int) -> None:
    """Let every backbone within ``model`` encode this process's part of batches of ``rows``; alone,
    do nothing.

    It is then called with the `distributed.own_rows` of the images and returns the features of all
    ``rows``. Batch norms take their statistics of all rows too. Names in the state dict stay.
    Raises KaizenError where the backbone has a normalisation over the batch that cannot be shared.
    """
    if distributed.count() == 1:
        return
    for backbone in _backbones(model):
        for module in backbone.modules():
            share_statistics(module)
        backbone.register_forward_hook(
            lambda module, inputs, features: distributed.gather_rows(features, rows)
        )


def encoder_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The trained parameters of the backbones within ``model``, whose gradients the processes have
    parts of.
    """
    return [p for backbone in _backbones(model) for p in backbone.parameters() if p.requires_grad]


def _backbones(model: nn.Module) -> Iterator[Backbone]:
    return (module for module in model.modules() if isinstance(module, Backbone))


def share_statistics(module: nn.Module) -> None:
    """Turn a batch norm into one over all processes, in place: it keeps its tensors, settings and
    children.

    Leaves other modules alone; raises KaizenError for an unknown one that has statistics of the
    batch.
    """
    kind = type(module)
    if kind in (nn.BatchNorm1d, nn.BatchNorm2d):
        module.__class__ = SharedBatchNorm
    elif issubclass(kind, nn.BatchNorm2d) and kind.__name__ == "BatchNormAct2d":
        module.__class__ = SharedBatchNormAct
    elif hasattr(module, "running_var"):
        raise KaizenError(
            f"runtime.processes: the backbone's {kind.__name__} takes statistics of the batch in "
            "a way that several processes cannot share; set it to 1 or choose another backbone"
        )


class SharedBatchNorm(_BatchNorm):
    """`nn.BatchNorm1d` or `nn.BatchNorm2d` over the rows of all processes; inputs [N, C, …], N of
    each its own.

    `nn.SyncBatchNorm` does the same on GPUs only. Statistics are computed in float32 (float64 for
    float64 inputs).
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise, and in training mode move the running statistics (variance unbiased), as
        `nn.BatchNorm2d`.
        """
        if not self.training and self.running_mean is not None:
            return F.batch_norm(
                input,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                training=False,
                eps=self.eps,
            )
        statistics = _shared_statistics(input)
        mean, variance, number = statistics
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            share = (
                1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            )
            unbiased = variance * (number / (number - 1))
            for running, now in ((self.running_mean, mean), (self.running_var, unbiased)):
                if running is not None:
                    running.lerp_(now.to(running.dtype), share)
        weight = mean.new_ones(len(mean)) if self.weight is None else self.weight
        bias = mean.new_zeros(len(mean)) if self.bias is None else self.bias
        normalised: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]  # torch's
            input, weight, bias, statistics, self.eps
        )
        return normalised

    def _check_input_dim(self, input: Tensor) -> None:
        """Part of `_BatchNorm`; the shape was checked when the backbone was built."""


class SharedBatchNormAct(SharedBatchNorm):
    """timm's `BatchNormAct2d`, a batch norm with dropout (none, see `TimmBackbone`) and activation
    after it.
    """

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Normalise as `SharedBatchNorm`, then activate."""
        normalised: Tensor = self.act(self.drop(super().forward(input)))
        return normalised


class _Statistics(NamedTuple):
    """Of each channel: mean [C], biased variance [C] and number of values []."""

    mean: Tensor
    variance: Tensor
    number: Tensor


@torch.no_grad()
def _shared_statistics(own: Tensor) -> _Statistics:
    """The statistics of all processes' [N, C, …].

    Each process's variance is of the deviations from its own mean, and they are combined by those
    (Chan et al. 1979): sums of squares would cancel where a mean is large.
    """
    with full_precision(own.device.type):
        values = widened(own)
        mean, variance = torch.batch_norm_update_stats(values, None, None, 0.0)
        number = torch.full_like(mean[:1], values.numel() // len(mean))
        parts = distributed.gather(torch.cat([mean, variance, number]))
        means, variances, numbers = parts.split([len(mean), len(mean), 1], dim=1)
        total = numbers.sum()
        shares = numbers / total
        mean = (shares * means).sum(dim=0)
        variance = (shares * (variances + (means - mean).square())).sum(dim=0)
        return _Statistics(mean, variance, total)


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, where mean and variance are those of all
    processes' x.

    Weight's and bias's gradients are the own rows' part, as every encoder parameter's.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        statistics: _Statistics,
        eps: float,
    ) -> Tensor:
        mean, variance, number = statistics
        ctx.save_for_backward(x, weight, mean, variance, number)
        ctx.eps = eps
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, number = ctx.saved_tensors
        # With constant statistics, by the fused kernel; what they owe to x is then taken off,
        # channel by channel.
        direct, for_weight, for_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        total_weight, total_bias = distributed.sum_up(torch.stack([for_weight, for_bias])).unbind()
        inverse = (variance + ctx.eps).rsqrt()
        shape = (1, -1, *[1] * (x.ndim - 2))
        by_mean = (weight * inverse * total_bias / number).view(shape)
        by_variance = (weight * inverse.square() * total_weight / number).view(shape)
        owed = torch.addcmul(by_mean, by_variance, widened(x) - mean.view(shape))
        return (widened(direct) - owed).to(x.dtype), for_weight, for_bias, None, None
