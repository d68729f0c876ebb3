"""From pixels to what a network sees, as evaluation shows it, without torch: NumPy and Pillow.

The same levels as `kaizen.views.pixels.to_model_input` and `evaluation_transform` give, with one
exception: where a sum ends within float32's rounding of a half, theirs may be one level off; here
sums are exact.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from kaizen.data.image_files import THIN, centre_square, to_picture, to_pixels
from kaizen.params import ImageParams

# Those of kaizen/views/large.py, which imports torch; a test compares them.
RESIZED_PIXELS, RESIZED_SIDE, CROP_PRODUCTS = 128 * 128, 64, 600_000
# Pillow's resize holds its weights as multiples of 2^-22; torch's in 16 bits.
_PILLOW_BITS = 22
# So many values are floats at a time.
_CHUNK = 1 << 20


def shown_levels(array: np.ndarray, image: ImageParams, test_crop: float) -> np.ndarray:
    """The levels that the network sees of pixels uint8 [H, W, 1 or 3] before they are normalised:
    uint8 [C, size, size].
    """
    array = _loaded(array, image)
    height, width = array.shape[:2]
    shown = [max(1, round(side * test_crop)) for side in (height, width)]
    top, left = ((side - inside) // 2 for side, inside in zip((height, width), shown, strict=True))
    part = array[top : top + shown[0], left : left + shown[1]]
    if shown != [image.size, image.size]:
        products = image.channels * height * image.size * (width + image.size)
        short = products >= CROP_PRODUCTS
        part = _resize(part, (image.size, image.size), short)
    return np.ascontiguousarray(part.transpose(2, 0, 1))


def _loaded(array: np.ndarray, image: ImageParams) -> np.ndarray:
    """As `to_model_input`, but uint8 [H', W', C]."""
    size = image.load_size
    height, width = array.shape[:2]
    if size is None or (height, width) == (size, size):
        return _converted(array, image.channels)
    large = height * width >= RESIZED_PIXELS and size >= RESIZED_SIDE
    if large and max(height, width) <= THIN * min(height, width):
        shape = (int(size * height / min(height, width)), int(size * width / min(height, width)))
        whole = _resize(_converted(array, image.channels), shape, short=True)
        top, left = (round((side - size) / 2) for side in shape)
        return whole[top : top + size, left : left + size]
    picture = to_picture(array).convert("L" if image.channels == 1 else "RGB")
    return to_pixels(centre_square(picture, size))


def _converted(array: np.ndarray, channels: int) -> np.ndarray:
    """Pixels uint8 [H, W, 1 or 3] with so many channels, by Pillow's luma."""
    if array.shape[2] == channels:
        return array
    return to_pixels(to_picture(array).convert("L" if channels == 1 else "RGB"))


def _resize(array: np.ndarray, shape: tuple[int, int], short: bool) -> np.ndarray:
    """Resize pixels uint8 [H, W, C], bicubic and antialiased: along rows first, rounded to levels
    after each pass. ``short``: with weights of 16 bits, as torch's 8-bit resize.
    """
    for axis in (1, 0):
        source, target = array.shape[axis], shape[axis]
        if source == target and short:
            continue
        weights = _weights(source, target, short)
        # Moved axis first; the others are independent, and few of them are in memory as floats.
        lines = np.moveaxis(array, axis, 0).reshape(source, -1)
        moved = np.empty((target, lines.shape[1]), np.uint8)
        step = max(1, _CHUNK // source)
        for begin in range(0, lines.shape[1], step):
            # Whole multiples of the weights' unit: the sums are exact.
            sums = weights @ lines[:, begin : begin + step].astype(np.float64)
            moved[:, begin : begin + step] = np.clip(np.floor(sums + 0.5), 0, 255)
        others = [side for place, side in enumerate(array.shape) if place != axis]
        array = np.moveaxis(moved.reshape(target, *others), 0, axis)
    return array


@functools.lru_cache(maxsize=16)
def _weights(source: int, target: int, short: bool) -> np.ndarray:
    """The weights of ``source`` pixels in each of ``target``, float64 [target, source]."""
    scale = source / target
    stretch = max(scale, 1.0)
    centre = (np.arange(target) + 0.5)[:, None] * scale
    support = 2.0 * stretch
    first = np.maximum(np.floor(centre - support + 0.5), 0)
    end = np.minimum(np.floor(centre + support + 0.5), source)
    pixel = np.arange(source)[None]
    x = np.minimum(np.abs((pixel + 0.5 - centre) / stretch), 2.0)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    weights = np.where(x < 1.0, near, far) * ((pixel >= first) & (pixel < end))
    weights /= weights.sum(axis=1, keepdims=True)
    unit = float(1 << (_short_bits(float(weights.max())) if short else _PILLOW_BITS))
    rounded: np.ndarray = np.copysign(np.floor(np.abs(weights) * unit + 0.5), weights) / unit
    return rounded


def _short_bits(largest: float) -> int:
    """How many bits after the point torch takes, so that the largest weight fits into 16 bits."""
    for bits in range(_PILLOW_BITS):
        if math.floor(0.5 + largest * (1 << (bits + 1))) >= 1 << 15:
            return bits
    return _PILLOW_BITS
