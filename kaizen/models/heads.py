"""Multilayer perceptrons: projectors, predictors and the classifier."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn


class Layer(NamedTuple):
    """One layer of an `mlp`: linear, then batch norm (``affine``: with scale and shift), ReLU, GELU
    where wanted.
    """

    in_features: int
    out_features: int
    batch_norm: bool
    relu: bool
    bias: bool = True
    affine: bool = True
    gelu: bool = False


def mlp(*layers: Layer) -> nn.Sequential:
    """Stack ``layers`` in order, with PyTorch's default initialisation; maps [N, in] to [N,
    out].
    """
    modules: list[nn.Module] = []
    for layer in layers:
        modules.append(nn.Linear(layer.in_features, layer.out_features, bias=layer.bias))
        if layer.batch_norm:
            modules.append(nn.BatchNorm1d(layer.out_features, affine=layer.affine))
        if layer.relu:
            modules.append(nn.ReLU(inplace=True))
        if layer.gelu:
            modules.append(nn.GELU())
    return nn.Sequential(*modules)


def two_layers(in_features: int, hidden: int, out_features: int, batch_norm: bool) -> nn.Sequential:
    """Two linear layers with ReLU between them, and batch norm before it where wanted: most
    projectors, predictors.
    """
    return mlp(
        Layer(in_features, hidden, batch_norm=batch_norm, relu=True),
        Layer(hidden, out_features, batch_norm=False, relu=False),
    )


def expander(in_features: int, hidden: int, out_features: int) -> nn.Sequential:
    """Three linear layers, batch norm and ReLU after all but the last: VICReg's and Barlow Twins'
    projector.
    """
    return mlp(
        Layer(in_features, hidden, batch_norm=True, relu=True),
        Layer(hidden, hidden, batch_norm=True, relu=True),
        Layer(hidden, out_features, batch_norm=False, relu=False),
    )


def classifier(in_features: int, hidden: Sequence[int], classes: int) -> nn.Sequential:
    """Build the classifier g: linear and ReLU per hidden width, then one logit per class of the
    stream.

    Maps features [N, in_features] to logits [N, classes]; no batch norm (fidelity.md §6; there
    ``hidden`` is one layer of 1000).
    """
    widths = [in_features, *hidden]
    layers = [Layer(a, b, batch_norm=False, relu=True) for a, b in itertools.pairwise(widths)]
    return mlp(*layers, Layer(widths[-1], classes, batch_norm=False, relu=False))


def without_last_outputs(head: nn.Sequential, count: int) -> None:
    """Take a `classifier`'s last ``count`` logits away, in place: what it was before it grew."""
    last = head[-1]
    if not isinstance(last, nn.Linear):
        raise TypeError(f"a classifier ends with a linear layer, not with {type(last).__name__}")
    last.out_features -= count
    last.weight = nn.Parameter(last.weight.detach()[:-count].clone())
    last.bias = nn.Parameter(last.bias.detach()[:-count].clone())
