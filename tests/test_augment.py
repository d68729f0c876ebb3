"""Whole views and the evaluation transform: operations, frequencies, determinism (fidelity.md
§8).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image, ImageOps
from pillow_images import generator, levels, noise, per_image, rows_then_columns
from torch import Tensor

from kaizen.params import AugmentParams, ImageParams, JitterParams
from kaizen.views import augment as augment_module
from kaizen.views import crop
from kaizen.views.augment import UNIFORMS, TwoViewAugment, evaluation_transform

WHOLE: dict[str, Any] = {"crop_scale": [1.0, 1.0], "crop_ratio": [1.0, 1.0]}
COLOUR = ImageParams(size=32, channels=3, mean=[0.4914, 0.4822, 0.4465], std=[0.247, 0.243, 0.261])
GREY = ImageParams(size=16, channels=1)
FULL = AugmentParams(
    crop_scale=[0.08, 1.0],
    flip=0.5,
    jitter=JitterParams(0.8, 0.4, 0.4, 0.2, 0.1),
    greyscale=0.2,
    blur=[0.5, 0.1],
    solarize=[0.0, 0.2],
)


@pytest.fixture(params=["compiled", "batched"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways that a CPU may make views: with numba, and without."""
    monkeypatch.setattr(augment_module, "can_compile", lambda: request.param == "compiled")
    return str(request.param)


def assert_whole_levels(view: Tensor, image: ImageParams, expected: Tensor) -> None:
    torch.testing.assert_close(levels(view, image), expected.double(), rtol=0, atol=1e-3)


def only(**changes: Any) -> AugmentParams:
    """No crop and no operation but the named one."""
    return replace(AugmentParams(**WHOLE), **changes)


@pytest.mark.parametrize(
    ("augment", "expected"),
    [
        (only(), lambda image: image),
        (only(flip=1.0), ImageOps.mirror),
        (only(greyscale=1.0), lambda image: image.convert("L").convert("RGB")),
        (only(solarize=[1.0, 0.0]), lambda image: ImageOps.solarize(image, 128)),
    ],
)
def test_single_operations_through_the_view(
    augment: AugmentParams, expected: Callable[[Image.Image], Image.Image]
) -> None:
    images = noise(6, 3, 32, 32)
    view = TwoViewAugment(augment, COLOUR)(images, 0, generator())
    assert view.dtype == torch.float32 and view.is_contiguous(memory_format=torch.channels_last)
    assert_whole_levels(view, COLOUR, per_image(images, lambda image, _: expected(image)))


def test_flip_is_the_same_as_flipping_last(way: str) -> None:
    images, image = noise(32, 3, 20, 20), replace(COLOUR, size=24)
    flipping = TwoViewAugment(replace(FULL, flip=1.0), image)(images, 1, generator())
    still = TwoViewAugment(replace(FULL, flip=0.0), image)(images, 1, generator())
    different = (levels(flipping, image) - levels(still, image).flip(3)).abs()
    # Matrix products are summed in the opposite order, so a sum near a half may round to the
    # neighbouring level.
    assert (different > 1e-3).float().mean() <= (0 if way == "compiled" else 1e-3)


def test_view_number_selects_blur_and_solarise() -> None:
    images = noise(16, 3, 32, 32)
    augment = TwoViewAugment(
        only(solarize=[0.0, 1.0], blur=[1.0, 0.0], blur_sigma=[1.5, 1.5]), COLOUR
    )
    blurred = crop.gaussian_blur(images.float(), torch.full((16,), 1.5), 1.5)
    different = (levels(augment(images, 0, generator()), COLOUR) - blurred).abs()
    assert different.max() < 1.001 and (different > 1e-3).float().mean() < 1e-3
    solarised = torch.where(images < 128, images, 255 - images)
    assert_whole_levels(augment(images, 1, generator()), COLOUR, solarised)


def test_frequencies_and_ranges_of_the_draws() -> None:
    count = 20000
    augment = TwoViewAugment(FULL, COLOUR)
    for view in (0, 1):
        draws = augment.draw(count, 32, 32, view, generator(view))
        for chosen, probability in (
            (draws.mirrored, FULL.flip),
            (draws.jittered, FULL.jitter.probability),
            (draws.greyscaled, FULL.greyscale),
            (draws.blurred, FULL.blur[view]),
            (draws.solarised, FULL.solarize[view]),
        ):
            error = (probability * (1 - probability) / count) ** 0.5
            assert abs(chosen.double().mean() - probability) <= 5 * error
        low, high = torch.tensor([0.6, 0.6, 0.8, -0.1]), torch.tensor([1.4, 1.4, 1.2, 0.1])
        assert (draws.jitter_factors >= low - 1e-6).all() and (
            draws.jitter_factors <= high + 1e-6
        ).all()
        torch.testing.assert_close(
            draws.jitter_factors.mean(0), (low + high) / 2, rtol=0, atol=0.01
        )
        assert draws.blur_sigma.min() >= 0.1 and draws.blur_sigma.max() <= 2.0
        # All 24 orders of the four operations, equally often.
        orders, times = draws.jitter_order.unique(dim=0, return_counts=True)
        assert len(orders) == 24 and (times - count / 24).abs().max() < 5 * (count / 24) ** 0.5
    independent = torch.stack(
        (draws.mirrored, draws.jittered, draws.greyscaled, draws.solarised)
    ).double()
    assert (torch.corrcoef(independent) - torch.eye(4)).abs().max() < 0.04


