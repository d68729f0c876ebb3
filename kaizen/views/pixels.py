"""From an image's pixels to those that a network sees: uint8 arrays, equal on every machine."""

from __future__ import annotations

import numpy as np
import PIL

from kaizen.data.image_files import THIN, centre_square, to_picture, to_pixels
from kaizen.params import ImageParams

# Pillow takes columns first, from version 13 on, where it shrinks mostly the height
# (python-pillow/Pillow#9549).
_COLUMNS_FIRST = int(PIL.__version__.split(".")[0]) >= 13
# Smaller images take Pillow no longer than the turns to compiled code and back.
_LARGE = 64 * 64


def to_model_input(array: np.ndarray, image: ImageParams, *, compiled: bool = False) -> np.ndarray:
    """Convert pixels uint8 [H, W, 1 or 3] to ``image.channels``, resize and crop: uint8 [C, H',
    W'], which may lie in memory as [H', W', C].

    Colour becomes grey by ITU-R 601-2 luma. With ``load_size`` S the shorter side is resized to S
    (bicubic) and the centre S x S cut out, rounded as torchvision's Resize and CenterCrop; else H'
    x W' = H x W. Memory is bounded however thin the image (`centre_square`). ``compiled``: large
    images are resized by numba's code instead of Pillow, to the same bits, in a fifth of the time.
    """
    size = image.load_size
    height, width = array.shape[:2]
    if size is not None and (height, width) != (size, size):
        thin = max(height, width) > THIN * min(height, width)
        if compiled and height * width >= _LARGE and not thin:
            return _compiled_centre(array, image.channels, size)
        # Channels first: grey images resize in a third of the time.
        picture = to_picture(array).convert("L" if image.channels == 1 else "RGB")
        array = to_pixels(centre_square(picture, size))
    return convert_channels(array, image.channels).transpose(2, 0, 1)


def _compiled_centre(array: np.ndarray, channels: int, size: int) -> np.ndarray:
    """What `centre_square` cuts out of pixels uint8 [H, W, 1 or 3] brought to ``channels``: uint8
    [C, size, size].
    """
    from kaizen.views.compiled_resize import resize

    # Grey images are resized as such, whatever becomes of them.
    array = convert_channels(array, min(channels, array.shape[2]))
    height, width = sides = array.shape[:2]
    tall, wide = (int(size * side / min(sides)) for side in sides)
    top, left = (round((side - size) / 2) for side in (tall, wide))
    turned = _COLUMNS_FIRST and height - tall > max(0, 2 * (width - wide))
    if turned:
        array = array.transpose(1, 0, 2)
        height, width, tall, wide, top, left = width, height, wide, tall, left, top
    out = np.empty((1, array.shape[2], size, size), np.uint8)
    whole, still = np.array([[0, 0, height, width]]), np.zeros(1, np.bool_)
    batch = read_only(np.ascontiguousarray(array)[None])
    resize(batch, True, whole, still, tall, wide, top, left, out)
    pixels = out[0].transpose(0, 2, 1) if turned else out[0]
    return np.broadcast_to(pixels, (channels, size, size))


def read_only(array: np.ndarray) -> np.ndarray:
    """A view of an array that must not be written to, as the arrays of files are: numba would
    compile what takes both kinds twice.
    """
    view = array.view()
    view.flags.writeable = False
    return view


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
