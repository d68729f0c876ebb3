"""Test images, and Pillow as the reference, image by image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kaizen.params import ImageParams

BICUBIC = Image.Resampling.BICUBIC


def generator(seed: int = 0) -> torch.Generator:
    """A CPU generator of its own."""
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Uniform uint8 noise."""
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(seed))


def smooth(count: int, channels: int, size: int, seed: int = 0) -> Tensor:
    """Images with gradients and saturated areas, nearer to photographs than noise."""
    coarse = noise(count, channels, 5, 5, seed=seed).float()
    fine = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=False)
    return fine.clamp(0, 255).to(torch.uint8)


def to_pillow(image: Tensor) -> Image.Image:
    """One [C, H, W] tensor as a Pillow image."""
    values = image.numpy().astype(np.uint8)
    return Image.fromarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0))


def from_pillow(image: Image.Image) -> Tensor:
    """A Pillow image as float32 [C, H, W]."""
    values = np.array(image, dtype=np.float32)
    return torch.from_numpy(values[None] if values.ndim == 2 else values.transpose(2, 0, 1).copy())


def per_image(images: Tensor, function: Callable[[Image.Image, int], Image.Image]) -> Tensor:
    """Apply a function of (Pillow image, index) to each image: float32 [N, C, H, W]."""
    return torch.stack(
        [from_pillow(function(to_pillow(image), n)) for n, image in enumerate(images)]
    )


def rows_then_columns(image: Image.Image, size: int) -> Image.Image:
    """Pillow's resize with its order of passes before version 13, whichever version is
    installed.
    """
    return image.resize((size, image.height), BICUBIC).resize((size, size), BICUBIC)


def levels(view: Tensor, image: ImageParams) -> Tensor:
    """Undo a view's normalisation, in double precision."""
    mean, std = (
        torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)
        for values in (image.mean, image.std)
    )
    return (view.double() * std + mean) * 255.0
