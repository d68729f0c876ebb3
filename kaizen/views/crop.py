"""Random resized crops and Gaussian blur as per-sample separable filters: out = W_y @ image @
W_x^T.

Pixels are float32 tensors that hold whole numbers 0..255, as Pillow's 8-bit images do (fidelity.md
§8).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

CROP_ATTEMPTS = 10
CROP_UNIFORMS = 2 * CROP_ATTEMPTS + 2
# Pillow's 8-bit resampling holds its weights as whole multiples of 2^-22 (Resample.c,
# PRECISION_BITS).
_WEIGHT_STEPS = float(1 << 22)
# A blur's kernel is cut at so many of the largest sigma.
BLUR_REACH = 4.0
_LEAST_WEIGHT = 1e-12
# Up to this side blurs keep the bits that they have always had: `banded_weights` round otherwise.
_SMALL_BLUR = 32
# Tables of weights up to so many values (16 MiB) are kept: enough for images of 32 x 32, not for 64
# x 64.
_TABLE_LIMIT = 1 << 22


def round_to_levels(pixels: Tensor) -> Tensor:
    """Round half up and clamp to 0..255, in place, as Pillow ends each resampling pass."""
    return pixels.add_(0.5).floor_().clamp_(0.0, 255.0)


def sample_boxes(
    uniforms: Tensor, height: int, width: int, scale: Sequence[float], ratio: Sequence[float]
) -> Tensor:
    """Boxes of random resized crops with torchvision's distribution, for all samples at once.

    ``uniforms``: float64 [N, CROP_UNIFORMS] in [0, 1): ten candidate areas, ten candidate ratios,
    two positions. torchvision's RandomResizedCrop draws (area, log ratio) up to ten times until the
    crop fits; taking the first of ten candidates that fits is the same. Where none fits: its centre
    crop with the ratio clamped to the range. Returns int64 [N, 4]: top, left, height, width.
    """
    # numpy's calls take a third of the time of torch's, and a batch has few boxes.
    drawn, limit = uniforms.numpy(), np.array((height, width), dtype=np.float64)
    area = (drawn[:, :CROP_ATTEMPTS] * (scale[1] - scale[0]) + scale[0]) * (height * width)
    span = ratio[1] / ratio[0]
    log_span = math.log(span) if span < math.inf else math.log(ratio[1]) - math.log(ratio[0])
    log_ratio = drawn[:, CROP_ATTEMPTS : 2 * CROP_ATTEMPTS] * log_span + math.log(ratio[0])
    # torch's exponential: another library's may end in another bit.
    aspect = torch.from_numpy(log_ratio).exp_().numpy()
    with np.errstate(over="ignore", under="ignore"):
        sides = np.rint(np.sqrt(np.stack((area / aspect, area * aspect), axis=2)))
    fits = ((sides >= 1) & (sides <= limit)).all(axis=2)
    sides = sides[np.arange(len(sides)), fits.argmax(axis=1)]
    corner = np.floor((limit - sides + 1) * drawn[:, 2 * CROP_ATTEMPTS :])

    none_fits = ~fits.any(axis=1)
    if none_fits.any():
        sides[none_fits] = _centre_crop(height, width, ratio)
        corner[none_fits] = np.floor((limit - sides[none_fits]) / 2)
    return torch.from_numpy(np.concatenate((corner, sides), axis=1).astype(np.int64))


def _centre_crop(height: int, width: int, ratio: Sequence[float]) -> tuple[int, int]:
    """Height and width of the largest crop whose ratio is in range, as torchvision falls back
    to.
    """
    if width / height < ratio[0]:
        return min(height, round(width / ratio[0])), width
    if width / height > ratio[1]:
        return height, min(width, round(height * ratio[1]))
    return height, width


def resize_weights(
    start: Tensor, length: Tensor, mirrored: Tensor, source: int, target: int
) -> Tensor:
    """Weights of Pillow's bicubic resize (a = -0.5, antialiased) of M one-dimensional boxes.

    ``start``, ``length``: int64 [M], the box [start, start + length) of ``source`` pixels; pixels
    outside of it have no influence, as after a crop. ``mirrored``: bool [M], the output runs
    backwards. Returns float32 [M, target, source]; rows sum to 1 up to Pillow's rounding of weights
    to 2^-22. Source: Pillow's precompute_coeffs and normalize_coeffs_8bpc (Resample.c).
    """
    device = start.device
    extent = length.to(torch.float64).view(-1, 1, 1)
    scale = extent / target
    stretch = scale.clamp(min=1.0)
    support = 2.0 * stretch
    index = torch.arange(target, device=device, dtype=torch.float64).view(1, -1, 1)
    centre = (torch.where(mirrored.view(-1, 1, 1), target - 1 - index, index) + 0.5) * scale
    first = (centre - support + 0.5).floor_().clamp_(min=0.0)
    end = torch.minimum((centre + support + 0.5).floor_(), extent)

    taps = 2 * math.ceil(2.0 * max(source / target, 1.0)) + 1
    pixel = first + torch.arange(taps, device=device, dtype=torch.float64)
    weights = _bicubic((pixel + 0.5 - centre) / stretch) * (pixel < end)
    weights = (
        weights.div_(weights.sum(dim=2, keepdim=True))
        .mul_(_WEIGHT_STEPS)
        .round_()
        .div_(_WEIGHT_STEPS)
    )

    # Taps beyond the box have weight 0 and land in the surplus columns, so no two taps share a
    # place.
    dense = torch.zeros(len(start), target, source + taps, device=device)
    place = pixel.long().add_(start.view(-1, 1, 1))
    return dense.scatter_(2, place, weights.to(torch.float32))[:, :, :source]


@functools.lru_cache(maxsize=4)
def _weight_table(source: int, target: int, device: torch.device) -> Tensor:
    """Weights of every box, float32 [2 * source**2, target, source], at its `_table_row`.

    Small images have few boxes, and looking weights up is much faster than computing them.
    Starts too large for the length hold the last box that fits; they are never asked for.
    """
    axes = (torch.arange(2), torch.arange(1, source + 1), torch.arange(source))
    mirrored, length, start = torch.cartesian_prod(*axes).to(device).unbind(1)
    start = torch.minimum(start, source - length)
    return resize_weights(start, length, mirrored.bool(), source, target).contiguous()


def _table_row(start: Tensor, length: Tensor, mirrored: Tensor, source: int) -> Tensor:
    """Where `_weight_table` has each of M boxes, int64 [M]: it goes through the starts of every
    length, not mirrored and then mirrored.
    """
    return (mirrored * source + length - 1) * source + start


def _bicubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -0.5, zero from 2 on."""
    x = x.abs().clamp_(max=2.0)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return torch.where(x < 1.0, near, far)


