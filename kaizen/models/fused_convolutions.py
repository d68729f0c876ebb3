"""A folded network's convolutions, each with the addition and the ReLU that follow it: on a CPU in
one pass of oneDNN, on a GPU in two, of which the second does all but the convolution.

Operation by operation every layer's output is written and read again for each of them, which takes
about as long as the convolution. A sum and its ReLU are rounded once instead of three times;
everything else has the same bits on a CPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kaizen.compute.device import Compute
from kaizen.models import resnet
from kaizen.models.backbone import BasicBlock, SmallResNet, TorchvisionResNet
from kaizen.models.gpu_convolutions import ShiftedConvolution, has_kernels

_BLOCKS = (BasicBlock, resnet.BasicBlock, resnet.Bottleneck)


def fuse_convolutions(network: nn.Module, compute: Compute) -> None:
    """Fuse the residual blocks and stems of the backbones within ``network``, in place: a network
    that is only read, whose batch norms are folded (`kaizen.models.folded`).

    Where this device or precision has no such convolutions, or a backbone has batch norms left, it
    stays as it is. What is fused can be used without gradients only.
    """
    fused = _fused_by(compute)
    if fused is None:
        return
    for backbone in list(network.modules()):
        if not isinstance(backbone, SmallResNet | TorchvisionResNet) or _has_norms(backbone):
            continue
        for part in list(backbone.modules()):
            for name, child in list(part.named_children()):
                if isinstance(child, _BLOCKS):
                    setattr(part, name, _FusedBlock(child, fused))
        # Attributes are typed as what they were.
        stem: nn.Module = backbone if isinstance(backbone, SmallResNet) else backbone.network
        if isinstance(backbone, SmallResNet):
            stem.stem = fused(backbone.stem[0], relu=True)
        else:
            stem.conv1 = fused(backbone.network.conv1, relu=True)
            stem.relu = nn.Identity()


def _fused_by(compute: Compute) -> Callable[..., nn.Module] | None:
    """What makes a fused convolution of a layer (and ``relu``) on this device in this precision."""
    if _fusible(compute):
        return functools.partial(_FusedConvolution, dtype=compute.dtype)
    return ShiftedConvolution if has_kernels(compute) else None


def _fusible(compute: Compute) -> bool:
    """Whether oneDNN's fused convolutions compute on this device in this precision."""
    if compute.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    if compute.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return True


def _has_norms(network: nn.Module) -> bool:
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules())


class _FusedConvolution(nn.Module):
    """A convolution, the addition of another tensor where one is given, and a ReLU if ``relu``."""

    def __init__(self, layer: nn.Module, *, dtype: torch.dtype, relu: bool) -> None:
        super().__init__()
        if not isinstance(layer, nn.Conv2d):
            raise TypeError(f"{type(layer).__name__} is no convolution")
        self.weight = nn.Parameter(layer.weight.detach().to(dtype), requires_grad=False)
        bias = None if layer.bias is None else layer.bias.detach().to(dtype)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self._shape = (layer.padding, layer.stride, layer.dilation, layer.groups)
        self._relu = "relu" if relu else None

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Of [N, C, H, W], in any floating type; ``other`` has the shape of the result."""
        inputs = (self.weight, self.bias, *self._shape)
        operators = torch.ops.mkldnn._convolution_pointwise
        x = x.to(self.weight.dtype)
        result: Tensor
        if other is None:
            result = operators.default(x, *inputs, self._relu or "none", [], "")
        else:
            result = operators.binary(x, other, *inputs, "add", 1.0, self._relu, [], "")
        return result


class _FusedBlock(nn.Module):
    """A residual block: the last convolution adds the shortcut."""

    def __init__(self, block: nn.Module, fused: Callable[..., nn.Module]) -> None:
        super().__init__()
        names = [name for name, part in block.named_children() if isinstance(part, nn.Conv2d)]
        self.convolutions = nn.ModuleList(fused(getattr(block, name), relu=True) for name in names)
        shortcut = block.shortcut if isinstance(block, BasicBlock) else block.downsample
        self.shortcut: nn.Module = nn.Identity()
        if isinstance(shortcut, nn.Sequential):
            self.shortcut = fused(shortcut[0], relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """As the block's."""
        shortcut = self.shortcut(x)
        *before, last = self.convolutions
        for convolution in before:
            x = convolution(x)
        result: Tensor = last(x, shortcut)
        return result
