"""Random resized crops and blur against Pillow, torchvision's retry loop and a dense convolution
(fidelity.md §8).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from pillow_images import generator, noise, per_image, rows_then_columns, smooth
from torch import Tensor

from kaizen.views import crop


@pytest.mark.parametrize(
    ("height", "width", "size", "channels"),
    [(8, 8, 16, 1), (32, 32, 32, 3), (64, 48, 24, 3), (20, 33, 7, 1), (40, 64, 40, 3)],
)
def test_crop_resize_equals_pillow(height: int, width: int, size: int, channels: int) -> None:
    images = noise(96, channels, height, width)
    uniforms = torch.rand(96, crop.CROP_UNIFORMS, dtype=torch.float64, generator=generator(1))
    boxes = crop.sample_boxes(uniforms, height, width, (0.08, 1.0), (0.5, 2.0))
    mirrored = torch.arange(96) % 2 == 1

    def expected(image: Image.Image, n: int) -> Image.Image:
        top, left, tall, wide = boxes[n].tolist()
        resized = rows_then_columns(image.crop((left, top, left + wide, top + tall)), size)
        return resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored[n] else resized

    difference = (
        crop.crop_resize(images, boxes, mirrored, size) - per_image(images, expected)
    ).abs()
    assert difference.max() <= 1
    assert (difference == 0).float().mean() >= 0.999


def test_resize_weights_sum_to_one_inside_the_box_only() -> None:
    start, length = torch.tensor([3, 0, 19]), torch.tensor([9, 20, 1])
    weights = crop.resize_weights(start, length, torch.zeros(3, dtype=torch.bool), 20, 6)
    assert weights.shape == (3, 6, 20)
    torch.testing.assert_close(weights.sum(2), torch.ones(3, 6), rtol=0, atol=1e-5)
    position = torch.arange(20)
    outside = (position < start.view(-1, 1)) | (position >= (start + length).view(-1, 1))
    assert (weights * outside.unsqueeze(1)).abs().max() == 0


def reference_box(
    row: Tensor, height: int, width: int, scale: list[float], ratio: list[float]
) -> list[int]:
    """RandomResizedCrop.get_params' retry loop, fed with one sample's uniform numbers."""
    values = row.tolist()
    for attempt in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * values[attempt])
        aspect = float(
            np.exp(np.log(ratio[0]) + (np.log(ratio[1]) - np.log(ratio[0])) * values[10 + attempt])
        )
        wide, tall = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < wide <= width and 0 < tall <= height:
            return [
                int(values[20] * (height - tall + 1)),
                int(values[21] * (width - wide + 1)),
                tall,
                wide,
            ]
    if width / height < ratio[0]:
        tall, wide = round(width / ratio[0]), width
    elif width / height > ratio[1]:
        tall, wide = height, round(height * ratio[1])
    else:
        tall, wide = height, width
    return [(height - tall) // 2, (width - wide) // 2, tall, wide]


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio"),
    [
        (32, 32, [0.08, 1.0], [0.75, 4 / 3]),
        (8, 8, [0.3, 1.0], [0.75, 4 / 3]),
        (20, 90, [0.5, 1.0], [0.75, 4 / 3]),
        (90, 21, [0.9, 1.0], [0.75, 4 / 3]),
        (7, 7, [1.0, 1.0], [1.0, 1.0]),
        (4, 4, [0.001, 0.01], [0.75, 4 / 3]),
    ],
)
def test_boxes_equal_the_retry_loop(
    height: int, width: int, scale: list[float], ratio: list[float]
) -> None:
    uniforms = torch.rand(300, crop.CROP_UNIFORMS, dtype=torch.float64, generator=generator(2))
    boxes = crop.sample_boxes(uniforms, height, width, scale, ratio)
    assert boxes.tolist() == [reference_box(row, height, width, scale, ratio) for row in uniforms]


def test_box_distribution() -> None:
    uniforms = torch.rand(20000, crop.CROP_UNIFORMS, dtype=torch.float64, generator=generator(3))
    scale, ratio, side = (0.2, 0.6), (0.75, 4 / 3), 224
    top, left, tall, wide = crop.sample_boxes(uniforms, side, side, scale, ratio).double().unbind(1)
    area, aspect = tall * wide / side**2, (wide / tall).log()
    # Rounding the sides to whole pixels moves area and ratio by at most 2 %.
    assert area.min() > scale[0] * 0.98 and area.max() < scale[1] * 1.02
    assert aspect.abs().max() < np.log(ratio[1]) + 0.02
    # Uniform: mean and standard deviation, within five standard errors.
    for values, low, high in ((area, *scale), (aspect, -np.log(4 / 3), np.log(4 / 3))):
        spread = (high - low) / 12**0.5
        assert abs(values.mean() - (low + high) / 2) < 5 * spread / 20000**0.5
        assert abs(values.std() - spread) < 0.02 * spread
    assert (
        (top + tall).max() <= side
        and (left + wide).max() <= side
        and min(top.min(), left.min()) == 0
    )
    assert abs((top / (side - tall).clamp(min=1)).mean() - 0.5) < 0.02


def test_blur_equals_dense_convolution() -> None:
    images = noise(5, 3, 16, 16)
    sigma = torch.tensor([0.1, 0.5, 1.0, 1.5, 2.0])
    result = crop.gaussian_blur(images.float(), sigma, 2.0)
    offset = np.arange(-8, 9)
    for n in range(5):
        kernel = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * float(sigma[n]) ** 2))
        kernel /= kernel.sum()
        padded = np.pad(images[n].numpy().astype(float), ((0, 0), (8, 8), (8, 8)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (17, 17), axis=(1, 2))
        expected = np.einsum("cyxij,ij->cyx", windows, kernel)
        assert np.abs(result[n].numpy() - expected).max() <= 0.5 + 1e-3


def test_blur_is_near_pillow() -> None:
    """Pillow approximates the Gaussian by three box blurs: on smooth images no more than a few
    levels away.
    """
    images, sigma = smooth(10, 3, 32), torch.linspace(0.1, 2.0, 10)
    result = crop.gaussian_blur(images.float(), sigma, 2.0)
    expected = per_image(
        images, lambda image, n: image.filter(ImageFilter.GaussianBlur(float(sigma[n])))
    )
    difference = (result - expected).abs()
    assert difference.mean() < 1 and difference.max() <= 5


@pytest.mark.parametrize(("size", "radius"), [(33, 8), (64, 8), (95, 16), (33, 40)])
def test_banded_weights_are_the_gaussian_weights(size: int, radius: int) -> None:
    """To float32's rounding, kernels wider than the image and none at all too."""
    sigma = torch.linspace(0.0, radius / 4, 9)
    weights = crop.banded_weights(sigma, size, radius)
    expected = crop.gaussian_weights(sigma, size, radius)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-6)
    assert torch.equal(weights[0], torch.eye(size))
