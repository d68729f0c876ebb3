"""Crops and blurs of large images on a CPU, one image at a time: there the batched matrix products
of `kaizen.views.crop` cost most (fidelity.md §8).

Which way an image takes follows from sizes alone, so the same image always gets the same pixels.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kaizen.data.image_files import THIN

# Below so many multiplications per image the matrix products are as fast: at 64 x 64 in colour they
# are 1.5 million, at 32 x 32 a fifth of a million.
_CROP_PRODUCTS = 600_000
_BLUR_SIDE = 96
# Smaller images are resized by Pillow, to the bit as torchvision does.
_RESIZED_PIXELS, _RESIZED_SIDE = 128 * 128, 64
# Wider kernels take more passes over the image than matrix products are worth.
_BLUR_RADIUS = 16


def crops_singly(images: Tensor, size: int) -> bool:
    """Whether `resize_crops` is the faster way for crops of these images [N, C, H, W] to size x
    size: uint8 on a CPU, and large.
    """
    _, channels, height, width = images.shape
    products = channels * height * size * (width + size)
    return (
        images.dtype == torch.uint8 and images.device.type == "cpu" and products >= _CROP_PRODUCTS
    )


def blurs_singly(images: Tensor, sigma_limit: float) -> bool:
    """Whether `blur_` is the faster way to blur these images [N, C, S, S] by at most
    ``sigma_limit``.
    """
    return (
        images.device.type == "cpu"
        and images.shape[-1] >= _BLUR_SIDE
        and math.ceil(4.0 * sigma_limit) <= _BLUR_RADIUS
    )


def resizes_singly(height: int, width: int, size: int) -> bool:
    """Whether `resize_centre` brings an image of height x width pixels to size x size: large ones,
    that are not so thin that the whole would take much memory.
    """
    large = height * width >= _RESIZED_PIXELS and size >= _RESIZED_SIDE
    return large and max(height, width) <= THIN * min(height, width)


def resize_centre(array: np.ndarray, size: int) -> np.ndarray:
    """The shorter side of pixels uint8 [H, W, C] brought to ``size``, and the centre cut out, with
    the sizes of `kaizen.data.image_files.centre_square`: uint8 [C, size, size].

    Four times as fast as Pillow at 500 x 375, and up to 2 levels away, as `resize_crops` is.
    """
    height, width = array.shape[:2]
    shape = [int(size * side / min(height, width)) for side in (height, width)]
    # torch reads what may be written to only.
    pixels = torch.from_numpy(array if array.flags.writeable else array.copy()).permute(2, 0, 1)
    whole = _bicubic(pixels[None], *shape)[0]
    top, left = (round((side - size) / 2) for side in shape)
    return whole[:, top : top + size, left : left + size].numpy()


def resize_crops(images: Tensor, boxes: list[list[int]], mirrored: list[bool], size: int) -> Tensor:
    """Crop each image, uint8 [N, C, H, W], to its box (top, left, height, width), resize it
    bicubically, and mirror it where asked: float32 [N, C, size, size].

    torch's 8-bit resize has Pillow's kernel and rounds after each pass, as Pillow does, but holds
    the weights in 16 bits: up to 2 levels away, in a few of a thousand pixels.
    """
    count, channels = images.shape[:2]
    out = np.empty((count, channels, size, size), dtype=np.uint8)
    # Cut out, mirrored and put in place by numpy, whose calls take less time than torch's.
    for image, box, turned, place in zip(images.numpy(), boxes, mirrored, out, strict=True):
        top, left, height, width = box
        # torch reads a part of an image pixel by pixel, a copy of it by whole lines.
        part = torch.from_numpy(image[None, :, top : top + height, left : left + width].copy())
        resized = _bicubic(part, size, size).numpy()[0]
        place[...] = resized[:, :, ::-1] if turned else resized
    return torch.from_numpy(out).to(torch.float32)


def _bicubic(pixels: Tensor, height: int, width: int) -> Tensor:
    """`functional.interpolate`, bicubic and antialiased, of uint8 [N, C, H, W] on a CPU, without
    its questions: they take as long as a small image.
    """
    resized: Tensor = torch.ops.aten._upsample_bicubic2d_aa(pixels, (height, width), False)
    return resized


def blur_(image: Tensor, sigma: float) -> None:
    """Blur one image, float32 [C, H, W], in place by a Gaussian cut at four sigma, border pixels
    repeated outwards; not rounded.

    The padded planes lie in memory as one line: moved along it by a pixel, or by a row, they are
    added up weighted. That is one pass over contiguous memory for each place of the kernel; what
    comes together at the ends of rows and planes lies outside of the image.
    """
    height, width = image.shape[1:]
    sigma = max(sigma, 1e-6)  # as in `gaussian_weights`
    radius = max(1, math.ceil(4.0 * sigma))
    weights = [math.exp(-0.5 * (distance / sigma) ** 2) for distance in range(radius + 1)]
    total = weights[0] + 2.0 * sum(weights[1:])
    padded = functional.pad(image[None], (radius,) * 4, mode="replicate")
    row = width + 2 * radius
    line = padded.view(-1)
    for stride in (1, row):
        count = len(line) - 2 * radius * stride
        middle = radius * stride
        blurred = line[middle : middle + count] * (weights[0] / total)
        for distance in range(1, radius + 1):
            weight, shift = weights[distance] / total, distance * stride
            before, after = middle - shift, middle + shift
            blurred.add_(line[before : before + count], alpha=weight)
            blurred.add_(line[after : after + count], alpha=weight)
        line = blurred
    image.copy_(line.as_strided(image.shape, ((height + 2 * radius) * row, row, 1)))
