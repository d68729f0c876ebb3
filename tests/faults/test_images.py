"""Images that are bombs, torn, empty, of rare kinds, or no images at all: named, or read as they
should be.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from project import Project

from faults.table import Fault, of_kind
from faults.warm import Warm
from kaizen.data.image_files import MAX_PIXELS, decode_file

IMAGE = "images/train/cat/07.png"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes = bytes(64), *extra: bytes, depth: int = 8) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(extra)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def saved(
    format_: str, mode: str = "RGB", size: tuple[int, int] = (8, 8), **options: object
) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, format_, **options)
    return file.getvalue()


def with_size(data: bytes, marker: bytes, offset: int, layout: str, *size: int) -> bytes:
    """``data`` with the size that its header states, ``offset`` bytes after ``marker``,
    exchanged.
    """
    place = data.index(marker) + offset
    new = struct.pack(layout, *size)
    return data[:place] + new + data[place + len(new) :]


def sixteen_bits(step: int) -> bytes:
    """A PNG of 16-bit grey, its 64 pixels ``step`` apart."""
    file = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * step).save(file, "png")
    return file.getvalue()


def tiff_claiming(width: int, height: int) -> bytes:
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, 64),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(68)


BOMB = zlib.compress(bytes(1 << 28))
EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(pwned) (w) file "
    b"closefile\nshowpage\n%%EOF\n"
)
FILES: dict[str, Callable[[], bytes]] = {
    "a PNG that claims 60000 x 60000 pixels": lambda: png(60000, 60000),
    "a PNG that claims 10000 x 9000 pixels": lambda: png(10000, 9000),
    "a JPEG that claims 65500 x 65500 "
    "pixels": lambda: with_size(saved("JPEG"), b"\xff\xc0", 5, ">HH", 65500, 65500),
    "a GIF that claims 65535 x 65535 "
    "pixels": lambda: with_size(saved("GIF"), b"GIF8", 6, "<HH", 65535, 65535),
    "a TIFF that claims 100000 x 100000 pixels": lambda: tiff_claiming(100000, 100000),
    "a BMP that claims 60000 x 60000 "
    "pixels": lambda: with_size(saved("BMP"), b"BM", 18, "<ii", 60000, 60000),
    "a PPM that claims 90000 x 90000 pixels": lambda: b"P6 90000 90000 255\n" + bytes(64),
    "a PNG whose text is a bomb": lambda: png(8, 8, bytes(200), chunk(b"zTXt", b"a\0\0" + BOMB)),
    "a truncated PNG": lambda: saved("PNG")[:-60],
    "a truncated JPEG": lambda: saved("JPEG", size=(64, 64))[:-900],
    "a truncated WebP": lambda: saved("WEBP", size=(64, 64))[:-500],
    "a PNG of 0 x 8 pixels": lambda: png(0, 8),
    "a PPM of 0 x 0 pixels": lambda: b"P6 0 0 255\n",
    "an empty file": lambda: b"",
    "a text": lambda: b"not an image\n",
    "a PostScript program": lambda: EPS,
    "an HTML page": lambda: b"<!DOCTYPE html><html><body>404</body></html>",
    "pixels of 32 bits": lambda: saved("TIFF", "F"),
    "data of 12 bits in 16": lambda: sixteen_bits(65),
}  # fmt: skip


@pytest.mark.parametrize("fault", of_kind("Images"), ids=lambda fault: fault.name)
def test_an_image_that_is_refused(fault: Fault, fresh: Project, warm: Warm, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    # Otherwise an image of another size is refused for that.
    project.set({"image.load_size": 8})
    (project.root / IMAGE).write_bytes(FILES[fault.name]())
    # Else images of several sizes are refused by their headers, before any is read.
    project.set({"image.load_size": 8})
    # What a process may have beyond what it has when it begins; the bombs want more.
    outcome = warm.kaizen(project, "run", inject={"limit_memory": {"megabytes": 300}})
    fault.check(outcome)
    assert project.nodes() == {} and project.leftovers() == []
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (saved("GIF", "P", save_all=True, append_images=[Image.new("P", (8, 8))]), (8, 8, 3)),
        (saved("JPEG", "CMYK"), (8, 8, 3)),
        (sixteen_bits(1000), (8, 8, 1)),
        (saved("PNG", "1"), (8, 8, 1)),
        (saved("PNG", "LA"), (8, 8, 1)),
        (saved("PNG", "RGBA"), (8, 8, 3)),
        (saved("WEBP", save_all=True, append_images=[Image.new("RGB", (8, 8))]), (8, 8, 3)),
        (saved("TIFF", "RGB", save_all=True, append_images=[Image.new("RGB", (9, 9))]), (8, 8, 3)),
        (saved("PPM"), (8, 8, 3)),
        (saved("BMP"), (8, 8, 3)),
    ],
    ids=[
        "animated GIF",
        "CMYK",
        "16 bits",
        "1 bit",
        "grey and alpha",
        "alpha",
        "animated WebP",
        "pages",
        "PPM",
        "BMP",
    ],
)
def test_rarer_images_are_read(data: bytes, shape: tuple[int, ...]) -> None:
    pixels = decode_file(data)
    assert pixels.shape == shape and pixels.dtype == np.uint8
    assert pixels.std() > 0, "the first frame or page, which is noise"


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(file, "png")
    assert decode_file(file.getvalue())[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_largest_image_that_is_read_is_bounded() -> None:
    assert MAX_PIXELS == 89_478_485
    with pytest.raises(ValueError, match="are more than 89478485"):
        decode_file(png(MAX_PIXELS + 1, 1))
