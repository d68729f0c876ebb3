"""Image files: from a file's bytes to pixels, uint8, equal on every machine; and back."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

from kaizen.data.image_modes import GREY_MODES, eight_bit

# Pillow's own limit, at which it only warns: a small file may claim to be terabytes of pixels.
MAX_PIXELS = 89_478_485
# Those of the suffixes that sources look for. Whatever its name, no file may start a rarer decoder:
# EPS runs a program. MPO comes by way of JPEG.
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM") + (
    ("AVIF",) if features.check("avif") else ()
)
# The side that samples are brought to, and the pixels beyond which none is taken.
_SAMPLE, _SAMPLE_LIMIT = 32, 16_000_000
# Longer than so many times their width, pictures are cropped before they are resized.
THIN = 8


class Header(NamedTuple):
    """What a file's first bytes say: the upright image's size, and 1 (greyscale) or 3 channels."""

    height: int
    width: int
    channels: int


def read_header(path: Path) -> Header | None:
    """The header of an image file, without decoding its pixels; None where it cannot be read."""
    try:
        with _opened(path) as image:
            width, height = image.size
            # A TIFF's size is turned already; of a PNG without EXIF Pillow would decode all.
            turned = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
            if turned and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5:
                width, height = height, width
            grey = image.mode in GREY_MODES or image.mode.startswith(("I", "F"))
            return Header(height, width, 1 if grey else 3)
    except MemoryError:
        raise
    except Exception:  # Pillow's decoders raise nearly anything on damaged files
        return None


def _opened(path: Path) -> Image.Image:
    """An image file's header read; its size is judged by who decodes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=_FORMATS)


def sample_pixels(path: Path) -> np.ndarray | None:
    """About a thousand of an image's pixels as RGB, uint8 [N, 3]; None where it cannot be read, or
    only at length.
    """
    try:
        with _opened(path) as image:
            image.draft("RGB", (_SAMPLE, _SAMPLE))  # a JPEG decodes to an eighth of its size
            if image.width * image.height > _SAMPLE_LIMIT:
                return None
            picture = eight_bit(image, path.read_bytes(), None).convert("RGB")
            picture.thumbnail((_SAMPLE, _SAMPLE), Image.Resampling.NEAREST)
            return np.asarray(picture).reshape(-1, 3)
    except MemoryError:
        raise
    except Exception:  # Pillow's decoders raise nearly anything on damaged files
        return None


def has_colour(pixels: np.ndarray) -> bool:
    """Whether pixels uint8 [N, 3] are more than grey in three channels, with JPEG's noise."""
    spread = pixels.max(axis=1).astype(int) - pixels.min(axis=1)
    return bool((spread > 24).mean() > 0.002)


def decode_file(data: bytes, bit_depth: int | None = None) -> np.ndarray:
    """Decode an image file to uint8 [H, W, 1] (greyscale files) or [H, W, 3] (all others).

    The first frame or page. The EXIF orientation is applied, transparency laid over white, colour
    profiles ignored; grey of 16 bits is scaled as `eight_bit` says. Raises ValueError with the
    reason where the file is corrupt, truncated, too large, not an 8- or 16-bit image, or where its
    16 bits hold values below 4096 only and nothing says that they are fewer bits.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"{image.width} x {image.height} pixels are more than {MAX_PIXELS}"
                )
            image.load()
            try:
                ImageOps.exif_transpose(image, in_place=True)
            except MemoryError:
                raise
            except Exception:  # noqa: S110 - damaged EXIF data say nothing about the pixels
                pass
            pixels = to_pixels(eight_bit(image, data, bit_depth))
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"it is none of {', '.join(_FORMATS)}") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    if pixels.size == 0:
        raise ValueError("it has no pixels")
    return pixels


def shrink(array: np.ndarray, side: int) -> np.ndarray:
    """Resize uint8 [H, W, 1 or 3] so that its shorter side has ``side`` pixels, bicubic and
    antialiased.

    The other side is rounded down, as torchvision's Resize does; an image that is small enough is
    returned as it is.
    """
    return array if min(array.shape[:2]) <= side else to_pixels(resized(to_picture(array), side))


def encode_png(array: np.ndarray) -> bytes:
    """A PNG file of pixels uint8 [H, W, 1 or 3]."""
    file = io.BytesIO()
    to_picture(array).save(file, "png")
    return file.getvalue()


def to_picture(array: np.ndarray) -> Image.Image:
    """Pillow's image of pixels uint8 [H, W, 1 or 3]."""
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def to_pixels(picture: Image.Image) -> np.ndarray:
    """The pixels of Pillow's image in mode L or RGB: uint8 [H, W, 1 or 3]."""
    pixels = np.asarray(picture)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def resized(picture: Image.Image, side: int) -> Image.Image:
    """Bring the shorter side to ``side`` pixels; Pillow's bicubic filter widens with the reduction:
    no aliasing.
    """
    width, height = (int(side * length / min(picture.size)) for length in picture.size)
    return (
        picture
        if picture.size == (width, height)
        else picture.resize((width, height), Image.Resampling.BICUBIC)
    )


def centre_square(picture: Image.Image, side: int) -> Image.Image:
    """The centre ``side`` x ``side`` of what `resized` returns, rounded as torchvision does it.

    A picture more than `THIN` times as long as wide is cropped first: enlarged as a whole it could
    take gigabytes. Its pixels are those of the whole to 2 levels, where none is cut off at 0 or
    255.
    """
    sizes = picture.size
    if max(sizes) <= THIN * min(sizes):
        whole = resized(picture, side)
        left, top = (round((length - side) / 2) for length in whole.size)
        return whole.crop((left, top, left + side, top + side))
    (left, right, x0, x1), (top, bottom, y0, y1) = (
        _centre(length, int(side * length / min(sizes)), side) for length in sizes
    )
    part = picture.crop((left, top, right, bottom))
    return part.resize((side, side), Image.Resampling.BICUBIC, (x0, y0, x1, y1))


def _centre(length: int, resized_length: int, side: int) -> tuple[int, int, float, float]:
    """Along one axis: where to cut the pixels that the centre of the resized picture depends on,
    and where its centre lies in what was cut out.
    """
    scale = length / resized_length
    first = round((resized_length - side) / 2)
    begin, end = first * scale, (first + side) * scale
    reach = 2 * max(1.0, scale) + 1  # of the bicubic filter
    low = max(0, math.floor(begin - reach))
    high = min(length, math.ceil(end + reach))
    return low, high, begin - low, min(end, length) - low
