"""Gradients of convolutions where a network has shrunk an image to one pixel."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from kaizen.compute.seeding import seeded
from kaizen.models.backbone import build_backbone
from kaizen.models.convolution import Convolution, with_sound_gradients
from kaizen.params import NetworkParams


def spoil_free_memory() -> None:
    """What is handed out next may hold values that are not numbers."""
    sizes = (64, 1024, 16384, 262144, 1048576, 2400000)
    blocks = [torch.full((size,), float("nan")) for size in sizes for _ in range(3)]
    del blocks


def gradients(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Of every parameter, in bfloat16 autocast, with spoilt memory around."""
    network = copy.deepcopy(network).train()
    spoil_free_memory()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(images)
    spoil_free_memory()
    outputs.float().square().sum().backward()
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("backbone", "stem", "side"),
    [("resnet18", "cifar", 4), ("resnet18", "imagenet", 16), ("resnet50", "cifar", 4)],
)
def test_a_map_of_one_pixel_leaves_the_same_finite_gradients(
    backbone: str, stem: str, side: int
) -> None:
    with seeded(1):
        network = build_backbone(NetworkParams(backbone, stem=stem), 3)  # type: ignore[arg-type]
    images = torch.randn(16, 3, side, side, generator=torch.Generator().manual_seed(2))
    images = images.contiguous(memory_format=torch.channels_last)
    first, *others = [gradients(network, images) for _ in range(4)]
    assert all(bool(gradient.isfinite().all()) for gradient in first)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("side", [1, 2, 5])
def test_a_convolution_is_torchs(side: int) -> None:
    plain = nn.Conv2d(8, 16, 3, stride=2, padding=1)
    sound = copy.deepcopy(plain)
    with_sound_gradients(sound)
    assert type(sound) is Convolution
    assert list(sound.state_dict()) == list(plain.state_dict())
    images = torch.randn(4, 8, side, side, generator=torch.Generator().manual_seed(3))
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            ours, torchs = sound(images), plain(images)
        if side > 1 or dtype is torch.float32:
            assert torch.equal(ours, torchs)
        else:
            assert torch.allclose(ours, torchs.float(), atol=0.02)
