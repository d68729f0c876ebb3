"""From a shard's rows to the pixels that a network sees: uint8 arrays, equal on every machine."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from kaizen.data.image_files import centre_square, decode_file, to_picture, to_pixels
from kaizen.data.schema import UNLABELLED, binary_buffers
from kaizen.data.shards import explain_read_errors, iter_row_groups, read_table, shard_info
from kaizen.errors import KaizenError
from kaizen.params import ImageParams

_SIZE_COLUMNS = ("height", "width")
_DECODE_THREADS = min(4, os.cpu_count() or 1)


def decode_row(data: bytes, encoding: str, height: int, width: int, channels: int) -> np.ndarray:
    """Decode a row of a shard to uint8 [H, W, C]; raises ValueError where the bytes do not fit the
    columns.
    """
    if encoding == "raw":
        return np.frombuffer(data, dtype=np.uint8).reshape(height, width, channels)
    if encoding != "file":
        raise ValueError(f"unknown encoding {encoding!r}")
    pixels = decode_file(data)
    if pixels.shape != (height, width, channels):
        raise ValueError(
            f"an image of {pixels.shape} where {(height, width, channels)} was recorded"
        )
    return pixels


def to_model_input(array: np.ndarray, image: ImageParams) -> np.ndarray:
    """Convert pixels uint8 [H, W, 1 or 3] to ``image.channels``, resize and crop: uint8 [C, H',
    W'].

    Colour becomes grey by ITU-R 601-2 luma. With ``load_size`` S the shorter side is resized to S
    (bicubic) and the centre S x S cut out, rounded as torchvision's Resize and CenterCrop; else H'
    x W' = H x W. Memory is bounded however thin the image (`centre_square`).
    """
    size = image.load_size
    height, width = array.shape[:2]
    if size is not None and (height, width) != (size, size):
        # Channels first: grey images resize in a third of the time.
        picture = to_picture(array).convert("L" if image.channels == 1 else "RGB")
        array = to_pixels(centre_square(picture, size))
    return np.ascontiguousarray(convert_channels(array, image.channels).transpose(2, 0, 1))


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


def selected_rows(rows: int, fraction: float) -> np.ndarray:
    """The evenly spaced rows floor(i / fraction), i = 0, 1, …, that are below ``rows``: int64,
    ascending.
    """
    count = math.ceil(rows * fraction - 1e-9)
    return np.minimum(
        np.floor(np.arange(count) / fraction + 1e-9).astype(np.int64), max(0, rows - 1)
    )


def stratified_rows(labels: np.ndarray, fraction: float) -> np.ndarray:
    """The rows of a share that every class keeps: int64, ascending, for labels int64 [N].

    Of the n rows of each label, and of those without one (-1), ceil(n * fraction), evenly spaced
    among themselves: at least one of each class that has any. The unlabelled ones, whose class is
    not known, lie in a shard class by class too.
    """
    if fraction == 1.0:
        return np.arange(len(labels))
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    chosen = [rows[selected_rows(len(rows), fraction)] for rows in groups]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *chosen]))


def selected_labels(path: Path, fraction: float = 1.0, *, labelled: bool = False) -> np.ndarray:
    """The labels of the rows that `load_shard` returns, int64 [N], without decoding an image."""
    labels: np.ndarray = read_table(path, ["label"]).column("label").to_numpy()
    chosen: np.ndarray = labels[_chosen(labels, fraction, labelled)]
    return chosen


def row_group_rows(path: Path, fraction: float = 1.0, *, labelled: bool = False) -> list[int]:
    """How many of the selected rows lie in each row group of a shard."""
    return [len(rows) for rows in _selection(path, fraction, labelled)]


def decoded_bytes(
    path: Path, image: ImageParams, fraction: float = 1.0, *, labelled: bool = False
) -> int:
    """The bytes that `load_shard` will return in images, from the stored sizes alone.

    Raises KaizenError where the images differ in size and ``image.load_size`` is null.
    """
    _, height, width = _common_shape(path, read_table(path, _SIZE_COLUMNS), image)
    rows = sum(row_group_rows(path, fraction, labelled=labelled))
    return rows * image.channels * height * width


def load_shard(
    path: Path, image: ImageParams, fraction: float = 1.0, *, labelled: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Decode a share of a shard's rows (`stratified_rows`): images uint8 [N, C, H, W] and labels
    int64 [N] (-1: absent); of the ``labelled`` ones only where that is set.

    Raises KaizenError where the shard is damaged, or the images differ in size and
    ``image.load_size`` is null.
    """
    groups = range(len(shard_info(path).row_groups))
    return load_row_groups(path, image, fraction, groups, labelled=labelled)


def load_row_groups(
    path: Path,
    image: ImageParams,
    fraction: float,
    groups: Sequence[int],
    *,
    labelled: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Decode those of `load_shard`'s rows that lie in the given row groups, in the order of
    ``groups``.
    """
    selection = _selection(path, fraction, labelled)
    count = sum(len(selection[group]) for group in groups)
    shape: tuple[int, int, int] | None = None
    images = np.empty((0, image.channels, image.size, image.size), dtype=np.uint8)
    labels = np.empty(count, dtype=np.int64)
    position = 0
    for group, table in zip(groups, iter_row_groups(path, groups), strict=True):
        here = _common_shape(path, table, image)
        if shape is None:
            shape = here
            images = np.empty((count, *shape), dtype=np.uint8)
        elif here != shape:
            raise _different_sizes(path, shape[1:], here[1:])
        chosen = slice(position, position + len(selection[group]))
        labels[chosen] = table.column("label").to_numpy()[selection[group]]
        _decode_group(path, table, selection[group], image, images[chosen])
        position = chosen.stop
    return images, labels


def _chosen(labels: np.ndarray, fraction: float, labelled: bool) -> np.ndarray:
    """The rows of `stratified_rows`, or those of them that have a label."""
    rows = stratified_rows(labels, fraction)
    return rows[labels[rows] != UNLABELLED] if labelled else rows


def _selection(path: Path, fraction: float, labelled: bool) -> list[np.ndarray]:
    """For each row group the selected rows, counted from the group's start."""
    groups = shard_info(path).row_groups
    if fraction == 1.0 and not labelled:
        return [np.arange(rows) for rows in groups]
    # Read again for each pool of a streamed shard: a small part of what the pool itself reads.
    rows = _chosen(read_table(path, ["label"]).column("label").to_numpy(), fraction, labelled)
    starts = np.cumsum([0, *groups])
    bounds = np.searchsorted(rows, starts)
    return [rows[bounds[group] : bounds[group + 1]] - starts[group] for group in range(len(groups))]


def _common_shape(path: Path, table: pa.Table, image: ImageParams) -> tuple[int, int, int]:
    """The shape [C, H, W] that all rows of a table decode to; raises KaizenError where they
    differ.
    """
    if image.load_size is not None:
        return image.channels, image.load_size, image.load_size
    if table.num_rows == 0:
        return image.channels, image.size, image.size
    heights, widths = (table.column(name).to_numpy() for name in _SIZE_COLUMNS)
    differing = np.flatnonzero((heights != heights[0]) | (widths != widths[0]))
    if len(differing):
        row = differing[0]
        raise _different_sizes(path, (heights[0], widths[0]), (heights[row], widths[row]))
    return image.channels, int(heights[0]), int(widths[0])


def _different_sizes(path: Path, first: Sequence[int], other: Sequence[int]) -> KaizenError:
    sizes = " and ".join(f"{height} x {width}" for height, width in (first, other))
    return KaizenError(
        f"image.load_size: null, but the images of {path} differ in size ({sizes} pixels); "
        "set image.load_size to the side that all are brought to"
    )


def _decode_group(
    path: Path, table: pa.Table, rows: np.ndarray, image: ImageParams, out: np.ndarray
) -> None:
    """Decode the given rows of a row group into ``out`` uint8 [N, C, H, W]."""
    with explain_read_errors(path):
        raw = _raw_pixels(table) if out.size else None
        if raw is not None and raw.shape[1:3] == out.shape[2:]:
            pixels = raw if len(rows) == len(raw) else raw[rows]
            out[:] = convert_channels(pixels, image.channels).transpose(0, 3, 1, 2)
            return
        names = ("image", "encoding", "height", "width", "channels", "path")
        columns = [table.column(name).take(rows).to_pylist() for name in names]

        def decode(item: tuple[int, tuple[bytes, str, int, int, int, str]]) -> None:
            position, (data, encoding, height, width, channels, source) = item
            try:
                out[position] = to_model_input(
                    decode_row(data, encoding, height, width, channels), image
                )
            except ValueError as error:
                raise ValueError(f"the image of {source}: {error}") from error
            except MemoryError as error:
                raise MemoryError(
                    f"the image {source} of {width} x {height} pixels does not fit in memory"
                ) from error

        with ThreadPoolExecutor(_DECODE_THREADS) as pool:
            for _ in pool.map(decode, enumerate(zip(*columns, strict=True))):
                pass


def _raw_pixels(table: pa.Table) -> np.ndarray | None:
    """A view of a row group as uint8 [N, H, W, C], if all its rows are raw and of one shape."""
    first = [table.column(name)[0].as_py() for name in ("encoding", "height", "width", "channels")]
    if first[0] != "raw" or table.column("image").num_chunks != 1:
        return None
    for name, value in zip(("height", "width", "channels"), first[1:], strict=True):
        if (table.column(name).to_numpy() != value).any():
            return None
    if table.column("encoding").unique().to_pylist() != ["raw"]:
        return None
    offsets, data = binary_buffers(table.column("image").chunk(0))
    if (np.diff(offsets) != math.prod(first[1:])).any():
        raise ValueError("an image's bytes do not fit its height, width and channels")
    return np.frombuffer(data, dtype=np.uint8).reshape(len(offsets) - 1, *first[1:])
