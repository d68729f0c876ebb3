"""Convolutions whose gradients are right for maps of one pixel too."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Convolution(nn.Conv2d):
    """As `nn.Conv2d`, but in float32 for maps of one pixel on a CPU.

    There the gradient of a kernel that is larger than the map and has a stride is, in bfloat16,
    memory that nobody has written (torch 2.13.0, oneDNN): other bits every time, or not a number.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map [N, C, H, W]; the result has the input's type in the case above, torch's in all
        others.
        """
        if input.shape[2:] == (1, 1) and input.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                weight, bias = self.weight.float(), None if self.bias is None else self.bias.float()
                result: Tensor = self._conv_forward(input.float(), weight, bias)
            return result.to(input.dtype)
        return super().forward(input)


def with_sound_gradients(network: nn.Module) -> None:
    """Make every convolution within ``network`` a `Convolution`, in place."""
    for part in network.modules():
        if type(part) is nn.Conv2d:
            part.__class__ = Convolution