def crop_resize(images: Tensor, boxes: Tensor, mirrored: Tensor, size: int) -> Tensor:
    """Crop each image to its box, resize it bicubically to size x size, and mirror it where asked.

    ``images``: uint8 or float32 [N, C, H, W]; ``boxes``: int64 [N, 4] (top, left, height, width)
    and ``mirrored``: bool [N], on the images' device. Returns float32 [N, C, size, size] of whole
    numbers. Equal to Pillow's crop and resize but for sums that end within float32's rounding of a
    half: there the level differs by one. Rows come first and are rounded, as in Pillow before 13
    (the reference's); Pillow 13 takes columns first when it shrinks mostly the height
    (python-pillow/Pillow#9549), which moves some pixels, on noise by up to 14 levels.
    """
    count, channels, height, width = images.shape
    side = max(height, width)
    # Both axes in one call: the arithmetic is small, so it is the number of calls that costs.
    start, length = torch.cat((boxes[:, 0], boxes[:, 1])), torch.cat((boxes[:, 2], boxes[:, 3]))
    backwards = torch.cat((torch.zeros_like(mirrored), mirrored))
    if 2 * side**3 * size <= _TABLE_LIMIT:
        table = _weight_table(side, size, images.device)
        weights = table[_table_row(start, length, backwards, side)]
    else:
        weights = resize_weights(start, length, backwards, side, size)
    vertical, horizontal = weights[:count, :, :height], weights[count:, :, :width]
    pixels = images.to(torch.float32).reshape(count, channels * height, width)
    rows = round_to_levels(torch.bmm(pixels, horizontal.transpose(1, 2))).view(
        count, channels, height, size
    )
    return round_to_levels(vertical_pass(vertical, rows))


