"""What a step asks a cluster for, against what steps were measured to need."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kaizen.params import (
    AugmentParams,
    BYOLParams,
    FeatureDistillParams,
    ImageParams,
    NetworkParams,
    OptimisationParams,
    SimCLRParams,
)
from kaizen.plan.memory import step_memory_mb
from kaizen.plan.specs import StepSpec

# Peak of the resident memory of two batches of a step k > 0 and of saving it, MB, in float32: on
# two cores with AMX, torch 2.13.0, 2026-11-26 (docs/performance.md).
MEASURED = [
    ("small_resnet", "cifar", 8, 32, 32, 355),
    ("small_resnet", "cifar", 16, 16, 64, 343),
    ("small_resnet", "cifar", 16, 32, 40, 409),
    ("small_resnet", "cifar", 16, 32, 72, 474),
    ("small_resnet", "cifar", 16, 32, 288, 904),
    ("small_resnet", "cifar", 32, 32, 144, 926),
    ("small_resnet", "cifar", 16, 64, 72, 929),
    ("resnet18", "cifar", 16, 32, 18, 1042),
    ("resnet18", "cifar", 16, 32, 72, 1658),
    ("resnet18", "imagenet", 16, 224, 18, 1807),
    ("resnet18", "imagenet", 16, 224, 40, 3267),
    ("resnet50", "cifar", 16, 32, 18, 2414),
    ("resnet50", "cifar", 16, 32, 72, 5329),
]


def step(backbone: str, stem: Any, width: int, size: int, rows: int, **changes: Any) -> StepSpec:
    big = backbone != "small_resnet"
    hidden, out = (4096, 256) if big else (512, 128)
    spec = StepSpec(
        method="simclr",
        seed=0,
        tasks=[1],
        num_classes=100,
        ssl=SimCLRParams(projector_hidden=hidden, projector_out=out),
        model=NetworkParams(
            backbone=backbone,
            stem=stem,
            width=width,
            classifier_hidden=[1000] if big else [256],
        ),
        image=ImageParams(size=size, channels=3, mean=[0.5] * 3, std=[0.25] * 3),
        augment=AugmentParams(),
        train=OptimisationParams(batch_size=rows * 8 // 9, device="cpu"),
        feature_distill=FeatureDistillParams(predictor_hidden=hidden // 2),
        replay_batch_size=rows - rows * 8 // 9,
    )
    return dataclasses.replace(spec, **changes)


@pytest.mark.parametrize(("backbone", "stem", "width", "size", "rows", "measured"), MEASURED)
def test_a_step_asks_for_what_it_needs_and_little_more(
    backbone: str, stem: str, width: int, size: int, rows: int, measured: int
) -> None:
    asked = step_memory_mb(step(backbone, stem, width, size, rows), images=2 * rows)
    assert measured * 1.05 < asked < measured * 2.2


def test_a_method_with_a_momentum_network_asks_for_its_weights_too() -> None:
    byol = BYOLParams(projector_hidden=4096, projector_out=256, predictor_hidden=4096)
    plain = step("resnet18", "cifar", 16, 32, 72)
    momentum = dataclasses.replace(plain, method="byol", ssl=byol)
    # 1570 MB in bfloat16 where the plain method has 1245.
    assert step_memory_mb(momentum, 144) >= step_memory_mb(plain, 144) + 325


def test_images_count_up_to_what_stays_in_memory() -> None:
    spec = step("small_resnet", "cifar", 16, 32, 72)
    few, many, unknown = (step_memory_mb(spec, images) for images in (0, 10**9, None))
    assert many == unknown
    assert many - few == pytest.approx(1.2 * 1.25 * spec.train.stream_above_mb, abs=200)


def test_on_a_gpu_the_rows_lie_there() -> None:
    train = OptimisationParams(batch_size=256, device="cuda")
    small, large = (
        dataclasses.replace(step("resnet18", "cifar", 16, size, 288), train=train)
        for size in (32, 224)
    )
    assert step_memory_mb(small, 0) == step_memory_mb(large, 0) > 3000


def test_a_backbone_that_is_not_known_without_building_it_counts_as_a_large_one() -> None:
    timm = step("timm/vit_small_patch16_224", "cifar", 16, 32, 72)
    assert step_memory_mb(timm, 0) == step_memory_mb(step("resnet50", "cifar", 16, 32, 72), 0)
