"""Colour operations with Pillow's arithmetic on batches, each sample with its own random factor.

Pixels are float32 [N, C, H, W] tensors that hold whole numbers 0..255; C is 1 or 3 (fidelity.md
§8).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def luma(images: Tensor) -> Tensor:
    """ITU-R 601 luma [N, 1, H, W] in whole levels, exactly Pillow's ``convert("L")``; the image
    itself if C = 1.
    """
    if images.shape[1] == 1:
        return images
    # Pillow's 16-bit weights; the sums stay below 2^24, so float32 holds them exactly.
    grey = images[:, 0:1] * 19595.0
    grey.add_(images[:, 1:2], alpha=38470.0).add_(images[:, 2:3], alpha=7471.0)
    return grey.add_(32768.0).mul_(2.0**-16).floor_()


def _blend(images: Tensor, degenerate: Tensor, factor: Tensor) -> None:
    """Images become degenerate + factor * (images - degenerate), clamped and cut to levels as
    Pillow's ``blend``.
    """
    torch.lerp(degenerate, images, factor, out=images).clamp_(0.0, 255.0).floor_()


def brightness_(images: Tensor, factor: Tensor) -> None:
    """Scale the pixels by ``factor`` [N, 1, 1, 1], in place (Pillow's ImageEnhance.Brightness)."""
    images.mul_(factor).clamp_(0.0, 255.0).floor_()


def contrast_(images: Tensor, factor: Tensor) -> None:
    """Scale the distance to the mean luma by ``factor`` [N, 1, 1, 1], in place (Pillow's
    ImageEnhance.Contrast).
    """
    mean = luma(images).mean(dim=(1, 2, 3), keepdim=True, dtype=torch.float64)
    _blend(images, mean.add_(0.5).floor_().to(images.dtype), factor)


def saturation_(images: Tensor, factor: Tensor) -> None:
    """Scale the distance to the luma by ``factor`` [N, 1, 1, 1], in place (Pillow's
    ImageEnhance.Color).
    """
    _blend(images, luma(images), factor)


def hue_(images: Tensor, shift: Tensor) -> None:
    """Turn the hue by ``shift`` [N, 1, 1, 1] turns, in place, at constant HSV saturation and value;
    needs C = 3.

    In floating point with one rounding at the end; torchvision's PIL backend rounds hue, saturation
    and value to 8 bits on the way and so differs by a few levels.
    """
    red, green, blue = images[:, 0], images[:, 1], images[:, 2]
    low = torch.minimum(torch.minimum(red, green), blue)
    high = torch.maximum(torch.maximum(red, green), blue)
    chroma = high - low
    sixths = torch.where(
        high == red,
        green - blue,
        torch.where(
            high == green,
            (blue - red).add_(chroma, alpha=2.0),
            (red - green).add_(chroma, alpha=4.0),
        ),
    )
    # Levels are whole, so a chroma below 1 is 0: grey, whose hue has no effect.
    sixths.div_(chroma.clamp(min=1.0)).add_(shift.view(-1, 1, 1), alpha=6.0)
    sixths.sub_(torch.floor(sixths / 6.0), alpha=6.0)
    low.add_(0.5)
    for channel, (sign, peak, offset) in enumerate(
        ((1.0, 3.0, -1.0), (-1.0, 2.0, 2.0), (-1.0, 4.0, 2.0))
    ):
        share = (sixths - peak).abs_().mul_(sign).add_(offset).clamp_(0.0, 1.0)
        images[:, channel] = share.mul_(chroma).add_(low).floor_()


OPERATIONS = {BRIGHTNESS: brightness_, CONTRAST: contrast_, SATURATION: saturation_, HUE: hue_}


def colour_jitter_(images: Tensor, rows: Tensor, factors: Tensor, order: Tensor) -> None:
    """Apply to the images of ``rows`` their operations in their own order, in place (torchvision's
    ColorJitter).

    ``rows``: int64 [n], and ``order``: int64 [n, k], the operation of each place in line, both on
    the CPU; ``factors``: float32 [n, 4] on the images' device, brightness, contrast and saturation
    factor and hue shift.
    """
    device = images.device
    batch = images
    for place in range(order.shape[1]):
        # Samples with the same operation at this place are brought side by side and share one call:
        # all that belongs to a sample moves with it.
        operation, moved = order[:, place].sort()
        rows, order = rows[moved], order[moved]
        batch = images[rows.to(device)] if place == 0 else batch[moved.to(device)]
        factors = factors[moved.to(device)]
        begin = 0
        counts = torch.bincount(operation, minlength=len(OPERATIONS)).tolist()
        for number, count in enumerate(counts):
            if count:
                part = slice(begin, begin + count)
                OPERATIONS[number](batch[part], factors[part, number].view(-1, 1, 1, 1))
                begin += count
    if order.shape[1]:
        images.index_copy_(0, rows.to(device), batch)


def greyscale_(images: Tensor, rows: Tensor) -> None:
    """Replace the images of ``rows`` by their luma in every channel, in place; no effect if C =
    1.
    """
    if images.shape[1] > 1:
        images[rows] = luma(images[rows]).expand(-1, images.shape[1], -1, -1)


def solarise_(images: Tensor, rows: Tensor, threshold: float = 128.0) -> None:
    """Invert the pixels at or above ``threshold`` of the images of ``rows``, in place (Pillow's
    ImageOps.solarize).
    """
    chosen = images[rows]
    images[rows] = torch.where(chosen < threshold, chosen, 255.0 - chosen)


def jitter_ranges(
    strengths: Sequence[float], channels: int
) -> tuple[list[int], list[tuple[float, float]]]:
    """Operations in use and all four (low, high) factor ranges, for brightness, contrast,
    saturation and hue strengths.

    An operation of strength 0 is not in use; nor are saturation and hue on greyscale images, which
    they do not change.
    """
    count = len(OPERATIONS) if channels > 1 else SATURATION
    in_use = [number for number in range(count) if strengths[number] > 0]
    ranges = [(max(0.0, 1.0 - value), 1.0 + value) for value in strengths[:HUE]]
    return in_use, [*ranges, (-strengths[HUE], strengths[HUE])]