def vertical_pass(weights: Tensor, images: Tensor) -> Tensor:
    """Multiply every channel of image n, [N, C, H, W], from the left by weights n, [N, S, H]: [N,
    C, S, W].
    """
    if images.shape[1] == 1:
        return torch.bmm(weights, images[:, 0]).unsqueeze(1)
    return torch.matmul(weights.unsqueeze(1), images)


def gaussian_blur(images: Tensor, sigma: Tensor, sigma_limit: float) -> Tensor:
    """Blur each image by a true Gaussian of its own sigma, border pixels repeated outwards; rounded
    to levels.

    ``images``: float32 [N, C, S, S]; ``sigma``: float32 [N] in pixels, at most ``sigma_limit``,
    whose fourfold is the kernel's half width. Pillow's GaussianBlur approximates the Gaussian by
    three box blurs: it differs by about one level on average, and by a few levels at hard edges.
    """
    count, channels, size, _ = images.shape
    kernels = gaussian_weights if size <= _SMALL_BLUR else banded_weights
    weights = kernels(sigma, size, math.ceil(BLUR_REACH * sigma_limit))
    rows = torch.bmm(images.reshape(count, channels * size, size), weights.transpose(1, 2))
    return round_to_levels(vertical_pass(weights, rows.view(count, channels, size, size)))


def gaussian_weights(sigma: Tensor, size: int, radius: int) -> Tensor:
    """Blur matrices, float32 [N, size, size], of Gaussians cut at ``radius`` pixels on borders that
    repeat.
    """
    here = torch.arange(size, device=sigma.device)
    there = torch.arange(-radius, size + radius, device=sigma.device)
    distance = (here.view(-1, 1) - there).to(torch.float32)
    distance[distance.abs() > radius] = math.inf
    # Far below a pixel nothing is blurred, and the square of a smaller sigma would be 0.
    sigma = sigma.clamp(min=1e-6)
    weights = (distance.square() / (-2.0 * sigma.view(-1, 1, 1).square())).exp_()
    # Away with weights that no level can show: those of a small sigma are so near 0 that the
    # processor takes ten times as long for a product with them.
    torch.threshold_(weights, _LEAST_WEIGHT, 0.0)
    weights.div_(weights.sum(dim=2, keepdim=True))
    # The pixel that a place beyond the border repeats receives its weight.
    repeats = (there.clamp(0, size - 1).view(-1, 1) == here).to(torch.float32)
    return weights @ repeats


def banded_weights(sigma: Tensor, size: int, radius: int) -> Tensor:
    """`gaussian_weights` to float32's rounding, in a fifth of the time where ``size`` is large:
    each kernel is computed once and laid into every row.
    """
    distance = torch.arange(-radius, radius + 1, device=sigma.device, dtype=torch.float32)
    sigma = sigma.clamp(min=1e-6).view(-1, 1)
    kernel = (distance.square() / (-2.0 * sigma.square())).exp_()
    torch.threshold_(kernel, _LEAST_WEIGHT, 0.0)
    kernel.div_(kernel.sum(dim=1, keepdim=True))
    count, width = len(sigma), size + 2 * radius
    dense = torch.zeros(count, size, width, device=sigma.device)
    band = dense.as_strided((count, size, 2 * radius + 1), (size * width, width + 1, 1))
    band.copy_(kernel.unsqueeze(1))
    # The pixels that the places beyond the borders repeat receive their weights.
    weights = dense[:, :, radius : radius + size].contiguous()
    weights[:, :radius, 0] += dense[:, :radius, :radius].sum(dim=2)
    end = max(0, size - radius)
    weights[:, end:, -1] += dense[:, end:, radius + size :].sum(dim=2)
    return weights
