"""Views by compiled code, image by image: against Pillow, a dense convolution and the batched
operations (fidelity.md §8).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from pillow_images import generator, levels, noise, per_image, rows_then_columns, smooth
from torch import Tensor

from kaizen.data.image_files import centre_square, to_picture, to_pixels
from kaizen.params import AugmentParams, ImageParams, JitterParams
from kaizen.views import augment as augment_module
from kaizen.views import crop
from kaizen.views import pixels as pixels_module
from kaizen.views.augment import TwoViewAugment, ViewDraws, evaluation_transform
from kaizen.views.pixels import to_model_input

COLOUR = ImageParams(size=32, channels=3, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
GREY = ImageParams(size=32, channels=1, mean=[0.3], std=[0.4])
FULL = AugmentParams(
    crop_scale=[0.08, 1.0],
    flip=0.5,
    jitter=JitterParams(0.8, 0.4, 0.4, 0.2, 0.1),
    greyscale=0.2,
    blur=[0.5, 0.5],
    solarize=[0.2, 0.2],
)
NOTHING = AugmentParams(crop_scale=[1.0, 1.0], crop_ratio=[1.0, 1.0])


def whole_levels(view: Tensor, image: ImageParams) -> Tensor:
    """Undo the normalisation: whole levels, float64."""
    found = levels(view, image)
    assert (found - found.round()).abs().max() < 1e-3
    return found.round()


def sides(image: ImageParams) -> str:
    """A short name for it."""
    return f"{image.channels}x{image.size}x{image.size}"


def both_ways(
    augment: TwoViewAugment, images: Tensor, draws: ViewDraws, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tensor, Tensor]:
    """Levels by compiled code and by the batched operations."""
    compiled = augment.apply(images, draws)
    monkeypatch.setattr(augment_module, "can_compile", lambda: False)
    batched = augment.apply(images, draws)
    monkeypatch.undo()
    return whole_levels(compiled, augment.image), whole_levels(batched, augment.image)


def boxes_of(count: int, height: int, width: int) -> Tensor:
    """Random boxes; the first are a pixel, a column, a row, and all."""
    uniforms = torch.rand(count, crop.CROP_UNIFORMS, dtype=torch.float64, generator=generator(1))
    boxes = crop.sample_boxes(uniforms, height, width, (0.01, 1.0), (0.2, 5.0))
    thin = [[height - 1, width - 1, 1, 1], [0, width // 2, height, 1], [height // 2, 0, 1, width]]
    boxes[:4] = torch.tensor([*thin, [0, 0, height, width]])
    return boxes


@pytest.mark.parametrize("images_of", [noise, smooth])
@pytest.mark.parametrize(
    ("height", "width", "size", "channels"),
    [
        (1, 1, 3, 3),
        (5, 7, 9, 1),
        (8, 8, 16, 1),
        (32, 32, 32, 3),
        (64, 64, 64, 3),
        (13, 150, 7, 3),
        (300, 20, 33, 1),
        (90, 90, 1, 3),
        (150, 200, 112, 3),
    ],
)
def test_crops_are_pillows_to_the_bit(
    images_of: Callable[..., Tensor], height: int, width: int, size: int, channels: int
) -> None:
    images = images_of(24, channels, *((height, width) if images_of is noise else (300,)))
    images = images[:, :, :height, :width]  # of a smooth one no contiguous part
    boxes, mirrored = boxes_of(24, height, width), torch.arange(24) % 3 == 1

    def expected(image: Image.Image, n: int) -> Image.Image:
        top, left, tall, wide = boxes[n].tolist()
        resized = rows_then_columns(image.crop((left, top, left + wide, top + tall)), size)
        return resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored[n] else resized

    image = replace(COLOUR if channels == 3 else GREY, size=size)
    augment = TwoViewAugment(NOTHING, image)
    draws = replace(augment.draw(24, 1, 1, 0, generator()), boxes=boxes, mirrored=mirrored)
    found = whole_levels(augment.apply(images, draws), image)
    assert torch.equal(found, per_image(images, expected).double())


def only(**changes: Any) -> AugmentParams:
    """No crop and no operation but the named one."""
    return replace(NOTHING, **changes)


@pytest.mark.parametrize(
    ("augment", "share"),
    [
        (only(jitter=JitterParams(1.0, 0.9, 0.0, 0.0, 0.0)), 0.0),
        (only(jitter=JitterParams(1.0, 0.0, 0.9, 0.0, 0.0)), 1e-4),
        (only(jitter=JitterParams(1.0, 0.0, 0.0, 0.9, 0.0)), 1e-4),
        (only(jitter=JitterParams(1.0, 0.0, 0.0, 0.0, 0.5)), 1e-4),
        (only(jitter=JitterParams(0.7, 0.4, 0.4, 0.2, 0.1)), 1e-4),
        (only(greyscale=0.7), 0.0),
        (only(solarize=[0.7, 0.0]), 0.0),
        (only(blur=[0.9, 0.0], blur_sigma=[0.0, 5.0]), 1e-3),
    ],
    ids=["brightness", "contrast", "saturation", "hue", "jitter", "grey", "solarise", "blur"],
)
@pytest.mark.parametrize("image", [COLOUR, GREY, replace(COLOUR, size=41)], ids=sides)
@pytest.mark.parametrize("images_of", [noise, smooth])
def test_colours_are_those_of_the_batched_operations(
    augment: AugmentParams,
    share: float,
    image: ImageParams,
    images_of: Callable[..., Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But for a rounding of float32 next to a whole level: by one, in fewer than ``share``."""
    size = image.size
    images = images_of(48, image.channels, *((size, size) if images_of is noise else (size,)))
    views = TwoViewAugment(augment, image)
    draws = views.draw(48, size, size, 0, generator(3))
    compiled, batched = both_ways(views, images, draws, monkeypatch)
    assert not torch.equal(compiled, images.double()) or image.channels == 1
    different = (compiled - batched).abs()
    assert different.max() <= 1 + 2 * (augment.jitter.probability == 0.7)
    assert (different > 0).double().mean() <= share