def test_same_generator_seed_same_bits_and_generator_advances() -> None:
    images, augment = noise(150, 3, 32, 32), TwoViewAugment(FULL, COLOUR)
    first, again, other = (augment(images, 1, generator(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    shared = generator(7)
    assert torch.equal(augment(images, 1, shared), first)
    assert not torch.equal(augment(images, 1, shared), first)


def test_samples_are_independent_of_their_batch(way: str) -> None:
    """Each sample has its own numbers, and a batch of several chunks equals its samples one by
    one.
    """
    image = noise(1, 3, 32, 32)
    images, augment = image.repeat(150, 1, 1, 1), TwoViewAugment(FULL, COLOUR)
    batch = augment(images, 1, generator())
    assert len(batch.flatten(1).unique(dim=0)) == 150
    shared = generator()
    singly = torch.cat([augment(image, 1, shared) for _ in range(150)])
    different = (levels(batch, COLOUR) - levels(singly, COLOUR)).abs()
    # The matrix library may sum in another order for another batch, which moves a sum near a half
    # by one level.
    assert (different > 1e-3).float().mean() <= (0 if way == "compiled" else 1e-3)


def test_parameters_do_not_shift_the_random_numbers() -> None:
    """Switching an operation on leaves the crops as they were, and every view takes as many
    numbers.
    """
    plain, full = (
        TwoViewAugment(AugmentParams(), GREY),
        TwoViewAugment(replace(FULL, crop_scale=[0.3, 1.0]), COLOUR),
    )
    one, two = generator(), generator()
    boxes = plain.draw(50, 8, 8, 0, one).boxes
    assert torch.equal(full.draw(50, 8, 8, 1, two).boxes, boxes)
    assert torch.equal(one.get_state(), two.get_state())
    expected = generator()
    torch.rand(50, UNIFORMS, dtype=torch.float64, generator=expected)
    assert torch.equal(one.get_state(), expected.get_state())


def test_greyscale_images() -> None:
    """With one channel, saturation, hue and greyscale change nothing; brightness and contrast still
    act.
    """
    images = noise(40, 1, 16, 16)
    augment = only(jitter=JitterParams(1.0, 0.0, 0.0, 0.4, 0.1), greyscale=1.0)
    view = TwoViewAugment(augment, GREY)(images, 0, generator())
    assert view.shape == (40, 1, 16, 16) and view.is_contiguous()
    assert_whole_levels(view, GREY, images)
    brightened = TwoViewAugment(only(jitter=JitterParams(1.0, 0.4, 0.4, 0.0, 0.0)), GREY)(
        images, 0, generator()
    )
    assert (levels(brightened, GREY) - images).abs().mean() > 5


@pytest.mark.parametrize("image", [GREY, COLOUR])
def test_empty_batch(image: ImageParams) -> None:
    images = torch.empty(0, image.channels, 8, 8, dtype=torch.uint8)
    assert TwoViewAugment(FULL, image)(images, 0, generator()).shape == (
        0,
        image.channels,
        image.size,
        image.size,
    )
    assert evaluation_transform(images, image).shape == (0, image.channels, image.size, image.size)


def test_views_carry_no_gradient_and_leave_the_images_alone() -> None:
    images = noise(8, 3, 32, 32)
    before = images.clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = TwoViewAugment(FULL, COLOUR)(images, 1, generator())
    assert torch.equal(mixed, TwoViewAugment(FULL, COLOUR)(images, 1, generator()))
    assert mixed.dtype == torch.float32 and not mixed.requires_grad
    assert torch.equal(images, before)


@pytest.mark.parametrize(("side", "image"), [(8, GREY), (32, COLOUR), (50, COLOUR), (16, GREY)])
def test_evaluation_transform_equals_pillow(side: int, image: ImageParams) -> None:
    images = noise(20, image.channels, side, side)
    view = evaluation_transform(images, image)
    assert view.dtype == torch.float32
    assert view.is_contiguous(
        memory_format=torch.channels_last if image.channels > 1 else torch.contiguous_format
    )
    expected = per_image(images, lambda picture, _: rows_then_columns(picture, image.size)).double()
    difference = (levels(view, image) - expected).abs()
    assert difference.max() <= 1.001
    assert (difference < 1e-3).float().mean() >= (0.999 if side != image.size else 1.0)


def test_evaluation_shows_the_centre() -> None:
    images = noise(3, 3, 64, 64)
    view = evaluation_transform(images, COLOUR, 0.5)
    assert torch.equal(view, evaluation_transform(images[:, :, 16:48, 16:48], COLOUR))


@pytest.mark.parametrize(("mean", "std"), [(1.0, 1e-5), (0.0, 1e-5), (1.0, 1e5)])
def test_pixels_stay_numbers_at_the_bounds_of_mean_and_deviation(mean: float, std: float) -> None:
    """What the bounds of image.mean and image.std in kaizen/params/data.py are for."""
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    view = evaluation_transform(levels, ImageParams(size=16, mean=[mean], std=[std]))
    assert view.isfinite().all()
    torch.testing.assert_close(
        view.double(), (levels.double() / 255 - mean) / std, rtol=1e-6, atol=1e-6 / std
    )
