"""Views on one thread, next to torchvision's transforms (version 1 and 2) on Pillow's images, one
image at a time, and to Kornia's on batches, where it is installed (`make bench`).

    python bench/augmentation.py [repetitions]

Prints microseconds per view: minimum / 10th percentile / median of interleaved repetitions, whose
order rotates, and how many times as long each peer takes, by minima.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional

from kaizen.compute.compiled import can_compile
from kaizen.compute.memory import keep_freed_memory
from kaizen.compute.torchvision_compat import prepare_torchvision
from kaizen.data.stored import decode_row
from kaizen.params import AugmentParams, ImageParams, JitterParams
from kaizen.views.augment import TwoViewAugment
from kaizen.views.pixels import to_model_input

prepare_torchvision()
from torchvision import transforms as first  # noqa: E402 - only now can it be imported
from torchvision.transforms import v2 as second  # noqa: E402

# Chances that both sides give to the operations; the preset of CIFAR-100, with blur where said.
CROP, JITTER, GREY, SOLARISE = (0.08, 1.0), (0.4, 0.4, 0.2, 0.1), 0.2, 0.2


def augment_params(blur: float, channels: int) -> AugmentParams:
    """Ours: of grey digits a crop only, as in the demo."""
    if channels == 1:
        return AugmentParams()
    return AugmentParams(
        crop_scale=list(CROP),
        flip=0.5,
        jitter=JitterParams(0.8, *JITTER),
        greyscale=GREY,
        blur=[blur, blur],
        solarize=[SOLARISE, SOLARISE],
    )


def image_params(size: int, channels: int, load_size: int | None = None) -> ImageParams:
    """Images of ``size`` pixels, normalised around the middle."""
    return ImageParams(
        size=size,
        channels=1 if channels == 1 else 3,
        mean=[0.5] * channels,
        std=[0.25] * channels,
        load_size=load_size,
    )


def pillow_blur(picture: Image.Image) -> Image.Image:
    """SimCLR's blur as the reference has it: Pillow's, of a random radius."""
    return picture.filter(ImageFilter.GaussianBlur(np.random.uniform(0.1, 2.0)))


def peer_of(
    augment: AugmentParams, image: ImageParams, peers: Any = first
) -> Callable[[Image.Image], Tensor]:
    """The same view of one picture by torchvision's transforms, version 1 or 2."""
    jitter = augment.jitter
    steps: list[Any] = [
        peers.RandomResizedCrop(
            image.size,
            scale=tuple(augment.crop_scale),
            ratio=tuple(augment.crop_ratio),
            interpolation=peers.InterpolationMode.BICUBIC,
        )
    ]
    strengths = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    if jitter.probability:
        steps.append(peers.RandomApply([peers.ColorJitter(*strengths)], jitter.probability))
    if augment.greyscale:
        steps.append(peers.RandomGrayscale(augment.greyscale))
    if augment.blur[1]:
        steps.append(peers.RandomApply([peers.Lambda(pillow_blur)], augment.blur[1]))
    if augment.solarize[1]:
        steps.append(peers.RandomSolarize(128, augment.solarize[1]))
    if augment.flip:
        steps.append(peers.RandomHorizontalFlip(augment.flip))
    steps += [first.ToTensor(), peers.Normalize(list(image.mean), list(image.std))]
    view: Callable[[Image.Image], Tensor] = peers.Compose(steps)
    return view


def kornia_of(augment: AugmentParams, image: ImageParams) -> Callable[[Tensor], Tensor] | None:
    """The same views of a batch by Kornia, which draws for each image; None where it is absent."""
    try:
        from kornia import augmentation as kornia
    except ModuleNotFoundError:
        return None
    jitter = augment.jitter
    strengths = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    steps: list[Any] = [
        kornia.RandomResizedCrop(
            (image.size, image.size),
            scale=tuple(augment.crop_scale),
            ratio=tuple(augment.crop_ratio),
            resample="bicubic",
        )
    ]
    if jitter.probability:
        steps.append(kornia.ColorJitter(*strengths, p=jitter.probability))
    if augment.greyscale:
        steps.append(kornia.RandomGrayscale(p=augment.greyscale))
    if augment.blur[1]:
        steps.append(kornia.RandomGaussianBlur((17, 17), (0.1, 2.0), p=augment.blur[1]))
    if augment.solarize[1]:
        steps.append(kornia.RandomSolarize(0.0, 0.0, p=augment.solarize[1]))
    if augment.flip:
        steps.append(kornia.RandomHorizontalFlip(p=augment.flip))
    steps.append(kornia.Normalize(torch.tensor(image.mean), torch.tensor(image.std)))
    views: Callable[[Tensor], Tensor] = kornia.AugmentationSequential(*steps, data_keys=["input"])
    return views


