"""A teacher's convolutions with their sums and ReLUs in one pass: the same function, closer."""

from __future__ import annotations

import copy

import pytest
import torch
from ssl_models import small_model
from torch import Tensor, nn

from kaizen.compute.device import Compute
from kaizen.models import fused_convolutions
from kaizen.models.backbone import Backbone, build_backbone
from kaizen.models.folded import fold_batch_norms
from kaizen.models.fused_convolutions import fuse_convolutions
from kaizen.models.resnet import pooled
from kaizen.params import ModelParams
from kaizen.training.student import frozen_copy

CPU = torch.device("cpu")
FLOAT32, BFLOAT16 = Compute(CPU, torch.float32), Compute(CPU, torch.bfloat16)
BACKBONES = ["small_resnet", "resnet18", "resnet50"]

needs = {
    compute: pytest.mark.skipif(
        not fused_convolutions._fusible(compute),
        reason=f"oneDNN fuses nothing in {compute.dtype} here",
    )
    for compute in (FLOAT32, BFLOAT16)
}


def folded_backbone(name: str, channels: int = 3) -> Backbone:
    """In eval mode with statistics of its own, folded, without gradients."""
    network = build_backbone(ModelParams(backbone=name, width=8), channels)
    generator = torch.Generator().manual_seed(3)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            norm.running_mean.normal_(std=0.1, generator=generator)
            norm.weight.data.uniform_(0.5, 1.0, generator=generator)
    network = network.eval().requires_grad_(False)
    fold_batch_norms(network)
    return FLOAT32.place(network)


def images(channels: int = 3) -> Tensor:
    drawn = torch.randn(6, channels, 32, 32, generator=torch.Generator().manual_seed(1))
    return drawn.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def features(network: Backbone, compute: Compute, channels: int = 3) -> Tensor:
    with compute.autocast():
        found: Tensor = network(images(channels))
        return found


@needs[FLOAT32]
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_same_function(backbone: str) -> None:
    network = folded_backbone(backbone)
    changed = copy.deepcopy(network)
    fuse_convolutions(changed, FLOAT32)
    assert not any(isinstance(part, nn.Conv2d | nn.ReLU) for part in changed.modules())
    torch.testing.assert_close(
        features(changed, FLOAT32), features(network, FLOAT32), rtol=1e-4, atol=1e-5
    )


@needs[BFLOAT16]
@pytest.mark.parametrize(("backbone", "channels"), [("small_resnet", 1), ("resnet18", 3)])
def test_in_bfloat16_no_farther_from_the_exact_features(backbone: str, channels: int) -> None:
    network = folded_backbone(backbone, channels)
    exact = copy.deepcopy(network).double()(images(channels).double())
    before = features(network, BFLOAT16, channels)
    fuse_convolutions(network, BFLOAT16)
    after = features(network, BFLOAT16, channels)
    assert after.dtype == before.dtype == torch.bfloat16
    apart = [(found.double() - exact).square().mean().sqrt() for found in (before, after)]
    assert 0 < apart[1] <= 1.1 * apart[0]
    assert torch.equal(after, features(network, BFLOAT16, channels))


@needs[FLOAT32]
def test_a_teacher_is_fused_as_a_whole() -> None:
    teacher = frozen_copy(small_model("byol"), train_mode=False)
    inside = len(list(teacher.modules()))
    fuse_convolutions(teacher, FLOAT32)
    assert len(list(teacher.modules())) < inside
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_what_cannot_be_fused_stays() -> None:
    kept = build_backbone(ModelParams(width=8), 3)
    gpu = folded_backbone("small_resnet")
    for network, compute in (
        (kept, FLOAT32),
        (gpu, Compute(torch.device("cuda"), torch.float32)),
    ):
        before = [type(part) for part in network.modules()]
        fuse_convolutions(network, compute)
        assert [type(part) for part in network.modules()] == before


def test_the_gradient_of_pooled_maps_lies_as_the_maps_do() -> None:
    maps = torch.randn(4, 8, 5, 5).contiguous(memory_format=torch.channels_last)
    maps.requires_grad_()
    found = pooled(maps)
    assert torch.equal(found, pooled(maps.detach()))
    weights = torch.randn(4, 8)
    (gradient,) = torch.autograd.grad((found * weights).sum(), maps)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(gradient, (weights / 25)[:, :, None, None].expand_as(maps))
