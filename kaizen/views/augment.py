"""Two random views of each image, batched on the images' device, and the evaluation transform
(fidelity.md §8).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from kaizen.compute.compiled import can_compile
from kaizen.params import AugmentParams, ImageParams
from kaizen.views import colour, crop

# Columns of the uniform numbers of one sample. All are drawn whatever the parameters, so that
# changing one operation's probability leaves the random choices of the others as they were.
_CROP = slice(0, crop.CROP_UNIFORMS)
_JITTER, _GREYSCALE, _BLUR, _SIGMA, _SOLARISE, _FLIP = range(
    crop.CROP_UNIFORMS, crop.CROP_UNIFORMS + 6
)
_FACTORS = slice(_FLIP + 1, _FLIP + 5)
_ORDER = slice(_FLIP + 5, _FLIP + 9)
UNIFORMS = _FLIP + 9


# Without numba a CPU makes so many output values at a time. Larger temporaries go back to the
# system after every operation, and fetching their pages again costs more than the arithmetic;
# smaller ones cost calls.
_CPU_CHUNK = 1 << 19
# From so many multiplications an image on, matrix products cost more than compiled code does, with
# bringing it into memory.
_COMPILED_PRODUCTS = 600_000


@dataclass(frozen=True)
class ViewDraws:
    """The random choices for one view of N images, on the CPU; the first axis of each tensor is the
    sample.
    """

    boxes: Tensor  # int64 [N, 4]: top, left, height, width
    mirrored: Tensor  # bool [N], as the other choices of whether an operation is applied
    jittered: Tensor
    jitter_factors: Tensor  # float32 [N, 4]: brightness, contrast, saturation, hue shift in turns
    jitter_order: Tensor  # int64 [N, operations in use]
    greyscaled: Tensor
    blurred: Tensor
    blur_sigma: Tensor  # float32 [N], in pixels
    solarised: Tensor

    def part(self, begin: int, end: int) -> ViewDraws:
        """The choices for samples begin..end - 1."""
        return ViewDraws(*(getattr(self, item.name)[begin:end] for item in fields(self)))


class TwoViewAugment:
    """Crop, colour jitter, greyscale, blur, solarise, flip and normalise, with random parameters
    per sample.

    The order and meaning of the operations are the reference's (fidelity.md §8). Pixels are rounded
    to whole levels after each operation, as in Pillow's 8-bit images. On greyscale images,
    saturation, hue and greyscale do nothing.
    """

    def __init__(self, augment: AugmentParams, image: ImageParams) -> None:
        """Remember the parameters; nothing random happens here."""
        self.augment = augment
        self.image = image
        jitter = augment.jitter
        strengths = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        self.operations, ranges = colour.jitter_ranges(strengths, image.channels)
        self._factor_low = np.array([low for low, _ in ranges])
        self._factor_span = np.array([high - low for low, high in ranges])

    def draw(
        self, count: int, height: int, width: int, view: int, generator: torch.Generator
    ) -> ViewDraws:
        """Draw the random choices for view 0 or 1 of ``count`` images of height x width pixels.

        Takes UNIFORMS numbers per sample from the CPU generator, whatever the parameters, view and
        image size.
        """
        augment, jitter = self.augment, self.augment.jitter
        colours = self.image.channels > 1
        uniforms = torch.rand(count, UNIFORMS, generator=generator, dtype=torch.float64)
        low, high = augment.blur_sigma
        # numpy's calls take a third of the time of torch's, and these are few numbers.
        drawn = uniforms.numpy()
        factors = drawn[:, _FACTORS] * self._factor_span + self._factor_low
        order = drawn[:, _ORDER][:, self.operations].argsort(axis=1)

        def chosen(column: int, probability: float) -> Tensor:
            return torch.from_numpy(drawn[:, column] < probability)

        return ViewDraws(
            boxes=crop.sample_boxes(
                uniforms[:, _CROP], height, width, augment.crop_scale, augment.crop_ratio
            ),
            mirrored=chosen(_FLIP, augment.flip),
            jittered=chosen(_JITTER, jitter.probability if self.operations else 0.0),
            jitter_factors=torch.from_numpy(factors.astype(np.float32)),
            jitter_order=torch.from_numpy(np.array(self.operations, dtype=np.int64)[order]),
            greyscaled=chosen(_GREYSCALE, augment.greyscale if colours else 0.0),
            blurred=chosen(_BLUR, augment.blur[view]),
            blur_sigma=torch.from_numpy((drawn[:, _SIGMA] * (high - low) + low).astype(np.float32)),
            solarised=chosen(_SOLARISE, augment.solarize[view]),
        )

    @torch.no_grad()
    def __call__(
        self, images: Tensor, view: int, generator: torch.Generator, rows: slice = slice(None)
    ) -> Tensor:
        """Make view 0 or 1 of uint8 images [N, C, H, W] on any device, with choices from the CPU
        ``generator``.

        Returns float32 [N, C, size, size], normalised, in channels-last memory format if C > 1; of
        ``rows`` only, as they would be among all, where those are given.
        """
        count, _, height, width = images.shape
        begin, end, _ = rows.indices(count)
        return self.apply(
            images[begin:end], self.draw(count, height, width, view, generator).part(begin, end)
        )

    @torch.no_grad()
    def apply(self, images: Tensor, draws: ViewDraws) -> Tensor:
        """Make the view that ``draws`` describe; arguments and result as for a call."""
        count, channels = images.shape[:2]
        size = self.image.size
        view = _empty_view(count, channels, size, images.device)
        if _for_compiled(images):
            from kaizen.views.compiled import make_views

            chosen = {item.name: getattr(draws, item.name).numpy() for item in fields(draws)}
            radius = math.ceil(crop.BLUR_REACH * self.augment.blur_sigma[1])
            table = _level_table(tuple(self.image.mean), tuple(self.image.std))
            make_views(images, chosen, radius, table, view)
            return view
        on_cpu = images.device.type == "cpu"
        step = max(1, _CPU_CHUNK // (channels * size * size)) if on_cpu else max(count, 1)
        for begin in range(0, count, step):
            part = slice(begin, begin + step)
            levels = self._levels(images[part], draws.part(begin, begin + step))
            view[part] = normalise(levels, self.image)
        return view

    def _levels(self, images: Tensor, draws: ViewDraws) -> Tensor:
        """The view before normalisation, float32 [N, C, size, size] of whole levels."""
        device = images.device
        # Autocast would round levels to bfloat16 in the matrix products.
        with torch.autocast(device.type, enabled=False):
            # The flip is the reference's last operation, but all that follow the crop commute with
            # it, and within the crop it costs nothing.
            boxes, mirrored = draws.boxes.to(device), draws.mirrored.to(device)
            pixels = crop.crop_resize(images, boxes, mirrored, self.image.size)
            if len(rows := _rows(draws.jittered)):
                factors = draws.jitter_factors[rows].to(device)
                colour.colour_jitter_(pixels, rows, factors, draws.jitter_order[rows])
            if len(rows := _rows(draws.greyscaled)):
                colour.greyscale_(pixels, rows)
            if len(rows := _rows(draws.blurred)):
                sigma, limit = draws.blur_sigma[rows].to(device), self.augment.blur_sigma[1]
                place = rows.to(device)
                blurred = crop.gaussian_blur(pixels.index_select(0, place), sigma, limit)
                pixels.index_copy_(0, place, blurred)
            if len(rows := _rows(draws.solarised)):
                colour.solarise_(pixels, rows)
        return pixels


def _for_compiled(images: Tensor) -> bool:
    """Whether compiled code takes these images: whole levels on a CPU, where numba is installed."""
    return images.dtype == torch.uint8 and images.device.type == "cpu" and can_compile()


def _rows(chosen: Tensor) -> Tensor:
    """Indices of the chosen samples; on the CPU, so that a GPU need not be waited for."""
    return chosen.nonzero()[:, 0]


@torch.no_grad()
def evaluation_transform(images: Tensor, image: ImageParams, test_crop: float = 1.0) -> Tensor:
    """Resize the centre (the share ``test_crop`` of each side; 1: all) of uint8 images [N, C, H, W]
    to the network's input, as Pillow does (bicubic, antialiased), and normalise.

    Returns float32 [N, C, size, size], in channels-last memory format if C > 1.
    """
    count, channels, height, width = images.shape
    view = _empty_view(count, channels, image.size, images.device)
    shown = [max(1, round(side * test_crop)) for side in (height, width)]
    top, left = ((side - inside) // 2 for side, inside in zip((height, width), shown, strict=True))
    if shown == [image.size, image.size]:
        centre = images[:, :, top : top + image.size, left : left + image.size]
        return view.copy_(normalise(centre.to(torch.float32), image))
    products = channels * height * image.size * (width + image.size)
    if products >= _COMPILED_PRODUCTS and _for_compiled(images):
        from kaizen.views.compiled import resized_batch

        resized = resized_batch(images, (top, left, shown[0], shown[1]), image.size)
        return view.copy_(normalise(resized.to(torch.float32), image))
    with torch.autocast(images.device.type, enabled=False):
        boxes = torch.tensor((top, left, *shown), device=images.device).expand(count, 4)
        mirrored = torch.zeros(count, dtype=torch.bool, device=images.device)
        return view.copy_(normalise(crop.crop_resize(images, boxes, mirrored, image.size), image))


def _empty_view(count: int, channels: int, size: int, device: torch.device) -> Tensor:
    """Memory for a result: float32 [N, C, size, size], channels last if there are several."""
    layout = torch.channels_last if channels > 1 else torch.contiguous_format
    return torch.empty(count, channels, size, size, device=device, memory_format=layout)


def normalise(pixels: Tensor, image: ImageParams) -> Tensor:
    """(pixels / 255 - mean) / std per channel, in place; several times faster on planes than with
    channels last.
    """
    scale, shift = _affine(tuple(image.mean), tuple(image.std), pixels.device)
    return pixels.mul_(scale).add_(shift)


@functools.lru_cache(maxsize=8)
def _level_table(mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """The network's number for each level, float32 [C, 256], as `normalise` computes it."""
    scale, shift = _affine(mean, std, torch.device("cpu"))
    levels = torch.arange(256.0).view(1, 1, 256, 1).repeat(1, len(mean), 1, 1)
    return levels.mul_(scale).add_(shift)[0, :, :, 0]


@functools.lru_cache(maxsize=8)
def _affine(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Scale and shift, float32 [1, C, 1, 1], that normalise pixels of 0..255."""
    scale = [1.0 / (255.0 * deviation) for deviation in std]
    shift = [-average / deviation for average, deviation in zip(mean, std, strict=True)]
    return (
        torch.tensor(scale, device=device).view(1, -1, 1, 1),
        torch.tensor(shift, device=device).view(1, -1, 1, 1),
    )
