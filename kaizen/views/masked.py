"""Both views of a batch without choosing rows: every operation sees every image, and the images
that it is not meant for keep their pixels.

That is more arithmetic than `kaizen.views.augment` does, but always the same operations on the same
shapes, so a GPU can replay them from a recording (`kaizen.training.gradients`). For small images,
where launching an operation costs more than computing it. The pixels are the same but for the
rounding of sums.
"""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from kaizen.views import colour, crop
from kaizen.views.augment import TwoViewAugment, ViewDraws, normalise

# Above so many pixels an image's operations cost more than their launches.
LARGEST = 64 * 64


class MaskedViews:
    """The views of a `TwoViewAugment`, both at once."""

    def __init__(self, augment: TwoViewAugment) -> None:
        """Take over the parameters."""
        self._augment = augment
        image, jitter = augment.image, augment.augment.jitter
        self._operations = augment.operations if jitter.probability else []
        self._greyscale = augment.augment.greyscale > 0 and image.channels > 1
        self._blur = max(augment.augment.blur) > 0
        self._solarize = max(augment.augment.solarize) > 0

    def fits(self, images: Tensor) -> bool:
        """Whether images [N, C, H, W] and their views are small enough."""
        height, width = images.shape[2:]
        return max(height * width, self._augment.image.size**2) <= LARGEST

    def draw(self, images: Tensor, seed: int) -> Tensor:
        """The random choices for both views, those of `TwoViewAugment` for a generator of ``seed``,
        in one tensor on the CPU: float32 [2N, D], the second view's rows after the first's.
        """
        count, _, height, width = images.shape
        generator = torch.Generator().manual_seed(seed)
        rows = []
        for view in (0, 1):
            draws = self._augment.draw(count, height, width, view, generator)
            parts = [getattr(draws, item.name) for item in fields(draws)]
            rows.append(torch.cat([part.view(count, -1).to(torch.float32) for part in parts], 1))
        return torch.cat(rows)

    @torch.no_grad()
    def __call__(self, images: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Both views of uint8 images [N, C, H, W] by the choices of `draw`, on the images' device:
        each float32 [N, C, size, size], normalised.
        """
        draws = self._unpacked(drawn)
        size, channels = self._augment.image.size, self._augment.image.channels
        with torch.autocast(images.device.type, enabled=False):
            twice = torch.cat([images, images])
            pixels = crop.crop_resize(twice, draws.boxes, draws.mirrored, size)
            pixels = self._jittered(pixels, draws)
            if self._greyscale:
                grey = colour.luma(pixels).expand(-1, channels, -1, -1)
                pixels = torch.where(_of_image(draws.greyscaled), grey, pixels)
            if self._blur:
                limit = self._augment.augment.blur_sigma[1]
                blurred = crop.gaussian_blur(pixels, draws.blur_sigma, limit)
                pixels = torch.where(_of_image(draws.blurred), blurred, pixels)
            if self._solarize:
                chosen = _of_image(draws.solarised) & (pixels >= 128.0)
                pixels = torch.where(chosen, 255.0 - pixels, pixels)
        layout = torch.channels_last if channels > 1 else torch.contiguous_format
        views = normalise(pixels.contiguous(memory_format=layout), self._augment.image)
        return views[: len(images)], views[len(images) :]

    def _jittered(self, pixels: Tensor, draws: ViewDraws) -> Tensor:
        """Colour jitter, the operations of each image in its own order."""
        for place in range(len(self._operations)):
            at_place = torch.where(draws.jittered, draws.jitter_order[:, place], -1)
            results = pixels
            for number in self._operations:
                changed = pixels.clone()
                factor = draws.jitter_factors[:, number].view(-1, 1, 1, 1)
                colour.OPERATIONS[number](changed, factor)
                results = torch.where(_of_image(at_place == number), changed, results)
            pixels = results
        return pixels

    def _unpacked(self, drawn: Tensor) -> ViewDraws:
        """The choices that `draw` packed, each with its own type."""
        widths = {"boxes": 4, "jitter_factors": 4, "jitter_order": len(self._augment.operations)}
        whole = ("boxes", "jitter_order")
        real = ("jitter_factors", "blur_sigma")
        names = [item.name for item in fields(ViewDraws)]
        parts = drawn.split([widths.get(name, 1) for name in names], dim=1)
        values = {}
        for name, part in zip(names, parts, strict=True):
            part = part if name in widths else part[:, 0]
            values[name] = part.long() if name in whole else part if name in real else part > 0.5
        return ViewDraws(**values)


def _of_image(chosen: Tensor) -> Tensor:
    """A choice for each image, bool [N], beside its pixels: [N, 1, 1, 1]."""
    return chosen.view(-1, 1, 1, 1)