def photographs(count: int, channels: int, height: int, width: int) -> Tensor:
    """Made-up images with detail at every scale, as photographs have: uint8 [N, C, H, W]."""
    generator, side = torch.Generator().manual_seed(0), max(height, width)
    total, coarse = torch.zeros(count, channels, side, side), 4
    while coarse <= side:
        octave = torch.randn(count, channels, coarse, coarse, generator=generator)
        total += functional.interpolate(octave, side, mode="bicubic") * (60.0 * 3 / coarse**0.6)
        coarse *= 2
    return (total[:, :, :height, :width] * 0.5 + 128).clamp(0, 255).to(torch.uint8)


def pictures(images: Tensor) -> list[Image.Image]:
    """Pillow's images of a batch."""
    arrays = images.permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(a[:, :, 0] if a.shape[2] == 1 else a) for a in arrays]


def of_memory(
    count: int, channels: int, side: tuple[int, int], size: int, blur: float
) -> dict[str, Callable[[], object]]:
    """One view of each of ``count`` images in memory."""
    augment, image = augment_params(blur, channels), image_params(size, channels)
    images, generator = photographs(count, channels, *side), torch.Generator().manual_seed(0)
    ours, pillow = TwoViewAugment(augment, image), pictures(images)
    peer, newer = peer_of(augment, image), peer_of(augment, image, second)
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(images, 1, generator),
        "torchvision v1": lambda: torch.stack([peer(picture) for picture in pillow]),
        "torchvision v2": lambda: torch.stack([newer(picture) for picture in pillow]),
    }
    if batched := kornia_of(augment, image):
        runs["kornia"] = lambda: batched(images.float() / 255)
    return runs


def of_jpeg(count: int) -> dict[str, Callable[[], object]]:
    """Two views of 224 pixels from each of ``count`` JPEG files of 500 x 375: ours bring the
    shorter side to 256 first, as the preset imagenet100 does.
    """
    augment, image = augment_params(0.5, 3), image_params(224, 3, load_size=256)
    files = []
    for picture in pictures(photographs(count, 3, 375, 500)):
        file = io.BytesIO()
        picture.save(file, "jpeg", quality=90)
        files.append(file.getvalue())
    ours, peer = TwoViewAugment(augment, image), peer_of(augment, image)
    generator = torch.Generator().manual_seed(0)

    def our_views() -> None:
        arrays = [
            to_model_input(decode_row(file, "file", 375, 500, 3), image, compiled=can_compile())
            for file in files
        ]
        images = torch.from_numpy(np.stack(arrays))
        for view in (0, 1):
            ours(images, view, generator)

    def their_views() -> None:
        opened = [Image.open(io.BytesIO(file)).convert("RGB") for file in files]
        for _ in range(2):
            torch.stack([peer(picture) for picture in opened])

    return {"ours": our_views, "torchvision v1": their_views}


# How each case is made, and of how many views or files its times are. Those of few seconds first.
CASES: dict[str, tuple[Callable[[], dict[str, Callable[[], object]]], int]] = {
    "views, digits 64 x 1x8x8 to 16": (lambda: of_memory(64, 1, (8, 8), 16, 0.0), 64),
    "views, 256 x 3x32x32": (lambda: of_memory(256, 3, (32, 32), 32, 0.0), 256),
    "views, 64 x 3x64x64, blur": (lambda: of_memory(64, 3, (64, 64), 64, 0.5), 64),
    "views, 16 x 3x375x500 to 224, blur": (lambda: of_memory(16, 3, (375, 500), 224, 0.5), 16),
    "8 JPEG files of 375x500, two views of 224 each, blur": (lambda: of_jpeg(8), 8),
}


def race(
    runs: dict[str, Callable[[], object]], views: int, repetitions: int
) -> dict[str, list[float]]:
    """Microseconds per view of each contestant: minimum, 10th percentile, median."""
    names = list(runs)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repetitions + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            torch.manual_seed(turn)
            np.random.seed(turn)
            began = time.perf_counter()
            runs[name]()
            if turn:  # the first one warms up
                times[name].append((time.perf_counter() - began) / views * 1e6)
    return {name: np.percentile(values, [0, 10, 50]).tolist() for name, values in times.items()}


def main() -> None:
    """Print a line per case."""
    torch.set_num_threads(1)
    # As every job does.
    keep_freed_memory()
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    for case, (make, views) in CASES.items():
        runs = make()
        found = race(runs, views, repetitions)
        each = [
            f"{name} " + " / ".join(f"{v:,.1f}" for v in values) for name, values in found.items()
        ]
        ratios = [
            f"{name} takes {values[0] / found['ours'][0]:.2f} times as long"
            for name, values in found.items()
            if name != "ours"
        ]
        print(case, *each, *ratios, sep="; ", flush=True)


if __name__ == "__main__":
    main()
