"""Random views of images on a CPU, each image in one go, by `kaizen.views.compiled_resize` and
`kaizen.views.compiled_colour` (fidelity.md §8).

Where numba is installed: this imports it. An image's pixels depend on nothing but the image and its
random choices.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from kaizen.views.compiled_colour import finish_views
from kaizen.views.compiled_resize import resize
from kaizen.views.pixels import read_only

# So many levels go from the resize to the colours at a time: they stay in a core's second cache.
_LEVELS = 1 << 18
# Images of fewer output values than that are not worth another thread.
_LEAST_OF_A_THREAD = 1 << 16


def make_views(
    images: Tensor, draws: dict[str, np.ndarray], radius: int, table: Tensor, view: Tensor
) -> None:
    """Write to ``view``, float32 [N, C, S, S] with channels last, the views of uint8 images [N, C,
    H, W] on the CPU that ``draws`` describe, the arrays of a `ViewDraws` by their names.

    ``radius``: of the widest blur in pixels; ``table``: float32 [C, 256], the network's number for
    each level. Raises ValueError where a box is not inside its image,
    or the arguments are of different numbers of images or channels.
    """
    count, channels, size, _ = view.shape
    pixels, numbers = read_only(images.contiguous().numpy()), table.numpy()
    out = view.permute(0, 2, 3, 1).numpy().reshape(count, size * size, channels)
    # A column of a larger array is none for numba, whose types know how an array lies in memory.
    chosen = {name: np.ascontiguousarray(values) for name, values in draws.items()}
    # Compiled code would read beyond.
    boxes = chosen["boxes"]
    if numbers.shape != (channels, 256) or pixels.shape[:2] != (count, channels):
        raise ValueError(f"a table of {numbers.shape} for images of {pixels.shape}")
    if any(len(values) != count for values in chosen.values()):
        raise ValueError(f"choices for another number of images than {count}")
    if count and (boxes.min() < 0 or (boxes[:, :2] + boxes[:, 2:] > images.shape[2:]).any()):
        raise ValueError(f"boxes outside of images of {images.shape[2]} x {images.shape[3]} pixels")
    step = max(1, _LEVELS // (channels * size * size))

    def make(begin: int, end: int) -> None:
        for first in range(begin, end, step):
            part = slice(first, min(first + step, end))
            levels = np.empty((part.stop - first, channels, size, size), np.uint8)
            mirrored = chosen["mirrored"][part]
            resize(pixels[part], False, boxes[part], mirrored, size, size, 0, 0, levels)
            finish_views(
                levels.reshape(len(levels), channels, size * size),
                chosen["jittered"][part],
                chosen["jitter_factors"][part],
                chosen["jitter_order"][part],
                chosen["greyscaled"][part],
                chosen["blurred"][part],
                chosen["blur_sigma"][part],
                chosen["solarised"][part],
                radius,
                numbers,
                out[part],
            )

    _in_threads(make, count, channels * size * size)


def resized_batch(images: Tensor, box: tuple[int, int, int, int], size: int) -> Tensor:
    """The ``box`` (top, left, height, width) of each image, uint8 [N, C, H, W] on the CPU, as
    Pillow resizes it, rows first: uint8 [N, C, size, size].
    """
    count, channels = images.shape[:2]
    pixels = read_only(images.contiguous().numpy())
    out = np.empty((count, channels, size, size), np.uint8)

    def make(begin: int, end: int) -> None:
        boxes = np.tile(np.array(box, dtype=np.int64), (end - begin, 1))
        still = np.zeros(end - begin, dtype=np.bool_)
        resize(pixels[begin:end], False, boxes, still, size, size, 0, 0, out[begin:end])

    _in_threads(make, count, channels * size * size)
    return torch.from_numpy(out)


def _in_threads(make: Callable[[int, int], None], count: int, values: int) -> None:
    """Make ``count`` images of so many values, by as many threads as torch has."""
    threads = min(torch.get_num_threads(), count, count * values // _LEAST_OF_A_THREAD)
    if threads <= 1:
        make(0, count)
        return
    bounds = [count * number // threads for number in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(make, bounds[:-1], bounds[1:]))