@pytest.mark.parametrize("image", [COLOUR, GREY, replace(COLOUR, size=40)], ids=sides)
def test_views_are_those_of_the_batched_operations(
    image: ImageParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a resize differs by, matrix products being in float32, other operations may enlarge."""
    images, augment = noise(64, image.channels, 32, 32), TwoViewAugment(FULL, image)
    draws = augment.draw(64, 32, 32, 1, generator(2))
    compiled, batched = both_ways(augment, images, draws, monkeypatch)
    assert (compiled != batched).double().mean() < 1e-3
    assert (compiled - batched).abs().max() <= 8


@pytest.mark.parametrize(("size", "channels"), [(96, 3), (21, 1), (3, 3)])
def test_blur_equals_dense_convolution(size: int, channels: Literal[1, 3]) -> None:
    sigmas = torch.tensor([0.0, 0.1, 0.3, 1.0, 2.0, 4.0])
    images, image = noise(6, channels, size, size), replace(COLOUR if channels == 3 else GREY)
    image = replace(image, size=size)
    augment = TwoViewAugment(only(blur=[1.0, 1.0], blur_sigma=[0.0, 4.0]), image)
    draws = replace(augment.draw(6, size, size, 0, generator()), blur_sigma=sigmas)
    found = whole_levels(augment.apply(images, draws), image).numpy()
    offset = np.arange(-16, 17)
    for n, sigma in enumerate(sigmas.tolist()):
        kernel = np.exp(-(offset**2) / (2 * max(sigma, 1e-3) ** 2))
        kernel /= kernel.sum()
        blurred = np.pad(images[n].numpy().astype(float), ((0, 0), (16, 16), (16, 16)), mode="edge")
        for axis in (1, 2):
            windows = np.lib.stride_tricks.sliding_window_view(blurred, 33, axis=axis)
            blurred = windows @ kernel
        assert np.abs(found[n] - blurred).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("size", [32, 160])
def test_an_image_is_the_same_in_every_batch_and_by_any_number_of_threads(size: int) -> None:
    """To the bit."""
    images, augment = noise(9, 3, 100, 130), TwoViewAugment(FULL, replace(COLOUR, size=size))
    draws = augment.draw(9, 100, 130, 1, generator(3))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = augment.apply(images, draws)
        torch.set_num_threads(3)
        assert torch.equal(augment.apply(images.repeat(9, 1, 1, 1)[:9], draws), whole)
        box = (3, 5, 90, 100)
        from kaizen.views.compiled import resized_batch

        several = resized_batch(images, box, size)
        torch.set_num_threads(1)
        assert torch.equal(resized_batch(images, box, size), several)
    finally:
        torch.set_num_threads(threads)
    for n in range(9):
        alone = augment.apply(images[n : n + 1], draws.part(n, n + 1))
        assert torch.equal(alone, whole[n : n + 1])
    places = torch.tensor([3, 1])
    some = ViewDraws(*(getattr(draws, name)[places] for name in ViewDraws.__dataclass_fields__))
    assert torch.equal(augment.apply(images[places], some), whole[places])


def test_images_may_lie_in_memory_in_any_way() -> None:
    images, augment = noise(6, 3, 20, 20), TwoViewAugment(FULL, COLOUR)
    draws = augment.draw(6, 20, 20, 1, generator())
    expected = augment.apply(images, draws)
    wide = torch.zeros(6, 3, 20, 40, dtype=torch.uint8)
    wide[..., ::2] = images
    last = images.contiguous(memory_format=torch.channels_last)
    for other in (wide[..., ::2], last, images.flip(3).flip(3)):
        assert torch.equal(augment.apply(other, draws), expected)
    columns = torch.stack([draws.boxes] * 2, dim=2)[:, :, 0]
    assert torch.equal(augment.apply(images, replace(draws, boxes=columns)), expected)


def test_boxes_outside_of_the_images_are_refused() -> None:
    images, augment = noise(6, 3, 20, 20), TwoViewAugment(FULL, COLOUR)
    draws = augment.draw(6, 20, 21, 1, generator())
    boxes = torch.tensor([[0, 0, 20, 21]]).repeat(6, 1)
    with pytest.raises(ValueError, match="outside"):
        augment.apply(images, replace(draws, boxes=boxes))


def test_whole_levels_in_floats_take_the_batched_way() -> None:
    images, augment = noise(6, 3, 20, 20), TwoViewAugment(FULL, COLOUR)
    draws = augment.draw(6, 20, 20, 1, generator())
    whole = whole_levels(augment.apply(images.float(), draws), COLOUR)
    assert (whole != whole_levels(augment.apply(images, draws), COLOUR)).double().mean() < 1e-3


def test_a_large_image_is_evaluated_as_pillow_resizes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    images, image = noise(3, 3, 130, 100), replace(COLOUR, size=64)
    found = whole_levels(evaluation_transform(images, image, 0.875), image)
    top, left = (130 - 114) // 2, (100 - 88) // 2
    expected = per_image(
        images,
        lambda picture, _: rows_then_columns(
            picture.crop((left, top, left + 88, top + 114)), image.size
        ),
    )
    assert torch.equal(found, expected.double())
    monkeypatch.setattr(augment_module, "can_compile", lambda: False)
    batched = whole_levels(evaluation_transform(images, image, 0.875), image)
    assert (batched - found).abs().max() <= 1


@pytest.mark.parametrize("channels", [(1, 1), (3, 3), (1, 3), (3, 1)], ids=str)
@pytest.mark.parametrize(
    "shape", [(375, 500), (500, 375), (128, 128), (64, 64), (400, 60), (60, 400), (120, 70)]
)
@pytest.mark.parametrize("size", [9, 64, 170])
def test_the_centre_of_a_large_image_is_pillows_to_the_bit(
    shape: tuple[int, int], channels: tuple[int, Literal[1, 3]], size: int
) -> None:
    """Tall ones too, of which Pillow 13 takes the columns first."""
    given, wanted = channels
    pixels = noise(*shape, given).numpy()
    image = replace(COLOUR if wanted == 3 else GREY, load_size=size)
    picture = to_picture(pixels).convert("L" if wanted == 1 else "RGB")
    expected = to_pixels(centre_square(picture, size)).transpose(2, 0, 1)
    assert np.array_equal(to_model_input(pixels, image, compiled=True), expected)
    assert np.array_equal(to_model_input(pixels, image), expected)


def test_small_and_thin_images_are_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> np.ndarray:
        raise AssertionError

    monkeypatch.setattr(pixels_module, "_compiled_centre", never)
    image = replace(COLOUR, load_size=16)
    for height, width in ((20, 20), (2000, 100), (16, 16)):
        pixels = noise(height, width, 3).numpy()
        assert to_model_input(pixels, image, compiled=True).shape == (3, 16, 16)
    with pytest.raises(AssertionError):
        to_model_input(noise(100, 100, 3).numpy(), image, compiled=True)


def test_everything_is_compiled_once() -> None:
    """For grey images and colour, planes and files, whatever may be written to."""
    from kaizen.views.compiled_colour import finish_views
    from kaizen.views.compiled_resize import resize

    for image in (COLOUR, GREY):
        images, augment = noise(2, image.channels, 40, 40), TwoViewAugment(FULL, image)
        augment(images, 0, generator())
        picture = images[0].permute(1, 2, 0).numpy().repeat(3, axis=0)
        for writeable in (True, False):
            picture.flags.writeable = writeable
            to_model_input(picture, replace(image, load_size=20), compiled=True)
    for kernel in (resize, finish_views):
        assert len(getattr(kernel, "signatures")) == 1  # noqa: B009 - numba's
