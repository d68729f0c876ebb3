"""From an image's pixels to those that a network sees: uint8 arrays, equal on every machine."""

from __future__ import annotations

import numpy as np

from kaizen.data.image_files import centre_square, to_picture, to_pixels
from kaizen.params import ImageParams
from kaizen.views.large import resize_centre, resizes_singly


def to_model_input(array: np.ndarray, image: ImageParams) -> np.ndarray:
    """Convert pixels uint8 [H, W, 1 or 3] to ``image.channels``, resize and crop: uint8 [C, H',
    W'], which may lie in memory as [H', W', C].

    Colour becomes grey by ITU-R 601-2 luma. With ``load_size`` S the shorter side is resized to S
    (bicubic) and the centre S x S cut out, rounded as torchvision's Resize and CenterCrop; else H'
    x W' = H x W. Memory is bounded however thin the image (`centre_square`). Large images are
    resized by torch, up to 2 levels from Pillow (`resizes_singly`).
    """
    size = image.load_size
    height, width = array.shape[:2]
    if size is not None and (height, width) != (size, size):
        if resizes_singly(height, width, size):
            return resize_centre(convert_channels(array, image.channels), size)
        # Channels first: grey images resize in a third of the time.
        picture = to_picture(array).convert("L" if image.channels == 1 else "RGB")
        array = to_pixels(centre_square(picture, size))
    return convert_channels(array, image.channels).transpose(2, 0, 1)


def convert_channels(array: np.ndarray, channels: int) -> np.ndarray:
    """Convert uint8 [..., 1 or 3] to ``channels`` in the last axis, as Pillow's modes L and RGB
    do.
    """
    if array.shape[-1] == channels:
        return array
    if channels == 3:
        return np.broadcast_to(array, (*array.shape[:-1], 3))
    # Pillow's fixed-point luma, so that raw and file encodings give the same pixels.
    red, green, blue = (array[..., channel].astype(np.uint32) for channel in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)[..., None]
