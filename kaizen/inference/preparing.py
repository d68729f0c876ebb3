"""From pixels to what a network sees, as evaluation shows it, without torch: NumPy and Pillow.

The same levels as `kaizen.views.pixels.to_model_input` and `evaluation_transform` give, with one
exception: where a sum ends within float32's rounding of a half, those of small images may be one
level off there; here sums are exact.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from kaizen.data.image_files import to_picture, to_pixels
from kaizen.params import ImageParams
from kaizen.views.pixels import to_model_input


def shown_levels(array: np.ndarray, image: ImageParams, test_crop: float) -> np.ndarray:
    """The levels that the network sees of pixels uint8 [H, W, 1 or 3] before they are normalised:
    uint8 [C, size, size].
    """
    pixels = to_model_input(array, image).transpose(1, 2, 0)
    height, width = pixels.shape[:2]
    shown = [max(1, round(side * test_crop)) for side in (height, width)]
    top, left = ((side - inside) // 2 for side, inside in zip((height, width), shown, strict=True))
    part = pixels[top : top + shown[0], left : left + shown[1]]
    if shown != [image.size, image.size]:
        # Rows first, whatever Pillow would take first.
        picture = to_picture(part)
        for sides in ((image.size, shown[0]), (image.size, image.size)):
            picture = picture.resize(sides, Image.Resampling.BICUBIC)
        part = to_pixels(picture)
    return np.ascontiguousarray(part.transpose(2, 0, 1))
