"""Files of rare kinds decode to the right pixels: depth, polarity, transparency, orientation,
colour spaces, and thin images in bounded memory.
"""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image, features

from kaizen.data.image_files import (
    Header,
    centre_square,
    decode_file,
    read_header,
    to_picture,
    to_pixels,
)
from kaizen.data.reading import ReadImages
from kaizen.data.schema import ShardRow
from kaizen.data.sources.base import Row
from kaizen.data.sources.synthetic import Synthetic
from kaizen.data.stored import decode_row
from kaizen.params import DatasetParams, ImageParams
from kaizen.views.pixels import to_model_input

GREY = np.array([[0, 51, 102], [153, 204, 255]], dtype=np.uint8)
COLOUR = np.stack([GREY, 255 - GREY, np.roll(GREY, 1)], axis=2)
TWELVE = np.array([[0, 819, 1638], [2457, 3276, 4095]], dtype=np.uint16)
SIXTEEN = TWELVE.astype(np.uint32) * 65535 // 4095


def saved(picture: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(array: np.ndarray, depth: int, colour: int, *extra: bytes) -> bytes:
    """A PNG of samples [H, W, C]; ``colour`` is the header's colour type: 0 grey, 2 RGB, 4 grey and
    alpha, 6 RGBA.
    """
    height, width = array.shape[:2]
    if depth < 8:
        bits = np.unpackbits(array.astype(np.uint8).reshape(height, width, 1), axis=2)
        lines = [np.packbits(line[:, -depth:].ravel()).tobytes() for line in bits]
    else:
        lines = [line.astype(f">u{depth // 8}").tobytes() for line in array]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(extra)
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines)))
        + chunk(b"IEND", b"")
    )


