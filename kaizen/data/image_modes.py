"""Pillow's modes of images to 8 bits of grey or RGB: depths, alpha, and what files say of them."""

from __future__ import annotations

import numpy as np
from PIL import Image

# 12 bits in 16 would leave 16 of 256 levels or fewer: too dark to be meant, unless it is declared.
_FEWEST_VALUES = 4096
GREY_MODES = ("1", "L", "LA", "La")
# TIFF's tags.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE_VALUE, _EXTRA_SAMPLES = 258, 262, 281, 338


def eight_bit(image: Image.Image, data: bytes, bit_depth: int | None) -> Image.Image:
    """Convert any of Pillow's modes to L (from grey) or RGB; ``data`` are the file's bytes.

    Grey of 16 bits is scaled to 8 by the depth that the file declares (`_declared_depth`), else by
    ``bit_depth``, else by 16. Raises ValueError with the reason where pixels have no defined range,
    or where 16 bits hold next to nothing and nothing says that they are fewer.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return _scaled(image, data, bit_depth)
    if image.mode in ("I", "F"):
        kind = "signed pixels" if _bits(image, data) == 16 else "pixels of 32 bits"
        raise ValueError(
            f"{kind} (mode {image.mode}) have no defined range; convert it to 8 or 16 bits"
        )
    if _bits(image, data) == 16:
        _refuse_few_levels(image)
    grey = image.mode in GREY_MODES
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
