"""Images of any kind to the pixels that shards would hold: uint8 [H, W, 1 or 3], as ingestion makes
them of files. torch is not imported: where it is not, no image is a tensor.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, Union

import numpy as np
from PIL import Image, ImageOps

from kaizen.data.image_files import MAX_PIXELS, decode_file, shrink, to_pixels
from kaizen.data.image_modes import eight_bit
from kaizen.errors import KaizenError
from kaizen.models.config import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

OneImage = Union[str, Path, bytes, Image.Image, np.ndarray, "Tensor"]
Images = OneImage | Iterable[OneImage]

_ARRAY_MODES = {2: "LA", 4: "RGBA"}
_SHAPES = (
    "an array is [H, W], [H, W, C], [N, H, W] or [N, H, W, C], a tensor [H, W], [C, H, W] or "
    "[N, C, H, W], with C from 1 to 4"
)


def is_tensor(value: object) -> TypeGuard[Tensor]:
    """Whether a value is torch's tensor; where nobody has imported torch, none is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def each_image(images: Images) -> Iterator[OneImage]:
    """The images one by one: of an array [N, …] or tensor [N, C, H, W] its rows."""
    if isinstance(images, str | Path | bytes | Image.Image | np.ndarray) or is_tensor(images):
        many = (isinstance(images, np.ndarray) or is_tensor(images)) and images.ndim == 4
        # [N, H, W]: rows of grey images, of which W is no number of channels.
        grey = isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] > 4
        if many or grey:
            yield from images  # type: ignore[misc]  # neither a path nor a PIL image
        else:
            yield images
    elif isinstance(images, Iterable):
        yield from images
    else:
        raise KaizenError(_not_an_image(images, "an image"))


def numbered_batches(images: Images, size: int) -> Iterator[list[tuple[int, OneImage]]]:
    """The images with their numbers, ``size`` (at least one) at a time, the last ones fewer."""
    numbered = enumerate(each_image(images))
    # itertools.batched is Python 3.12's.
    while batch := list(itertools.islice(numbered, max(1, size))):
        yield batch


def pixels_of(image: OneImage, preprocessing: Preprocessing, name: str = "an image") -> np.ndarray:
    """The pixels of an image: uint8 [H, W, 1 or 3].

    A path or a file's bytes are decoded as ingestion does it; a PIL image may have any mode; arrays
    have their channels last and tensors first, of 0 to 255 (uint8), 0 to 65535 (uint16, grey), True
    and False, or 0 to 1 (floats). Raises KaizenError naming the file, or ``name``, where it is no
    image.
    """
    if isinstance(image, str | Path):
        name = str(image)
    try:
        pixels = _pixels(image, preprocessing.bit_depth)
    except OSError as error:
        raise KaizenError(
            f"{name}: {error.strerror or error}; name a file with an image that you can read"
        ) from error
    except ValueError as error:
        raise KaizenError(f"{name} cannot be read as an image: {error}") from error
    except TypeError as error:
        raise KaizenError(_not_an_image(image, name)) from error
    return pixels if preprocessing.resize is None else shrink(pixels, preprocessing.resize)


def _pixels(image: OneImage, bit_depth: int | None) -> np.ndarray:
    """As `pixels_of`; raises ValueError with the reason, OSError, and TypeError for what is none of
    these types.
    """
    if isinstance(image, str | Path):
        path = Path(image)
        if not path.is_file():
            # A pipe would be waited for.
            raise OSError(None, "it is not a file" if path.exists() else "it does not exist")
        return decode_file(path.read_bytes(), bit_depth)
    if isinstance(image, bytes):
        return decode_file(image, bit_depth)
    if isinstance(image, Image.Image):
        return _of_picture(image, bit_depth)
    if is_tensor(image):
        return _of_tensor(image, bit_depth)
    if isinstance(image, np.ndarray):
        return _of_array(image, bit_depth)
    raise TypeError


def _of_picture(picture: Image.Image, bit_depth: int | None) -> np.ndarray:
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(f"{picture.width} x {picture.height} pixels are more than {MAX_PIXELS}")
    if not picture.width * picture.height:
        raise ValueError("it has no pixels")
    try:
        turned = ImageOps.exif_transpose(picture)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    # A copy is of no format: what a file says of its samples holds for a file's bytes only.
    return to_pixels(eight_bit(turned.copy(), b"", bit_depth))


def _of_tensor(tensor: Tensor, bit_depth: int | None) -> np.ndarray:
    array = tensor.detach().cpu()
    if array.ndim == 3:
        array = array.permute(1, 2, 0)
    if str(array.dtype) == "torch.bfloat16":
        array = array.float()
    return _of_array(array.numpy(), bit_depth)


def _of_array(array: np.ndarray, bit_depth: int | None) -> np.ndarray:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4:
        raise ValueError(f"its shape is {list(array.shape)}; {_SHAPES}")
    if not array.size:
        raise ValueError("it has no pixels")
    if array.dtype == np.uint16 and array.shape[2] == 1:
        wide = Image.fromarray(np.ascontiguousarray(array[:, :, 0]))
        return to_pixels(eight_bit(wide, b"", bit_depth))
    array = _to_uint8(array)
    if mode := _ARRAY_MODES.get(array.shape[2]):
        picture = Image.fromarray(np.ascontiguousarray(array))
        if picture.mode != mode:
            raise ValueError(f"Pillow takes it for {picture.mode}, not {mode}")
        return to_pixels(eight_bit(picture, b"", bit_depth))
    return np.ascontiguousarray(array)


def _to_uint8(array: np.ndarray) -> np.ndarray:
    """Levels of 0 to 255 from those, from True and False, or from floats of 0 to 1."""
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise ValueError(
                "floats must lie between 0 and 1; divide them, or give uint8 of 0 to 255"
            )
        return np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(
            f"pixels of type {array.dtype} and {array.shape[2]} channels have no defined range; "
            "give uint8 of 0 to 255, or floats of 0 to 1"
        )
    return array


def _not_an_image(image: object, name: str) -> str:
    kind: Any = type(image)
    return (
        f"{name} is a {kind.__module__}.{kind.__qualname__}; give a path, a file's bytes, a PIL "
        "image, a numpy array, a tensor, or several of these"
    )
