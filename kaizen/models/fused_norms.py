"""The residual networks with batch norms fused with what follows them (`kaizen.models.norm_relu`),
and both views of a batch in one pass through them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kaizen.compute import distributed
from kaizen.compute.device import Compute
from kaizen.models import cpu_norm
from kaizen.models.backbone import SmallResNet, TorchvisionResNet
from kaizen.models.convolution import Convolution
from kaizen.models.gpu_convolutions import PaddedConvolution, has_kernels
from kaizen.models.norm_relu import FusedNorm

# On a CPU, views of more values go one by one: the maps of both would not stay in its caches.
_MOST_VALUES = 1 << 19


def fuse_norms(network: nn.Module, compute: Compute, note: Callable[[str], None]) -> None:
    """Fuse the batch norms of the residual networks within ``network``, in place, where compiled
    code computes them in bfloat16 for this process alone. Names in the state dict stay.

    ``note`` is told where a GPU's kernels cannot be had; all then stays as it was.
    """
    backbones = [m for m in network.modules() if isinstance(m, SmallResNet | TorchvisionResNet)]
    if not backbones or distributed.count() > 1:
        return
    on_gpu = has_kernels(compute, note)
    if not on_gpu and not cpu_norm.computes(compute):
        return
    for part in itertools.chain.from_iterable(backbone.modules() for backbone in backbones):
        if type(part) is nn.BatchNorm2d:
            part.__class__ = FusedNorm
        elif on_gpu and type(part) is Convolution and part.in_channels < 8 and part.groups == 1:
            part.__class__ = PaddedConvolution


def encoded(encoder: nn.Module, views: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The features [N, F] of two views [N, C, H, W], each with the statistics of its own batch.

    Of a network with fused batch norms in one pass: larger kernels, and half as many
    (docs/performance.md).
    """
    norms = [part for part in encoder.modules() if isinstance(part, FusedNorm)]
    large = not views[0].is_cuda and views[0].numel() > _MOST_VALUES
    if not norms or not encoder.training or large:
        return encoder(views[0]), encoder(views[1])
    for norm in norms:
        norm.groups = 2
    try:
        first, second = encoder(torch.cat(views)).chunk(2)
    finally:
        for norm in norms:
            norm.groups = 1
    return first, second