def tiff(
    array: np.ndarray, photometric: int, *tags: tuple[int, int], order: Literal["<", ">"] = "<"
) -> bytes:
    """An uncompressed TIFF of samples [H, W] or [H, W, C]; ``tags`` are (number, value) more, or in
    the place of others.
    """
    height, width = array.shape[:2]
    samples = array.shape[2] if array.ndim == 3 else 1
    data = array.astype(array.dtype.newbyteorder(order)).tobytes()
    values: dict[int, tuple[int, ...]] = {
        256: (width,),
        257: (height,),
        258: (8 * array.dtype.itemsize,) * samples,
        259: (1,),
        262: (photometric,),
        273: (8,),
        277: (samples,),
        278: (height,),
        279: (len(data),),
        **{number: (value,) for number, value in tags},
    }
    start = 8 + len(data) + len(data) % 2
    late = start + 2 + 12 * len(values) + 4
    entries, more = b"", b""
    for number, of_tag in sorted(values.items()):
        packed = b"".join(struct.pack(f"{order}H", value) for value in of_tag)
        if len(packed) > 4:
            packed, more = struct.pack(f"{order}I", late + len(more)), more + packed
        entries += struct.pack(f"{order}HHI", number, 3, len(of_tag)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    count = struct.pack(f"{order}H", len(values))
    return head + data + data[:0].ljust(len(data) % 2, b"\0") + count + entries + bytes(4) + more


def bmp(alpha: int, masks: bool) -> bytes:
    """A 32-bit BMP of COLOUR with this fourth byte; with bit masks (BITMAPV4) or without."""
    rows = np.dstack([COLOUR[::-1, :, ::-1], np.full((2, 3), alpha, dtype=np.uint8)]).tobytes()
    fields = struct.pack("<iiHHIIiiII", 3, 2, 1, 32, 3 if masks else 0, len(rows), 0, 0, 0, 0)
    if masks:
        fields += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    header = struct.pack("<I", 4 + len(fields)) + fields
    offset = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + header + rows


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.rint(colour * share + 255 * (1 - share))


ALPHA = np.array([[0, 255, 128], [255, 64, 0]], dtype=np.uint8)
RGBA = np.dstack([COLOUR, ALPHA])


def assert_decodes(data: bytes, expected: np.ndarray, within: int = 0, **options: Any) -> None:
    found = decode_file(data, **options)
    expected = expected[..., None] if expected.ndim == 2 else expected
    assert found.shape == expected.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= within, found.tolist()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bmp(0, masks=True), COLOUR),
        (bmp(0, masks=False), COLOUR),
        (bmp(255, masks=True), COLOUR),
        (bmp(255, masks=False), COLOUR),
        (tiff(RGBA[..., :3], 2), COLOUR),
        (tiff(np.dstack([COLOUR, 0 * ALPHA]), 2), COLOUR),
        (tiff(np.dstack([COLOUR, 0 * ALPHA]), 2, (338, 0)), COLOUR),
        (tiff(np.dstack([COLOUR, 0 * ALPHA]), 2, (338, 2)), 0 * COLOUR + 255),
        (png(np.dstack([COLOUR, 0 * ALPHA]), 8, 6), 0 * COLOUR + 255),
    ],
    ids=[
        "BMP, masks",
        "BMP",
        "BMP, masks, opaque",
        "BMP, opaque",
        "TIFF",
        "TIFF, unsaid",
        "TIFF, padding",
        "TIFF, transparent",
        "PNG, transparent",
    ],
)  # fmt: skip
def test_a_fourth_byte_of_zeros_is_padding_unless_the_file_says_alpha(
    data: bytes, expected: np.ndarray
) -> None:
    assert_decodes(data, expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(RGBA, 8, 6), over_white(COLOUR, ALPHA)),
        (png(np.dstack([GREY, ALPHA]), 8, 4), over_white(GREY[..., None], ALPHA)[..., 0]),
        (tiff(RGBA, 2, (338, 2)), over_white(COLOUR, ALPHA)),
        # Premultiplied: each colour is what is left of it.
        (
            tiff(
                np.dstack([COLOUR * (ALPHA[..., None] / 255), ALPHA]).astype(np.uint8), 2, (338, 1)
            ),
            over_white(COLOUR, ALPHA),
        ),
        (saved(Image.fromarray(RGBA), "WEBP", lossless=True), over_white(COLOUR, ALPHA)),
        (
            png(RGBA.astype(np.uint16) * 257, 16, 6),
            over_white(COLOUR, ALPHA),
        ),
        (
            png(np.dstack([GREY, ALPHA]).astype(np.uint16) * 257, 16, 4),
            over_white(GREY[..., None], ALPHA)[..., 0],
        ),
        # One colour declared transparent.
        (png(GREY[..., None], 8, 0, chunk(b"tRNS", b"\0\x66")), np.where(GREY == 102, 255, GREY)),
        (
            png(SIXTEEN[..., None], 16, 0, chunk(b"tRNS", struct.pack(">H", SIXTEEN[0, 2]))),
            np.where(GREY == 102, 255, GREY),
        ),
        (
            png(np.array([[0, 1, 2, 3]]), 2, 0, chunk(b"tRNS", b"\0\x01")),
            np.array([[0, 255, 170, 255]]),
        ),
        (
            png(np.array([[0, 5, 10, 15]]), 4, 0, chunk(b"tRNS", b"\0\x05")),
            np.array([[0, 255, 170, 255]]),
        ),
        (png(np.array([[0, 1, 0, 1]]), 1, 0, chunk(b"tRNS", b"\0\0")), np.full((1, 4), 255)),
        (
            png(COLOUR, 8, 2, chunk(b"tRNS", struct.pack(">HHH", *COLOUR[0, 1]))),
            np.where((COLOUR[0, 1] == COLOUR).all(axis=2, keepdims=True), 255, COLOUR),
        ),
        (
            png(
                COLOUR.astype(np.uint16) * 257,
                16,
                2,
                chunk(b"tRNS", struct.pack(">HHH", *(257 * int(v) for v in COLOUR[0, 1]))),
            ),
            np.where((COLOUR[0, 1] == COLOUR).all(axis=2, keepdims=True), 255, COLOUR),
        ),
    ],
)
def test_transparency_is_laid_over_white(data: bytes, expected: np.ndarray) -> None:
    assert_decodes(data, expected, within=2)


