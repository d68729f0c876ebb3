"""Convolutions of the residual networks on a GPU, and whether our kernels compute there."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaizen.compute.device import Compute
from kaizen.compute.kernels import lacking
from kaizen.models.convolution import Convolution
from kaizen.models.gpu_norm import shifted


def has_kernels(compute: Compute, note: Callable[[str], None] = lambda text: None) -> bool:
    """Whether the kernels compute on this device in this precision; ``note`` is told where they
    would but cannot be compiled.
    """
    if compute.device.type != "cuda" or compute.dtype != torch.bfloat16:
        return False
    if reason := lacking():
        note(f"note: batch norms are computed by torch's kernels, which are slower ({reason})")
    return not reason


class PaddedConvolution(Convolution):
    """A convolution of fewer than eight channels, filled up with channels of zeros: cuDNN computes
    others outside the tensor cores.
    """

    def forward(self, input: Tensor) -> Tensor:
        """As `Convolution`."""
        if not input.is_cuda:
            return super().forward(input)
        result: Tensor = self._conv_forward(_eight(input), _eight(self.weight), self.bias)
        return result


def _eight(tensor: Tensor) -> Tensor:
    """[N, C, H, W] with channels of zeros, so that there are eight; eight or more stay."""
    missing = 8 - tensor.shape[1]
    return F.pad(tensor, (0, 0, 0, 0, 0, missing)) if missing > 0 else tensor


class ShiftedConvolution(nn.Module):
    """A frozen convolution in bfloat16 with its bias, the addition of another tensor where one is
    given, and a ReLU if ``relu``, these three in one pass.
    """

    def __init__(self, layer: nn.Module, *, relu: bool) -> None:
        """Take over a convolution's numbers."""
        super().__init__()
        if not isinstance(layer, nn.Conv2d) or layer.bias is None:
            raise TypeError(f"{type(layer).__name__} is no convolution with a bias")
        weight = layer.weight.detach() if layer.groups > 1 else _eight(layer.weight.detach())
        weight = weight.to(torch.bfloat16, memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(layer.bias.detach().float(), requires_grad=False)
        self._stride, self._relu = layer.stride, relu
        # cuDNN computes some 1x1 convolutions with a stride outside the tensor cores, and turns
        # maps round for it: the pixels that they skip are left out before.
        self._skips = layer.kernel_size == (1, 1) and layer.padding == (0, 0)
        self._padding, self._dilation, self._groups = layer.padding, layer.dilation, layer.groups

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Of [N, C, H, W], in any floating type; ``other`` has the shape of the result."""
        x, stride = x.to(torch.bfloat16), self._stride
        if x.shape[1] < self.weight.shape[1]:
            x = _eight(x)
        if self._skips and stride != (1, 1):
            x = x[:, :, :: stride[0], :: stride[1]].contiguous(memory_format=torch.channels_last)
            stride = (1, 1)
        x = F.conv2d(x, self.weight, None, stride, self._padding, self._dilation, self._groups)
        return shifted(x, self.bias, other, self._relu)
