"""Two presets of batched augmentation on one thread, next to Pillow one image at a time.

    python bench/augmentation.py

Prints images per second of one view from the fastest of 30 interleaved repetitions.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

from kaizen.params import AugmentParams, ImageParams, JitterParams
from kaizen.views.augment import TwoViewAugment

CIFAR = AugmentParams(
    crop_scale=[0.08, 1.0],
    flip=0.5,
    jitter=JitterParams(probability=0.8),
    greyscale=0.2,
    solarize=[0.2, 0.2],
)
CASES = {
    "digits, 64 images 1x8x8 to 16": (AugmentParams(), ImageParams(), 64, 1, 8),
    "CIFAR, 256 images 3x32x32": (
        CIFAR,
        ImageParams(size=32, channels=3, mean=[0.5] * 3, std=[0.25] * 3),
        256,
        3,
        32,
    ),
}


def pillow_views(
    images: np.ndarray, augment: AugmentParams, size: int, random: np.random.Generator
) -> None:
    """The same operations image by image: bicubic crop, jitter in HSV and ImageEnhance, greyscale,
    solarise, flip.
    """
    for pixels in images:
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        side = image.width
        low, high = (
            int(random.integers(0, side // 2)),
            int(random.integers(side // 2 + 1, side + 1)),
        )
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=(low, low, high, high))
        if random.random() < augment.jitter.probability:
            for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                image = enhancer(image).enhance(random.uniform(0.6, 1.4))
            hue, saturation, value = image.convert("HSV").split()
            hue = hue.point(lambda level: (level + 20) % 256)
            image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
        if random.random() < augment.greyscale:
            image = image.convert("L").convert("RGB")
        if random.random() < augment.solarize[1]:
            image = ImageOps.solarize(image, 128)
        if random.random() < augment.flip:
            image = ImageOps.mirror(image)
        (np.asarray(image, dtype=np.float32) / 255 - 0.5) / 0.25


def main() -> None:
    """Print a line per preset."""
    torch.set_num_threads(1)
    for name, (augment, image, count, channels, side) in CASES.items():
        random = np.random.default_rng(0)
        pixels = random.integers(0, 256, (count, channels, side, side), dtype=np.uint8)
        batched, generator, images = (
            TwoViewAugment(augment, image),
            torch.Generator(),
            torch.from_numpy(pixels),
        )
        best = {"batched": float("inf"), "Pillow": float("inf")}
        for _ in range(30):
            began = time.perf_counter()
            batched(images, 1, generator)
            between = time.perf_counter()
            pillow_views(pixels, augment, image.size, random)
            best["batched"] = min(best["batched"], between - began)
            best["Pillow"] = min(best["Pillow"], time.perf_counter() - between)
        print(
            name,
            *(f"{label} {count / seconds:,.0f} images/s" for label, seconds in best.items()),
            sep="; ",
        )


if __name__ == "__main__":
    main()
