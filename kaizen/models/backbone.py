"""Backbones: networks that turn images into feature vectors."""

from __future__ import annotations

import copy
import difflib

import torch
from torch import Tensor, nn

from kaizen.compute.torchvision_compat import prepare_torchvision
from kaizen.errors import KaizenError
from kaizen.models.convolution import with_sound_gradients
from kaizen.models.norm_relu import norm_relu
from kaizen.models.resnet import RESNETS, Projection, pooled
from kaizen.params import NetworkParams
from kaizen.params.registry import TIMM


class Backbone(nn.Module):
    """A feature extractor: images [N, C, H, W], float, to features [N, feature_dim]."""

    feature_dim: int

    def forward(self, images: Tensor) -> Tensor:
        """Return the features [N, feature_dim] of ``images`` [N, C, H, W]."""
        raise NotImplementedError


def build_backbone(
    model: NetworkParams, channels: int, stem_padding_2: bool = False, image_size: int | None = None
) -> Backbone:
    """Build the backbone that ``model`` names, for images of ``channels`` channels, untrained and
    on the CPU.

    ``stem_padding_2`` is the reference's CIFAR stem with padding 2 (fidelity.md §2); other stems
    ignore it. ``image_size`` is the images' side, which models of timm have to know. Build inside
    `kaizen.compute.seeding.seeded` for reproducible weights. Raises KaizenError when the package
    that the backbone needs is not installed, or timm has no such model for these images.
    """
    backbone = _backbone(model, channels, stem_padding_2, image_size)
    with_sound_gradients(backbone)
    return backbone


def _backbone(
    model: NetworkParams, channels: int, stem_padding_2: bool, image_size: int | None
) -> Backbone:
    if model.backbone == "small_resnet":
        return SmallResNet(channels, model.width)
    if model.backbone.startswith(TIMM):
        if image_size is None:
            raise ValueError(f"{model.backbone} has to know the size of its images")
        return TimmBackbone(model.backbone.removeprefix(TIMM), channels, image_size)
    return TorchvisionResNet(
        model.backbone, channels, cifar_stem=model.stem == "cifar", stem_padding_2=stem_padding_2
    )


class BasicBlock(nn.Module):
    """The basic residual block of He et al. 2016 (arXiv:1512.03385): two 3x3 convolutions and a
    shortcut.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        """The shortcut is a strided 1x1 convolution where the shape changes, the identity
        elsewhere.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = Projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H / stride, W / stride] (rounded up)."""
        out = norm_relu(self.bn1, self.relu, self.conv1(x))
        return norm_relu(self.bn2, self.relu, self.conv2(out), self.shortcut(x))


class _Stem(nn.Sequential):
    """A convolution, a batch norm and a ReLU."""

    def forward(self, images: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, width, H, W]."""
        convolution, norm, relu = self
        return norm_relu(norm, relu, convolution(images))


class SmallResNet(Backbone):
    """A residual network for small images: 3x3 stem, three stages of one basic block (widths w, 2w,
    4w).
    """

    def __init__(self, channels: int, width: int) -> None:
        """Convolutions start from He's normal initialisation by fan-out, as torchvision's residual
        networks do.
        """
        super().__init__()
        self.feature_dim = 4 * width
        self.stem = _Stem(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.Sequential(
            BasicBlock(width, width, stride=1),
            BasicBlock(width, 2 * width, stride=2),
            BasicBlock(2 * width, 4 * width, stride=2),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return the globally average-pooled last stage: [N, C, H, W] to [N, 4 * width]."""
        return pooled(self.stages(self.stem(images)))


class TorchvisionResNet(Backbone):
    """torchvision's ResNet-18 or ResNet-50 without its classification layer (fidelity.md §2)."""

    def __init__(self, name: str, channels: int, cifar_stem: bool, stem_padding_2: bool) -> None:
        """See `build_backbone`; a replaced stem keeps PyTorch's default initialisation, as the
        reference's does.
        """
        super().__init__()
        self.network = RESNETS[name]()
        self.feature_dim = self.network.feature_dim
        self.network.fc = nn.Identity()
        if cifar_stem:
            padding = 2 if stem_padding_2 else 1
            self.network.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=padding, bias=False)
            self.network.maxpool = nn.Identity()
        elif channels != 3:
            self.network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the globally average-pooled last stage: [N, C, H, W] to [N, 512] (resnet18) or [N,
        2048].
        """
        features: Tensor = self.network(images)
        return features


class TimmBackbone(Backbone):
    """Any model of timm (PyTorch Image Models) without its classification layer, never with
    pretrained weights.
    """

    def __init__(self, name: str, channels: int, size: int) -> None:
        """Build the model for images [N, channels, size, size]; its features are counted on blank
        ones.

        Raises KaizenError when timm is not installed or has no such model, or when the model does
        not take such images or has dropout, whose random numbers a resumed step could not repeat.
        """
        super().__init__()
        # timm imports torchvision.
        prepare_torchvision()
        try:
            import timm
        except ImportError as error:
            raise KaizenError(
                f"model.backbone: {TIMM}{name} needs the package timm, which cannot be imported "
                f"({error}); pip install timm, or choose another backbone"
            ) from error
        if not timm.is_model(name):
            close = difflib.get_close_matches(name, timm.list_models(), n=1)
            fix = (
                f"did you mean {TIMM}{close[0]}?" if close else "timm.list_models() names them all"
            )
            raise KaizenError(f"model.backbone: timm {timm.__version__} has no model {name}; {fix}")
        # Transformers are built for one size; other models take any and know no such argument.
        fixed = getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False)
        sized = {"img_size": size} if fixed else {}
        try:
            self.network = timm.create_model(
                name, pretrained=False, num_classes=0, in_chans=channels, **sized
            )
            shape, repeatable = _tried(self.network, torch.zeros(2, channels, size, size))
        except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise KaizenError(
                f"model.backbone: {TIMM}{name} does not take images of {channels}x{size}x{size} "
                f"({' '.join(str(error).split())[:200]}); change image.size or choose another "
                "backbone"
            ) from error
        if len(shape) != 2:
            raise KaizenError(
                f"model.backbone: {TIMM}{name} gives {shape[1:]} for an image, not one vector of "
                "features; choose another backbone"
            )
        if not repeatable:
            raise KaizenError(
                f"model.backbone: {TIMM}{name} draws random numbers as it trains (dropout), so an "
                "interrupted step would not end as an uninterrupted one; choose another backbone"
            )
        self.feature_dim = shape[1]

    def forward(self, images: Tensor) -> Tensor:
        """Return the model's pooled features: [N, C, H, W] to [N, feature_dim]."""
        features: Tensor = self.network(images)
        return features


def _tried(network: nn.Module, images: Tensor) -> tuple[tuple[int, ...], bool]:
    """The shape of what a copy of the network makes of images in training, and whether it drew no
    random numbers.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.random.get_rng_state()
        shape = tuple(copy.deepcopy(network).train()(images).shape)
        return shape, torch.equal(before, torch.random.get_rng_state())
