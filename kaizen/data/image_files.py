"""Image files: from a file's bytes to pixels, uint8, equal on every machine; and back."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

# Pillow's own limit, at which it only warns: a small file may claim to be terabytes of pixels.
MAX_PIXELS = 89_478_485
# Those of the suffixes that sources look for. Whatever its name, no file may start a rarer decoder:
# EPS runs a program. MPO comes by way of JPEG.
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM") + (
    ("AVIF",) if features.check("avif") else ()
)
# 12 bits in 16 would leave 16 of 256 levels or fewer: too dark to be meant, unless it is declared.
_FEWEST_VALUES = 4096
# The side that samples are brought to, and the pixels beyond which none is taken.
_SAMPLE, _SAMPLE_LIMIT = 32, 16_000_000
# Longer than so many times their width, pictures are cropped before they are resized.
_THIN = 8
_GREY_MODES = ("1", "L", "LA", "La")
# TIFF's tags.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE_VALUE, _EXTRA_SAMPLES = 258, 262, 281, 338


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
            grey = image.mode in _GREY_MODES or image.mode.startswith(("I", "F"))
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
            picture = _eight_bit(image, path.read_bytes(), None).convert("RGB")
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
    profiles ignored. Grey of 16 bits is scaled to 8 by the depth that the file declares
    (`_declared_depth`), else by ``bit_depth``, else by 16. Raises ValueError with the reason where
    the file is corrupt, truncated, too large, not an 8- or 16-bit image, or where its 16 bits hold
    values below 4096 only and nothing says that they are fewer bits.
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
            pixels = to_pixels(_eight_bit(image, data, bit_depth))
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"it is none of {', '.join(_FORMATS)}") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    if pixels.size == 0:
        raise ValueError("it has no pixels")
    return pixels


def _eight_bit(image: Image.Image, data: bytes, bit_depth: int | None) -> Image.Image:
    """Convert any of Pillow's modes to L (from grey) or RGB; ``data`` are the file's bytes."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return _scaled(image, data, bit_depth)
    if image.mode in ("I", "F"):
        kind = "signed pixels" if _bits(image, data) == 16 else "pixels of 32 bits"
        raise ValueError(
            f"{kind} (mode {image.mode}) have no defined range; convert it to 8 or 16 bits"
        )
    if _bits(image, data) == 16:
        _refuse_few_levels(image)
    grey = image.mode in _GREY_MODES
    if image.format == "PNG":
        # Pillow has no mode for grey with alpha in 16 bits, and makes RGBA of it.
        grey = grey or data[25] == 4
        if isinstance(image.info.get("transparency"), int | tuple):
            image.info["transparency"] = _transparent(image, data[24])
    if _alpha_is_padding(image):
        image = image.convert("RGB")
    if image.has_transparency_data:
        solid = Image.new("RGBA", image.size, "white")
        solid.alpha_composite(image.convert("RGBA"))
        image = solid
    return image.convert("L" if grey else "RGB")


