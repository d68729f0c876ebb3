"""Large images on a CPU, one at a time: against Pillow, the matrix products and a dense convolution
(fidelity.md §8).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from pillow_images import generator, noise, per_image, rows_then_columns, smooth
from torch import Tensor

from kaizen.data.image_files import centre_square, to_picture, to_pixels
from kaizen.params import AugmentParams, ImageParams, JitterParams
from kaizen.views import crop, large
from kaizen.views.augment import TwoViewAugment
from kaizen.views.pixels import to_model_input

COLOUR = ImageParams(size=224, channels=3, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
FULL = AugmentParams(
    crop_scale=[0.08, 1.0],
    flip=0.5,
    jitter=JitterParams(0.8, 0.4, 0.4, 0.2, 0.1),
    greyscale=0.2,
    blur=[0.5, 0.5],
    solarize=[0.2, 0.2],
)


def cut_smooth(count: int, channels: int, height: int, width: int) -> Tensor:
    """Smooth images cut to height x width."""
    return smooth(count, channels, max(height, width))[:, :, :height, :width].contiguous()


def boxes_of(count: int, height: int, width: int) -> Tensor:
    uniforms = torch.rand(count, crop.CROP_UNIFORMS, dtype=torch.float64, generator=generator(1))
    return crop.sample_boxes(uniforms, height, width, (0.08, 1.0), (0.75, 4 / 3))


@pytest.mark.parametrize("images_of", [noise, cut_smooth])
@pytest.mark.parametrize(
    ("height", "width", "size", "channels"),
    [(64, 64, 64, 3), (96, 96, 64, 3), (128, 90, 128, 1), (375, 500, 224, 3)],
)
def test_crops_are_two_levels_from_pillow_and_from_the_products(
    images_of: Callable[..., Tensor], height: int, width: int, size: int, channels: int
) -> None:
    images, boxes = images_of(12, channels, height, width), boxes_of(12, height, width)
    mirrored = torch.arange(12) % 2 == 1
    assert large.crops_singly(images, size)
    result = crop.crop_resize(images, boxes, mirrored, size)

    def expected(image: Image.Image, n: int) -> Image.Image:
        top, left, tall, wide = boxes[n].tolist()
        resized = rows_then_columns(image.crop((left, top, left + wide, top + tall)), size)
        return resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored[n] else resized

    # Pixels in float32 take the products, whatever the size.
    for other in (
        per_image(images, expected),
        crop.crop_resize(images.float(), boxes, mirrored, size),
    ):
        difference = (result - other).abs()
        assert difference.max() <= 2
        assert (difference == 0).float().mean() >= 0.98


@pytest.mark.parametrize(
    ("shape", "size", "singly"),
    [
        ((1, 8, 8), 16, False),
        ((1, 28, 28), 32, False),
        ((3, 32, 32), 32, False),
        ((3, 64, 64), 32, False),
        ((3, 64, 64), 64, True),
        ((3, 256, 256), 224, True),
    ],
)
def test_small_images_keep_their_matrix_products(
    shape: tuple[int, int, int], size: int, singly: bool
) -> None:
    images = torch.empty(0, *shape, dtype=torch.uint8)
    assert large.crops_singly(images, size) == singly
    assert not large.crops_singly(images.float(), size)
    assert not large.crops_singly(images.to("meta"), size)  # a device other than the CPU


@pytest.mark.parametrize(("height", "width", "channels"), [(96, 96, 3), (21, 30, 1), (4, 3, 3)])
def test_blur_equals_dense_convolution(height: int, width: int, channels: int) -> None:
    for n, sigma in enumerate((0.0, 0.1, 0.3, 1.0, 2.0, 4.0)):
        image = noise(6, channels, height, width)[n]
        result = image.float()
        large.blur_(result, sigma)
        radius = int(np.ceil(4 * max(sigma, 0.25)))
        offset = np.arange(-radius, radius + 1)
        kernel = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * max(sigma, 1e-6) ** 2))
        edges = ((0, 0), (radius, radius), (radius, radius))
        padded = np.pad(image.numpy().astype(float), edges, mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape, axis=(1, 2))
        expected = np.einsum("cyxij,ij->cyx", windows, kernel / kernel.sum(), optimize=True)
        assert np.abs(result.numpy() - expected).max() <= 1e-3


@pytest.mark.parametrize("images_of", [noise, cut_smooth])
@pytest.mark.parametrize("side", [96, 224])
def test_blur_is_a_level_from_the_products(images_of: Callable[..., Tensor], side: int) -> None:
    images, sigma = images_of(6, 3, side, side).float(), torch.linspace(0.1, 2.0, 6)
    assert large.blurs_singly(images, 2.0)
    weights = crop.gaussian_weights(sigma, side, 8)
    rows = torch.matmul(images, weights.transpose(1, 2).unsqueeze(1))
    expected = crop.round_to_levels(crop.vertical_pass(weights, rows))
    difference = (crop.gaussian_blur(images, sigma, 2.0) - expected).abs()
    assert difference.max() <= 1
    assert (difference == 0).float().mean() >= 0.999


def test_wide_blurs_and_other_devices_keep_their_matrix_products() -> None:
    images = torch.empty(0, 3, 224, 224)
    assert not large.blurs_singly(images, 5.0)
    assert not large.blurs_singly(images[..., :95], 2.0)
    assert not large.blurs_singly(images.to("meta"), 2.0)


def test_a_large_image_is_the_same_in_every_batch() -> None:
    """To the bit: alone, and among others."""
    images, augment = noise(4, 3, 150, 200), TwoViewAugment(FULL, replace(COLOUR, size=160))
    draws = augment.draw(4, 150, 200, 1, generator(3))
    whole = augment.apply(images, draws)
    for n in range(4):
        part = slice(n, n + 1)
        assert torch.equal(augment.apply(images[part], draws.part(n, n + 1)), whole[part])
    some = torch.tensor([3, 1])
    assert torch.equal(
        crop.crop_resize(images[some], draws.boxes[some], draws.mirrored[some], 160),
        crop.crop_resize(images, draws.boxes, draws.mirrored, 160)[some],
    )
    pixels = images[:, :, :, :150].float()
    assert torch.equal(
        crop.gaussian_blur(pixels[some], draws.blur_sigma[some], 2.0),
        crop.gaussian_blur(pixels, draws.blur_sigma, 2.0)[some],
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (128, 128), (900, 130), (200, 200)])
@pytest.mark.parametrize("size", [64, 256])
def test_the_centre_of_a_large_image_is_two_levels_from_pillows(
    shape: tuple[int, int], channels: Literal[1, 3], size: int
) -> None:
    assert large.resizes_singly(*shape, size)
    side = max(shape)
    pictures = (noise(1, channels, side, side), smooth(1, channels, side))
    for picture in pictures:
        pixels = picture[0, :, : shape[0], : shape[1]].permute(1, 2, 0).contiguous().numpy()
        expected = to_pixels(centre_square(to_picture(pixels), size)).transpose(2, 0, 1)
        image = replace(COLOUR, channels=channels, load_size=size)
        found = to_model_input(pixels, image)
        assert found.shape == (channels, size, size)
        apart = np.abs(found.astype(int) - expected.astype(int))
        assert apart.max() <= 2
        # Pillow 13 shrinks tall images by columns first, which moves many pixels by one level.
        assert apart.mean() < 0.3


def test_small_and_thin_images_stay_pillows() -> None:
    assert not large.resizes_singly(127, 128, 64)
    assert not large.resizes_singly(500, 375, 32)
    assert not large.resizes_singly(3000, 100, 256)