def test_a_palette_gives_its_colours_and_its_transparency() -> None:
    picture = Image.fromarray(np.array([[0, 1], [2, 3]], dtype=np.uint8), "P")
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 8, 7)]
    picture.putpalette([value for colour in colours for value in colour])
    expected = np.array(colours, dtype=np.uint8).reshape(2, 2, 3)
    assert_decodes(saved(picture, "PNG"), expected)
    assert_decodes(saved(picture, "GIF"), expected)
    expected[0, 1] = 255
    assert_decodes(saved(picture, "GIF", transparency=1), expected)
    assert_decodes(saved(picture, "PNG", transparency=1), expected)
    half = bytes([255, 128, 255, 255])
    expected[0, 1] = (127, 255, 127)
    assert_decodes(saved(picture, "PNG", transparency=half), expected, within=1)


@pytest.mark.parametrize(
    "data",
    [
        tiff(TWELVE, 1, (281, 4095)),
        tiff(TWELVE, 1, (281, 4095), order=">"),
        png(TWELVE[..., None], 16, 0, chunk(b"sBIT", b"\x0c")),
        png(SIXTEEN[..., None], 16, 0, chunk(b"sBIT", b"\x0c")),
        png(SIXTEEN[..., None], 16, 0),
        tiff(SIXTEEN.astype(np.uint16), 1),
        tiff(SIXTEEN.astype(np.uint16), 1, order=">"),
        tiff(SIXTEEN.astype(np.uint16), 1, (281, 64000)),
        b"P5 3 2 4095\n" + TWELVE.astype(">u2").tobytes(),
        b"P2 3 2 5\n0 1 2 3 4 5\n",
        b"P5 3 2 65535\n" + SIXTEEN.astype(">u2").tobytes(),
    ],
    ids=[
        "TIFF, MaxSampleValue",
        "TIFF, big-endian",
        "PNG, sBIT",
        "PNG, sBIT, scaled as the standard says",
        "PNG",
        "TIFF",
        "TIFF, big-endian, 16",
        "TIFF, the largest value as a statistic",
        "PGM of 12 bits",
        "PGM of few levels",
        "PGM of 16 bits",
    ],
)
def test_grey_is_scaled_by_the_depth_that_the_file_declares(data: bytes) -> None:
    assert_decodes(data, GREY)


def twelve_bits_packed() -> bytes:
    values = np.pad(TWELVE, ((0, 0), (0, 1)))  # an even number of samples a line
    first, second = values[:, 0::2], values[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=2)
    return tiff(packed.astype(np.uint8).reshape(2, 6), 1, (256, 4), (258, 12))


def test_tiff_of_12_bits_a_sample() -> None:
    found = decode_file(twelve_bits_packed())
    np.testing.assert_array_equal(found[:, :3, 0], GREY)


@pytest.mark.parametrize("data", [png(TWELVE[..., None], 16, 0), tiff(TWELVE, 1)])
def test_12_bits_that_nothing_declares_are_refused_or_scaled_by_the_parameter(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"at most 4095 of 65535.*dataset\.bit_depth"):
        decode_file(data)
    assert_decodes(data, GREY, bit_depth=12)
    assert_decodes(data, TWELVE * (255 / 16383) + 0.5, bit_depth=14)
    with pytest.raises(ValueError, match="a pixel is 4095, more than 10 bits hold"):
        decode_file(data, bit_depth=10)


