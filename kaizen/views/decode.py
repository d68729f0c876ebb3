"""Loading shards: which rows, and their pixels decoded into one array."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from kaizen.compute.compiled import can_compile
from kaizen.data.schema import UNLABELLED, binary_buffers
from kaizen.data.shards import explain_read_errors, iter_blocks, read_table, shard_info
from kaizen.data.stored import decode_row
from kaizen.errors import KaizenError
from kaizen.params import ImageParams
from kaizen.views.pixels import convert_channels, to_model_input

_SIZE_COLUMNS = ("height", "width")
# Raw pixels are copied in parts of at least so many bytes: about what a core's cache holds.
_COPIED_BYTES = 1 << 18


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
    return load_rows([(path, whole_shard(path))], image, fraction, labelled=labelled)


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
    return load_rows([(path, groups)], image, fraction, labelled=labelled)


def whole_shard(path: Path) -> Sequence[int]:
    """The numbers of all row groups of a shard."""
    return range(len(shard_info(path).row_groups))


def load_rows(
    parts: Sequence[tuple[Path, Sequence[int]]],
    image: ImageParams,
    fraction: float = 1.0,
    order: np.ndarray | None = None,
    *,
    labelled: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Decode rows as `load_row_groups` does, of several shards one after the other: images uint8
    [N, C, H, W] and labels int64 [N].

    With ``order``, a permutation int64 [N], row i of the result is row order[i] of them. Memory
    holds the result and a few MB besides. Raises KaizenError as `load_shard` does, and where
    the shards' images differ in size from each other.
    """
    selections = [_selection(path, fraction, labelled) for path, _ in parts]
    count = sum(
        len(rows[group])
        for rows, (_, groups) in zip(selections, parts, strict=True)
        for group in groups
    )
    places = np.arange(count)
    if order is not None:
        places[order] = np.arange(count)
    shape: tuple[int, int, int] | None = None
    images = np.empty((0, image.channels, image.size, image.size), dtype=np.uint8)
    labels = np.empty(count, dtype=np.int64)
    position = 0
    waiting: list[Iterator[None]] = []
    with ThreadPoolExecutor(decode_threads()) as pool:
        for selection, (path, groups) in zip(selections, parts, strict=True):
            for group, begin, table in iter_blocks(path, groups):
                here = _common_shape(path, table, image)
                if shape is None:
                    shape = here
                    images = np.empty((count, *shape), dtype=np.uint8)
                elif here != shape:
                    raise _different_sizes(path, shape[1:], here[1:])
                low, high = np.searchsorted(selection[group], (begin, begin + table.num_rows))
                rows = selection[group][low:high] - begin
                chosen = places[position : position + len(rows)]
                labels[chosen] = table.column("label").to_numpy()[rows]
                # While a block is decoded, the next is read.
                waiting.append(
                    _decode_block(path, table, rows, image, _Target(images, chosen, pool))
                )
                position += len(rows)
                if len(waiting) > 1:
                    _finish(path, waiting.pop(0))
            while waiting:
                _finish(path, waiting.pop(0))
    return images, labels


def decode_threads() -> int:
    """How many images are decoded at a time: one for each core that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # on Linux; it knows the cores that a cluster gave us
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


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


class _Target(NamedTuple):
    """Where decoded rows go, and the threads that bring them there."""

    images: np.ndarray  # uint8 [N, C, H, W]
    places: np.ndarray  # int64 [n], of the rows to be decoded
    pool: ThreadPoolExecutor


def _decode_block(
    path: Path, table: pa.Table, selected: np.ndarray, image: ImageParams, target: _Target
) -> Iterator[None]:
    """Begin to decode the selected rows of a block of a shard to their places; what is returned
    ends when all are there, or raises what the first row that fails raises.
    """
    with explain_read_errors(path):
        raw = _raw_pixels(table) if target.images.size else None
        if raw is not None and raw.shape[1:3] == target.images.shape[2:]:

            def copy(part: slice) -> None:
                rows, places = selected[part], target.places[part]
                pixels = convert_channels(raw[_span(rows)], image.channels)
                target.images[_span(places)] = pixels.transpose(0, 3, 1, 2)

            least = max(1, _COPIED_BYTES // max(1, raw[0].nbytes))
            return target.pool.map(copy, _parts(len(selected), least))
        names = ("image", "encoding", "height", "width", "channels", "path")
        columns = [table.column(name).take(selected) for name in names]

        def decode(part: slice) -> None:
            rows = (column[part.start : part.stop].to_pylist() for column in columns)
            for place, row in zip(target.places[part], zip(*rows, strict=True), strict=True):
                target.images[place] = _decode_named(row, image)

        return target.pool.map(decode, _parts(len(selected), 1))


def _finish(path: Path, results: Iterator[None]) -> None:
    """Wait for a block's rows."""
    with explain_read_errors(path):
        for _ in results:
            pass


def _parts(count: int, least: int) -> list[slice]:
    """``count`` rows in consecutive parts: a few for each thread, so that none waits long for the
    last.
    """
    size = max(least, math.ceil(count / (4 * decode_threads())))
    return [slice(begin, min(begin + size, count)) for begin in range(0, count, size)]


def _span(rows: np.ndarray) -> slice | np.ndarray:
    """The slice of consecutive ascending row numbers, which numpy copies faster; others as they
    are.
    """
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def _decode_named(row: tuple[bytes, str, int, int, int, str], image: ImageParams) -> np.ndarray:
    """Decode one row of `_decode_block`; an error names the image."""
    data, encoding, height, width, channels, source = row
    try:
        pixels = decode_row(data, encoding, height, width, channels)
        return to_model_input(pixels, image, compiled=can_compile())
    except ValueError as error:
        raise ValueError(f"the image of {source}: {error}") from error
    except MemoryError as error:
        raise MemoryError(
            f"the image {source} of {width} x {height} pixels does not fit in memory"
        ) from error


def _raw_pixels(table: pa.Table) -> np.ndarray | None:
    """A view of a block as uint8 [N, H, W, C], if all its rows are raw and of one shape."""
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
