"""Image files: from a file's bytes to pixels, uint8, equal on every machine; and back."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Pillow's own limit, at which it only warns: a small file may claim to be terabytes of pixels.
MAX_PIXELS = 89_478_485
# Those of the suffixes that sources look for. Whatever its name, no file may start a rarer decoder:
# EPS runs a program.
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


def decode_file(data: bytes) -> np.ndarray:
    """Decode an image file to uint8 [H, W, 1] (greyscale files) or [H, W, 3] (all others).

    The EXIF orientation is applied, 16-bit grey scaled to 8 bits, transparency laid over white.
    Raises ValueError with the reason where the file is corrupt, truncated, too large or not an 8-
    or 16-bit image.
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
            pixels = to_pixels(_eight_bit(image))
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"it is none of {', '.join(_FORMATS)}") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    if pixels.size == 0:
        raise ValueError("it has no pixels")
    return pixels


def _eight_bit(image: Image.Image) -> Image.Image:
    """Convert any of Pillow's modes to L (from grey) or RGB."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # Pillow's own conversion clips at 255 instead of scaling.
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(
            f"pixels of 32 bits (mode {image.mode}) have no defined range; convert it to 8 or 16 "
            "bits"
        )
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        solid = Image.new("RGBA", image.size, "white")
        solid.alpha_composite(image.convert("RGBA"))
        image = solid
    return image.convert("L" if grey else "RGB")


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
