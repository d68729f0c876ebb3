"""Batch norms of a network in eval mode folded into the layers before them.

A batch norm that uses its running statistics is a scale and a shift of each channel, which the
convolution or linear layer before it can do itself: w' = w s, b' = (b - m) s + beta, with
s = gamma / sqrt(v + eps). The same function but for rounding, and one pass over memory less.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

from kaizen.models.backbone import SmallResNet, TorchvisionResNet

_Layer = nn.Conv2d | nn.Linear
_Norm = nn.BatchNorm1d | nn.BatchNorm2d


def fold_batch_norms(module: nn.Module) -> None:
    """Fold the batch norms of ``module``, in place, where they are known to follow the layer that
    is registered before them: within `nn.Sequential`, and in the two families of residual networks.

    Others stay, as do those that keep no running statistics. Weights become new frozen parameters.
    """
    if isinstance(module, SmallResNet | TorchvisionResNet):
        for part in module.modules():
            _fold_children(part)
        return
    if isinstance(module, nn.Sequential):
        _fold_children(module)
    for child in module.children():
        fold_batch_norms(child)


def _fold_children(module: nn.Module) -> None:
    """Fold the batch norms among the direct children of ``module`` into the child before each."""
    for (_, layer), (name, norm) in itertools.pairwise(list(module.named_children())):
        if isinstance(layer, _Layer) and isinstance(norm, _Norm) and norm.running_var is not None:
            _fold(layer, norm)
            setattr(module, name, nn.Identity())


@torch.no_grad()
def _fold(layer: _Layer, norm: _Norm) -> None:
    """Let ``layer`` do what ``norm`` does after it; computed in float64."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    dtype = layer.weight.dtype
    scale = (variance.double() + norm.eps).rsqrt()
    shift = torch.zeros_like(scale)
    if norm.weight is not None:
        scale, shift = scale * norm.weight.double(), norm.bias.double()
    bias = torch.zeros_like(scale) if layer.bias is None else layer.bias.double()
    per_output = scale.view(-1, *[1] * (layer.weight.ndim - 1))
    weight = (layer.weight.double() * per_output).to(dtype)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = nn.Parameter(
        ((bias - mean.double()) * scale + shift).to(dtype), requires_grad=False
    )
