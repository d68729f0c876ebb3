"""Views without choosing rows are those of the augmentation that chooses."""

from __future__ import annotations

import pytest
import torch

from kaizen.params import AugmentParams, ImageParams, JitterParams
from kaizen.views import augment as augment_module
from kaizen.views.augment import TwoViewAugment
from kaizen.views.masked import LARGEST, MaskedViews

COLOUR = ImageParams(size=16, channels=3, mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3])
GREY = ImageParams(size=16, channels=1, mean=[0.3], std=[0.4])
ALL = AugmentParams(
    crop_scale=[0.2, 1.0],
    flip=0.5,
    jitter=JitterParams(probability=0.8),
    greyscale=0.3,
    blur=[0.5, 0.0],
    solarize=[0.0, 0.4],
)
NO_HUE = AugmentParams(jitter=JitterParams(probability=0.5, hue=0.0), blur=[0.0, 1.0])


@pytest.fixture(autouse=True)
def batched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views of chosen rows as on a GPU, which are no compiled ones."""
    monkeypatch.setattr(augment_module, "can_compile", lambda: False)


@pytest.mark.parametrize("augment", [ALL, NO_HUE, AugmentParams()])
@pytest.mark.parametrize("image", [COLOUR, GREY])
def test_pixels_are_those_of_the_chosen_rows(augment: AugmentParams, image: ImageParams) -> None:
    generator = torch.Generator().manual_seed(1)
    shape = (33, image.channels, 20, 20)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    chosen = TwoViewAugment(augment, image)
    masked = MaskedViews(chosen)
    views = masked(images, masked.draw(images, 7))
    generator = torch.Generator().manual_seed(7)
    for number, view in enumerate(views):
        expected = chosen(images, number, generator)
        assert view.is_contiguous(memory_format=torch.channels_last) or image.channels == 1
        torch.testing.assert_close(view, expected, rtol=0, atol=1e-6)


def test_large_images_are_left_to_the_other_way() -> None:
    masked = MaskedViews(TwoViewAugment(ALL, COLOUR))
    side = int(LARGEST**0.5)
    assert masked.fits(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    assert not masked.fits(torch.zeros(1, 3, side, side + 1, dtype=torch.uint8))
    large = ImageParams(size=side + 1, channels=3, mean=[0.5] * 3, std=[0.2] * 3)
    wide = MaskedViews(TwoViewAugment(ALL, large))
    assert not wide.fits(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
