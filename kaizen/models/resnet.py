"""ResNet-18 and ResNet-50 (He et al. 2016, arXiv:1512.03385), weight for weight as torchvision's.

Own code because importing torchvision's models imports its operators, and with them torch's
compiler: a second of each job's start. Names of the parameters, their initial values and their
order are torchvision's (`tests/test_models.py` compares the bits), so that its weights fit.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from kaizen.models.norm_relu import norm_relu


class Projection(nn.Sequential):
    """The shortcut where shapes change: a 1x1 convolution with a stride, and its batch norm."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Map ``inputs`` channels to ``outputs``."""
        super().__init__(
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride] (rounded up)."""
        convolution, norm = self
        return norm_relu(norm, None, convolution(x))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        """Map ``inputs`` channels to ``width``; ``downsample`` is the shortcut where shapes
        change.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, width, H / stride, W / stride] (rounded up)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = norm_relu(self.bn1, self.relu, self.conv1(x))
        return norm_relu(self.bn2, self.relu, self.conv2(out), shortcut)


class Bottleneck(nn.Module):
    """Convolutions of 1x1, 3x3 (with the stride, as in ResNet V1.5) and 1x1, and a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        """Map ``inputs`` channels to 4 x ``width``; ``downsample`` as in `BasicBlock`."""
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, 4 * width, H / stride, W / stride] (rounded up)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = norm_relu(self.bn1, self.relu, self.conv1(x))
        out = norm_relu(self.bn2, self.relu, self.conv2(out))
        return norm_relu(self.bn3, self.relu, self.conv3(out), shortcut)


class ResNet(nn.Module):
    """A residual network for images [N, 3, H, W]: a 7x7 stem, four stages, and a classification
    layer of 1000 classes.
    """

    def __init__(self, block: type[BasicBlock | Bottleneck], blocks: tuple[int, ...]) -> None:
        """``blocks`` of each stage. Convolutions start from He's normal initialisation by
        fan-out.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = block.expansion * 64
        self.layer1 = _stage(block, 64, 64, blocks[0], stride=1)
        self.layer2 = _stage(block, inputs, 128, blocks[1], stride=2)
        self.layer3 = _stage(block, 2 * inputs, 256, blocks[2], stride=2)
        self.layer4 = _stage(block, 4 * inputs, 512, blocks[3], stride=2)
        self.avgpool = AveragePool()
        self.feature_dim = 8 * inputs
        self.fc: nn.Module = nn.Linear(self.feature_dim, 1000)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to [N, 1000], or to what ``fc`` was replaced by."""
        x = self.maxpool(norm_relu(self.bn1, self.relu, self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        out: Tensor = self.fc(self.avgpool(x))
        return out


class AveragePool(nn.Module):
    """`pooled`, under torchvision's name for it."""

    def forward(self, maps: Tensor) -> Tensor:
        """See `pooled`."""
        return pooled(maps)


def pooled(maps: Tensor) -> Tensor:
    """The mean of every channel, [N, C], of maps [N, C, H, W].

    Of maps with channels last, the gradient lies in memory as they do: the layers before would go
    through another number by number.
    """
    if maps.requires_grad and maps.is_contiguous(memory_format=torch.channels_last):
        return maps.permute(0, 2, 3, 1).mean(dim=(1, 2))
    return maps.mean(dim=(2, 3))


def _stage(
    block: type[BasicBlock | Bottleneck], inputs: int, width: int, count: int, stride: int
) -> nn.Sequential:
    """``count`` blocks, of which the first has the stride and a convolution in its shortcut where
    shapes change.
    """
    outputs = block.expansion * width
    downsample = None
    if stride != 1 or inputs != outputs:
        downsample = Projection(inputs, outputs, stride)
    first = block(inputs, width, stride, downsample)
    return nn.Sequential(first, *(block(outputs, width, 1, None) for _ in range(1, count)))


RESNETS = {
    "resnet18": functools.partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet50": functools.partial(ResNet, Bottleneck, (3, 4, 6, 3)),
}