def test_black_stays_black_and_a_declared_depth_is_not_overruled() -> None:
    assert_decodes(tiff(0 * TWELVE, 1), 0 * GREY)
    assert_decodes(tiff(SIXTEEN.astype(np.uint16), 1, (281, 65535)), GREY, bit_depth=12)
    assert_decodes(tiff(TWELVE, 1, (281, 65535)), TWELVE // 257, within=1)
    assert_decodes(png(GREY[..., None], 8, 0), GREY, bit_depth=12)


def test_colour_of_12_bits_in_16_is_refused() -> None:
    dark = (COLOUR * (4095 / 255)).astype(np.uint16)
    for data in (png(dark, 16, 2), tiff(dark, 2), tiff(dark, 2, order=">")):
        with pytest.raises(ValueError, match=r"all below 4096 of 65535.*convert it to 8 bits"):
            decode_file(data)
    bright = COLOUR.astype(np.uint16) * 257
    for data in (png(bright, 16, 2), tiff(bright, 2), tiff(bright, 2, order=">")):
        assert_decodes(data, COLOUR)


def test_what_a_depth_decided_is_stored_decoded() -> None:
    class Files(Synthetic):
        def read(self, row: Row) -> Any:
            return tiff(TWELVE, 1)

    source = Files(DatasetParams(source="synthetic"))
    (record,) = ReadImages(source, "file", 1, None, 12)([Row(0, 0, "x.tif")])
    assert isinstance(record, ShardRow)
    found = decode_row(record.image, record.encoding, record.height, record.width, 1)
    np.testing.assert_array_equal(found[..., 0], GREY)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("bits", [1, 8, 16])
def test_white_is_zero_and_black_is_zero(bits: int, compression: str) -> None:
    values = {1: GREY > 127, 8: GREY, 16: SIXTEEN.astype(np.uint16)}[bits]
    expected = {1: (GREY > 127) * 255, 8: GREY, 16: GREY}[bits]
    plain = saved(Image.fromarray(values), "TIFF", compression=compression)
    assert_decodes(plain, expected)
    # Only the tag is another: what was black is white.
    place = next(
        at for at in range(len(plain)) if plain[at : at + 8] == struct.pack("<HHI", 262, 3, 1)
    )
    inverted = plain[: place + 8] + struct.pack("<H", 0) + plain[place + 10 :]
    assert_decodes(inverted, 255 - expected)


def test_white_is_zero_with_a_declared_depth() -> None:
    assert_decodes(tiff(4095 - TWELVE, 0, (281, 4095)), GREY)


@pytest.mark.parametrize("compression", ["group3", "group4"])
def test_fax_is_black_on_white(compression: str) -> None:
    picture = Image.fromarray(GREY > 127)
    assert_decodes(saved(picture, "TIFF", compression=compression), (GREY > 127) * 255)


def test_cmyk_of_photoshop_is_inverted_once() -> None:
    cmyk = np.full((16, 16, 4), (255, 0, 128, 51), dtype=np.uint8)
    expected = np.full((16, 16, 3), (0, 204, 102), dtype=np.uint8)
    picture = Image.fromarray(cmyk, "CMYK")
    data = saved(picture, "JPEG", quality=100)
    assert b"Adobe" in data  # the marker by which the values are stored inverted
    assert_decodes(data, expected, within=4)
    assert_decodes(saved(picture, "TIFF"), expected, within=1)


def test_colour_spaces_and_floats_without_a_defined_range_are_refused() -> None:
    for data in (
        saved(Image.new("F", (3, 2)), "TIFF"),
        saved(Image.new("I", (3, 2)), "TIFF"),
        tiff(TWELVE.view(np.int16), 1, (339, 2)),
        b"Pf\n3 2\n-1.0\n" + bytes(24),
    ):
        with pytest.raises(ValueError, match="no defined range"):
            decode_file(data)


def test_other_colour_spaces_become_rgb() -> None:
    red = (200, 30, 60)
    for compression in ("jpeg", "tiff_lzw"):
        picture = Image.new("RGB", (16, 16), red).convert("YCbCr")
        data = saved(picture, "TIFF", compression=compression)
        assert_decodes(data, np.full((16, 16, 3), red), within=2)
    # L* 53, a* 80, b* 67: sRGB's red.
    bands = [Image.new("L", (3, 2), value) for value in (136, 128 + 80, 128 + 67)]
    assert_decodes(
        saved(Image.merge("LAB", bands), "TIFF"), np.full((2, 3, 3), (255, 0, 0)), within=12
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_orientation_is_applied_once(format_: str, orientation: int, tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:8, :8] = (255, 255, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"TIFF": {"tiffinfo": {274: orientation}}, "WEBP": {"lossless": True}}
    data = saved(Image.fromarray(pixels), format_, exif=exif, **options.get(format_, {}))
    rows, turned = pixels, orientation >= 5
    expected = {
        1: rows,
        2: rows[:, ::-1],
        3: rows[::-1, ::-1],
        4: rows[::-1],
        5: rows.transpose(1, 0, 2),
        6: rows.transpose(1, 0, 2)[:, ::-1],
        7: rows.transpose(1, 0, 2)[::-1, ::-1],
        8: rows.transpose(1, 0, 2)[::-1],
    }[orientation]
    assert_decodes(data, expected, within=2)
    (tmp_path / "x").write_bytes(data)
    assert read_header(tmp_path / "x") == Header(*((32, 16) if turned else (16, 32)), 3)


def test_the_first_frame_or_page_is_the_image() -> None:
    first, second = Image.fromarray(COLOUR), Image.new("RGB", (3, 2), "red")
    for format_ in ("TIFF", "WEBP", "PNG"):
        options = {"lossless": True} if format_ == "WEBP" else {}
        data = saved(first, format_, save_all=True, append_images=[second], **options)
        assert_decodes(data, COLOUR)
    large = Image.new("RGB", (32, 32), (10, 200, 30))
    mpo = saved(large, "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32), "red")])
    assert_decodes(mpo, np.full((32, 32, 3), (10, 200, 30)), within=3)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_avif_is_read() -> None:
    picture = Image.new("RGB", (32, 16), (10, 200, 30))
    assert_decodes(
        saved(picture, "AVIF", quality=100), np.full((16, 32, 3), (10, 200, 30)), within=3
    )


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "RGB", "RGBA", "P", "CMYK"])
def test_a_header_tells_what_decoding_gives(mode: str, tmp_path: Path) -> None:
    format_ = "JPEG" if mode == "CMYK" else "PNG"
    path = tmp_path / "x"
    path.write_bytes(saved(Image.new(mode, (5, 7), 1 if mode == "1" else None), format_))
    header = read_header(path)
    assert header is not None and decode_file(path.read_bytes()).shape == tuple(header)
    path.write_bytes(b"nothing")
    assert read_header(path) is None


def reference(array: np.ndarray, side: int) -> np.ndarray:
    """torchvision's Resize and CenterCrop, in floating point."""
    height, width = array.shape[:2]
    sides = [int(side * length / min(height, width)) for length in (height, width)]
    tensor = torch.from_numpy(array).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(tensor, sides, mode="bicubic", antialias=True)
    top, left = (round((length - side) / 2) for length in sides)
    cut = resized[0, :, top : top + side, left : left + side]
    return cut.permute(1, 2, 0).clamp(0, 255).round().numpy()


@pytest.mark.parametrize("side", [8, 32, 33])
@pytest.mark.parametrize("size", [(1, 600), (600, 1), (3, 100), (100, 7), (40, 1200), (1210, 41)])
def test_a_thin_image_is_what_torchvision_makes_of_it(size: tuple[int, int], side: int) -> None:
    # Far from black and white: Pillow would cut off there between its two passes.
    pixels = np.random.default_rng(0).integers(80, 176, (*size, 3), dtype=np.uint8)
    found = to_pixels(centre_square(to_picture(pixels), side))
    expected = reference(pixels, side)
    assert found.shape == (side, side, 3)
    assert np.abs(found.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("size", [(1, 60000), (60000, 1), (60000, 20)])
def test_a_thin_image_takes_little_memory(size: tuple[int, int]) -> None:
    import resource

    pixels = np.full((*size, 3), 90, dtype=np.uint8)
    image = ImageParams(size=256, load_size=256, channels=3, mean=[0.5] * 3, std=[0.5] * 3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    found = to_model_input(pixels, image)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    # The image enlarged as a whole: 256 x 15,360,000 pixels.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert found.shape == (3, 256, 256) and (found == 90).all()