def _scaled(image: Image.Image, data: bytes, bit_depth: int | None) -> Image.Image:
    """Grey of up to 16 bits as mode L; Pillow's own conversion clips at 255 instead of scaling."""
    wide = np.asarray(image).astype(np.uint32)
    largest = int(wide.max(initial=0))
    bits = _declared_depth(image, data, wide) or bit_depth
    if bits is None and 0 < largest < _FEWEST_VALUES:
        raise ValueError(
            f"its 16-bit pixels are at most {largest} of 65535, nearly black: if the data have "
            "fewer bits, say so by dataset.bit_depth, else convert it to 8 bits"
        )
    full = 2 ** (bits or 16) - 1
    if largest > full:
        raise ValueError(
            f"a pixel is {largest}, more than {bits} bits hold; fix the depth that the file "
            "declares, or dataset.bit_depth"
        )
    if image.format == "TIFF" and _tag(image, _PHOTOMETRIC) == 0:
        wide = full - wide  # white is 0, which Pillow heeds in 8 bits alone
    pixels = ((wide * 255 + full // 2) // full).astype(np.uint8)
    clear = image.info.get("transparency")
    if image.format == "PNG" and isinstance(clear, int):
        pixels[wide == clear] = 255
    return Image.fromarray(pixels)


def _declared_depth(image: Image.Image, data: bytes, wide: np.ndarray) -> int | None:
    """The bits that the file says its grey pixels have, of the 16 that it stores; None: nothing.

    TIFF: BitsPerSample, or a MaxSampleValue of 2^n - 1 (others are a statistic of the image). PGM:
    its maxval, which Pillow has applied. PNG: sBIT; a file that follows the standard has scaled its
    values to 16 bits, so that of n bits their lower ones are 0 or repeat the upper ones. Values
    below 2^n that do neither were stored as they are.
    """
    if image.format == "PPM":
        return 16
    if image.format == "TIFF":
        bits = _tag(image, _BITS_PER_SAMPLE)
        largest = _tag(image, _MAX_SAMPLE_VALUE)
        depths = {2**n - 1: n for n in range(1, 17)}
        return bits if bits is not None and bits < 16 else depths.get(largest or 0)
    bits = _significant_bits(data) if image.format == "PNG" else None
    if bits is None or not 0 < bits <= 16:
        return None
    lower = wide & (2 ** (16 - bits) - 1)
    stored = bits < 16 and bool((wide < 2**bits).all()) and bool(lower.any())
    return bits if stored else 16


def _significant_bits(data: bytes) -> int | None:
    """The first value of a PNG's sBIT chunk, which comes before its pixels; None where it has
    none.
    """
    place = 8
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        if kind == b"sBIT" and length:
            return data[place + 8]
        if kind == b"IDAT":
            break
        place += length + 12
    return None


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits of a sample in the file: 16 where Pillow keeps the upper 8 of them alone."""
    if image.format == "PNG":
        return data[24]
    return (_tag(image, _BITS_PER_SAMPLE) or 8) if image.format == "TIFF" else 8


def _refuse_few_levels(image: Image.Image) -> None:
    """Raise ValueError where the upper 8 of 16 bits have next to nothing in them."""
    colours = np.asarray(image)[..., :3]
    if image.mode != "CMYK" and 0 < int(colours.max(initial=0)) < _FEWEST_VALUES // 256:
        raise ValueError(
            f"its 16-bit pixels are all below {_FEWEST_VALUES} of 65535, nearly black, as data of "
            "12 bits are; convert it to 8 bits"
        )


def _transparent(image: Image.Image, bits: int) -> int | tuple[int, ...]:
    """The colour that a PNG declares transparent, scaled as Pillow scaled the pixels."""
    clear = image.info["transparency"]
    if image.mode == "RGB":
        return tuple(value >> 8 for value in clear) if bits == 16 else clear
    scaled: int = clear * 255 // (2**bits - 1) if image.mode == "L" and bits < 8 else clear
    return scaled


def _alpha_is_padding(image: Image.Image) -> bool:
    """Whether alpha is 0 everywhere in a file that need not mean it: a BMP's fourth byte, or a
    sample more of which a TIFF does not say what it is.
    """
    doubtful = image.format in ("BMP", "DIB") or (
        image.format == "TIFF" and _tag(image, _EXTRA_SAMPLES) is None
    )
    return image.mode == "RGBA" and doubtful and image.getchannel("A").getextrema() == (0, 0)


def _tag(image: Image.Image, number: int) -> int | None:
    """The first value of a TIFF's tag; None where it has none."""
    value = image.tag_v2.get(number)  # type: ignore[attr-defined]
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else None


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

    A picture more than `_THIN` times as long as wide is cropped first: enlarged as a whole it could
    take gigabytes. Its pixels are those of the whole to 2 levels, where none is cut off at 0 or
    255.
    """
    sizes = picture.size
    if max(sizes) <= _THIN * min(sizes):
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
