"""Colour operations with Pillow's arithmetic on batches, each sample with its own random factor.

Pixels are float32 [N, C, H, W] tensors that hold whole numbers 0..255; C is 1 or 3 (fidelity.md
§8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def luma(images: Tensor) -> Tensor:
    """ITU-R 601 luma [N, 1, H, W] in whole levels, exactly Pillow's ``convert("L")``; the image
    itself if C = 1.
    """
    if images.shape[1] == 1:
        return images
    # Pillow's 16-bit weights; the sums have 24 bits at most, so float32 holds them exactly.
    red, green, blue = (weight * 2.0**-16 for weight in (19595.0, 38470.0, 7471.0))
    grey = images[:, 0] * red
    grey.add_(images[:, 1], alpha=green).add_(images[:, 2], alpha=blue)
    return grey.add_(0.5).floor_().unsqueeze(1)


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
    grey = luma(images)
    pixels = grey[0].numel()
    # Whole numbers below 2^24 add up exactly in float32, in a quarter of the time.
    exact = torch.float32 if pixels * 255 < 1 << 24 else torch.float64
    mean = grey.sum(dim=(1, 2, 3), keepdim=True, dtype=exact).to(torch.float64).div_(pixels)
    # A whole plane of the mean: with two operands that are one number each, torch goes pixel by
    # pixel.
    plane = torch.empty_like(grey).copy_(mean.add_(0.5).floor_().to(grey.dtype))
    _blend(images, plane, factor)


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
    red, green, blue = images.unbind(1)
    # Planes are used again as soon as they can be: memory that was just written is near.
    low, high = torch.minimum(red, green), torch.maximum(red, green)
    torch.minimum(low, blue, out=low)
    torch.maximum(high, blue, out=high)
    chroma, plane = high - low, torch.empty_like(high)
    sixths = (red - green).add_(chroma, alpha=4.0)
    # Where a plane of ones and zeros says so, `lerp` chooses the other operand. ``torch.where``
    # does the same, but on a CPU it decides pixel by pixel, and guesses wrong at every other one:
    # 30 times as slow.
    other = (blue - red).add_(chroma, alpha=2.0)
    torch.lerp(sixths, other, torch.eq(high, green, out=plane), out=sixths)
    torch.sub(green, blue, out=other)
    torch.lerp(sixths, other, torch.eq(high, red, out=plane), out=sixths)
    # Levels are whole, so a chroma below 1 is 0: grey, whose hue has no effect.
    sixths.div_(torch.clamp(chroma, min=1.0, out=plane)).add_(shift.view(-1, 1, 1), alpha=6.0)
    sixths.sub_(torch.div(sixths, 6.0, out=plane).floor_(), alpha=6.0)
    # Of red's share of the chroma, |sixths - 3| - 1 cut to 0..1, the -1 lies in the base; so does
    # the 2 of the others', 2 - |sixths - 2 or 4|.
    low.add_(0.5)
    bases = torch.sub(low, chroma, out=plane), low.add_(chroma, alpha=2.0)
    for channel, (sign, peak) in enumerate(((1, 3.0), (-1, 2.0), (-1, 4.0))):
        share = torch.sub(sixths, peak, out=other).abs_().clamp_(1.0, 2.0)
        base = bases[0] if sign > 0 else bases[1]
        torch.addcmul(base, share, chroma, value=sign, out=images[:, channel])
    images.floor_()


OPERATIONS = {BRIGHTNESS: brightness_, CONTRAST: contrast_, SATURATION: saturation_, HUE: hue_}


def colour_jitter_(images: Tensor, rows: Tensor, factors: Tensor, order: Tensor) -> None:
    """Apply to the images of ``rows`` their operations in their own order, in place (torchvision's
    ColorJitter).

    ``rows``: int64 [n], and ``order``: int64 [n, k], the operation of each place in line, both on
    the CPU; ``factors``: float32 [n, 4] on the images' device, brightness, contrast and saturation
    factor and hue shift.
    """
    device = images.device
    if len(rows) == 1:
        image = images[int(rows) : int(rows) + 1]
        for number in order[0].tolist():
            OPERATIONS[number](image, factors[:, number].view(1, 1, 1, 1))
        return
    source, places = images, rows.numpy()
    orders = order.numpy()
    for place in range(orders.shape[1]):
        # Samples with the same operation at this place are brought side by side and share one call:
        # all that belongs to a sample moves with it.
        operation = orders[:, place]
        moved = operation.argsort(kind="stable")
        taken = torch.from_numpy(places[moved] if place == 0 else moved).to(device)
        places, orders = places[moved], orders[moved]
        factors = factors[torch.from_numpy(moved).to(device)]
        batch = torch.empty((len(moved), *images.shape[1:]), device=device)
        begin = 0
        for number, count in enumerate(np.bincount(operation, minlength=len(OPERATIONS)).tolist()):
            if count:
                end = begin + count
                # Each operation takes its samples itself: they are in the cache then. Not by
                # brackets, which copy number by number.
                part = torch.index_select(source, 0, taken[begin:end], out=batch[begin:end])
                OPERATIONS[number](part, factors[begin:end, number].view(-1, 1, 1, 1))
                begin = end
        source = batch
    if orders.shape[1]:
        images.index_copy_(0, torch.from_numpy(places).to(device), source)


def greyscale_(images: Tensor, rows: Tensor) -> None:
    """Replace the images of ``rows``, int64 [n] on the CPU, by their luma in every channel, in
    place; no effect if C = 1.
    """
    if images.shape[1] > 1:
        _apply_(lambda chosen: chosen.copy_(luma(chosen)), images, rows)


def solarise_(images: Tensor, rows: Tensor) -> None:
    """Invert the pixels at or above 128 of the images of ``rows``, int64 [n] on the CPU, in place
    (Pillow's ImageOps.solarize).
    """
    # A level and its inverse are as far from the middle; the lower one is meant.
    _apply_(lambda chosen: chosen.sub_(127.5).abs_().neg_().add_(127.5), images, rows)


def _apply_(operation: Callable[[Tensor], object], images: Tensor, rows: Tensor) -> None:
    """Apply an operation that works in place to the images of ``rows``; a single one is not
    copied.
    """
    if len(rows) == 1:
        operation(images[int(rows) : int(rows) + 1])
        return
    rows = rows.to(images.device)
    chosen = images.index_select(0, rows)
    operation(chosen)
    images.index_copy_(0, rows, chosen)


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
