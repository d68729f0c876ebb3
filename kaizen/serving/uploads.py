"""What a request carries, read within its limits: images as files of a form, or in base64 in JSON;
how many classes are asked for. Nothing is fetched from elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import io
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from PIL import Image
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from kaizen.data.sources.walk import SUFFIXES
from kaizen.errors import KaizenError
from kaizen.files import parse_json, printable, shortened
from kaizen.serving.limits import Limits

TOP = 5
# Whatever a file claims to be, no rarer decoder is started.
_SUFFIXES = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tiff",
    "WEBP": ".webp",
    "PPM": ".ppm",
    "AVIF": ".avif",
}
_FORMATS = [name for name, suffix in _SUFFIXES.items() if suffix in SUFFIXES and name != "MPO"]
_FEW_FIELDS, _SHORT_FIELD = 8, 4096


class Refused(Exception):
    """A request that is not answered: the status of HTTP, and one sentence."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Upload:
    """An image as it came: a name for messages, and a file's bytes."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Asked:
    """A request's images, and its other fields."""

    images: list[Upload]
    fields: dict[str, Any] = field(default_factory=dict)

    def top(self) -> int:
        """How many classes are asked for; raises Refused."""
        value = self.fields.get("top", TOP)
        try:
            number = int(value) if isinstance(value, str | int) else 0
        except ValueError:
            number = 0
        if number < 1 or isinstance(value, bool):
            raise Refused(400, f"top: {_shown(value)} is no number of classes, from 1 on")
        return number

    def text(self, name: str) -> str | None:
        """A field that is a text; None where it is absent, null or empty. Raises Refused."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, str):
            raise Refused(400, f"{name}: {_shown(value)} is no text")
        return value or None


async def read_images(request: Request, limits: Limits, least: int = 1) -> Asked:
    """The images of a form or of JSON, from ``least`` on to the limits' most; raises Refused."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        asked = await _of_form(request, limits)
    elif kind == "application/json":
        asked = _of_json(await request.body())
    else:
        raise Refused(
            415, "send images as files of a form (multipart/form-data), or base64 in JSON"
        )
    for name, value in request.query_params.items():
        asked.fields.setdefault(name, value)
    if len(asked.images) < least:
        raise Refused(400, "there is no image in the request; add a file, or `images` in JSON")
    if len(asked.images) > limits.max_images:
        raise Refused(
            413, f"{len(asked.images)} images are more than {limits.max_images}; send fewer at once"
        )
    return asked


async def _of_form(request: Request, limits: Limits) -> Asked:
    images, fields = [], {}
    try:
        async with request.form(
            max_files=limits.max_images, max_fields=_FEW_FIELDS, max_part_size=_SHORT_FIELD
        ) as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    images.append(Upload(_file_name(value.filename), await value.read()))
                else:
                    fields[name] = value
    except HTTPException as error:
        status = 413 if str(error.detail).startswith("Too many") else 400
        raise Refused(status, f"the form cannot be read: {error.detail}") from error
    except UnicodeError as error:
        # Of the names of fields, by a codec that the client chose.
        raise Refused(400, f"the form cannot be read: {shortened(str(error))}") from error
    return Asked(images, fields)


def _of_json(body: bytes) -> Asked:
    try:
        value = parse_json(body.decode())
    except ValueError as error:
        raise Refused(400, f"the JSON cannot be read: {shortened(str(error))}") from error
    if not isinstance(value, dict):
        raise Refused(400, 'the JSON must be a mapping such as {"images": ["<base64>"]}')
    listed = value.pop("images", None)
    one = value.pop("image", None)
    if listed is not None and not isinstance(listed, list):
        raise Refused(400, "images: must be a list of texts in base64")
    texts = [*(listed or []), *([] if one is None else [one])]
    return Asked([Upload(f"image {n}", _decoded(text, n)) for n, text in enumerate(texts)], value)


def _decoded(text: Any, number: int) -> bytes:
    if not isinstance(text, str):
        raise Refused(400, f"image {number} is {_shown(text)}; give a text in base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        hint = "; give base64 alone, no URL" if ":" in text[:40] else ""
        raise Refused(400, f"image {number} is no base64{hint}") from error


def _file_name(name: str | None) -> str:
    return shortened(printable((name or "an image").replace("\\", "/").rpartition("/")[2]), 80)


def _shown(value: Any) -> str:
    return shortened(printable(repr(value)), 60)


def suffix_of(upload: Upload, most_pixels: int) -> str:
    """The suffix that a file of its kind has, read from its first bytes; raises KaizenError where
    it is no image, or of too many pixels.
    """
    try:
        with Image.open(io.BytesIO(upload.data), formats=_FORMATS) as image:
            width, height = image.size
            suffix = _SUFFIXES[image.format or ""]
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise KaizenError(
            f"{upload.name} cannot be read as an image: it is none of {', '.join(_FORMATS)}"
        ) from error
    if width * height > most_pixels:
        raise KaizenError(
            f"{upload.name} has {width} x {height} pixels, more than {most_pixels}; make it smaller"
        )
    return suffix


class Recent:
    """The images that were answered last, by the identifiers in their answers: what feedback may
    name. At most ``most`` of them, of ``most_bytes`` together.
    """

    def __init__(self, most: int = 500, most_bytes: int = 100_000_000) -> None:
        """Hold none yet."""
        self._most, self._most_bytes = most, most_bytes
        self._held: OrderedDict[str, tuple[Upload, str]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def keep(self, upload: Upload, suffix: str) -> str:
        """Hold an image; returns its identifier, which nobody can guess."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._held[name] = (upload, suffix)
            self._bytes += len(upload.data)
            while self._held and (len(self._held) > self._most or self._bytes > self._most_bytes):
                self._bytes -= len(self._held.popitem(last=False)[1][0].data)
        return name

    def find(self, name: str) -> tuple[Upload, str]:
        """The image of an identifier and its suffix; raises Refused where it is not held any
        more.
        """
        with self._lock:
            if name not in self._held:
                raise Refused(404, "the answer of this id is not held any more; send the image")
            return self._held[name]
