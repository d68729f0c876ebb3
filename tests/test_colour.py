"""Batched colour operations against Pillow and colorsys (fidelity.md §8)."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from pillow_images import generator, noise, per_image, smooth
from torch import Tensor

from kaizen.views import colour


def factors(count: int, low: float, high: float) -> Tensor:
    spaced = torch.linspace(low, high, count)
    spaced[0], spaced[-1] = 0.0, 1.0
    return spaced


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("operation", "enhancer"),
    [
        (colour.brightness_, ImageEnhance.Brightness),
        (colour.contrast_, ImageEnhance.Contrast),
        (colour.saturation_, ImageEnhance.Color),
    ],
)
def test_enhancements_equal_pillow(
    operation: Callable[[Tensor, Tensor], object],
    enhancer: Callable[[Image.Image], Any],
    channels: int,
) -> None:
    images, factor = noise(40, channels, 16, 16), factors(40, 0.2, 1.8)
    result = images.float()
    operation(result, factor.view(-1, 1, 1, 1))
    difference = (
        result - per_image(images, lambda image, n: enhancer(image).enhance(float(factor[n])))
    ).abs()
    # Pillow and torch round the blend's products differently; where the sum is a whole number the
    # cut differs by one.
    assert difference.max() <= 1
    assert (difference == 0).float().mean() >= 0.999


def test_greyscale_and_solarise_equal_pillow() -> None:
    images, rows = noise(8, 3, 32, 32), torch.tensor([0, 3, 7])
    result = images.float()
    colour.greyscale_(result, rows)
    expected = images.float()
    expected[rows] = per_image(images[rows], lambda image, _: image.convert("L").convert("RGB"))
    assert torch.equal(result, expected)

    result = images.float()
    colour.solarise_(result, rows)
    expected = images.float()
    expected[rows] = per_image(images[rows], lambda image, _: ImageOps.solarize(image, 128))
    assert torch.equal(result, expected)


def test_hue_equals_colorsys() -> None:
    """colorsys works in floating point, as we do; torchvision's PIL backend quantises HSV to 8
    bits.
    """
    images, shift = noise(12, 3, 8, 8), torch.linspace(-0.5, 0.5, 12)
    images[:, :, 0] = torch.tensor([0, 255, 7, 8, 128, 127, 254, 1], dtype=torch.uint8)  # greys
    images[:, 0, 1] = images[:, 1, 1]  # ties of two channels
    result = images.float()
    colour.hue_(result, shift.view(-1, 1, 1, 1))
    expected = torch.empty_like(result)
    for n, y, x in np.ndindex(12, 8, 8):
        hue, saturation, value = colorsys.rgb_to_hsv(*(images[n, :, y, x].double() / 255).tolist())
        turned = colorsys.hsv_to_rgb((hue + float(shift[n])) % 1.0, saturation, value)
        expected[n, :, y, x] = torch.tensor(turned) * 255
    assert (result - expected).abs().max() <= 0.5 + 1e-3


def test_hue_is_near_8_bit_hsv() -> None:
    """A step of Pillow's 8-bit hue is up to six levels; it cuts the hue to whole steps and turns it
    by whole steps.
    """
    images = smooth(6, 3, 32)
    result = images.float()
    colour.hue_(result, torch.full((6, 1, 1, 1), 25 / 255))

    def expected(image: Image.Image, _: int) -> Image.Image:
        hue, saturation, value = image.convert("HSV").split()
        turned = Image.fromarray(np.array(hue, dtype=np.uint8) + np.uint8(25))
        return Image.merge("HSV", (turned, saturation, value)).convert("RGB")

    difference = (result - per_image(images, expected)).abs()
    assert difference.mean() < 1.5 and difference.max() <= 18


def test_jitter_applies_each_sample_its_operations_in_its_order() -> None:
    images = smooth(24, 3, 12)
    rows = torch.arange(0, 24, 2)
    order = torch.rand(12, 4, generator=generator(4)).argsort(1)
    low, span = torch.tensor([0.6, 0.6, 0.8, -0.1]), torch.tensor([0.8, 0.8, 0.4, 0.2])
    factor = torch.rand(12, 4, generator=generator(5)) * span + low
    result = images.float()
    colour.colour_jitter_(result, rows, factor, order)

    operations = (colour.brightness_, colour.contrast_, colour.saturation_, colour.hue_)
    expected = images.float()
    for place, row in enumerate(rows):
        single = expected[row : row + 1]
        for kind in order[place]:
            operations[kind](single, factor[place, kind].view(1, 1, 1, 1))
    assert torch.equal(result, expected)
    assert torch.equal(result[1::2], images[1::2].float())
