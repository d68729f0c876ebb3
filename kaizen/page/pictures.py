"""Test images of the most confused pairs of classes, small and within the page, read from the
published shards.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaizen.data.shards import iter_blocks, shard_info
from kaizen.data.stored import decode_row
from kaizen.errors import KaizenError
from kaizen.evaluation.mistaken import MOST_IMAGES, MistakenPair
from kaizen.plan.point import Point

SIDE = 64  # pixels of a picture's longer side; larger images are shrunk
MOST_BYTES = 2_000_000  # of all pictures
_MOST_PAIRS = 6  # of a series
_MOST_PICTURES = 480  # of all series
_PNG_UP_TO = 3000  # bytes; what takes more is a JPEG where that is smaller

# (task, row of its test shard) -> a data: address.
Pictures = Mapping[tuple[int, int], str]


@dataclass(frozen=True)
class Examples:
    """The pairs that are shown of each run, and the pictures; ``note`` says what is not there,
    ``recorded`` whether the evaluations name any.
    """

    pairs: Mapping[Point, Sequence[MistakenPair]] = field(default_factory=dict)
    pictures: Pictures = field(default_factory=dict)
    note: str = ""
    recorded: bool = False


def examples(
    mistaken: Mapping[Point, Sequence[MistakenPair]],
    shard: Callable[[int], Path | None],
    wanted: bool = True,
) -> Examples:
    """The most confused pairs of runs, one of each series, with their pictures; ``shard`` finds a
    task's test shard. Without pictures where they are not ``wanted``.
    """
    each = max(1, min(_MOST_PAIRS, _MOST_PICTURES // (MOST_IMAGES * max(1, len(mistaken)))))
    pairs = {point: list(found)[:each] for point, found in mistaken.items()}
    if not wanted:
        return Examples(pairs, {}, "Images are left out (`report.example_images`).", True)
    rows = {(i.task, i.row) for found in pairs.values() for pair in found for i in pair.images}
    pictures: dict[tuple[int, int], str] = {}
    for task in sorted({task for task, _ in rows}):
        path = shard(task)
        if path is not None:
            of_task = sorted(row for other, row in rows if other == task)
            pictures |= {(task, row): uri for row, uri in _read(path, of_task)}
    kept, size = {}, 0
    for key, uri in sorted(pictures.items()):
        size += len(uri)
        if size <= MOST_BYTES:
            kept[key] = uri
    lack = "" if len(kept) == len(rows) else _lack(len(rows) - len(kept), len(pictures), len(kept))
    return Examples(pairs, kept, lack, True)


def _lack(missing: int, read: int, kept: int) -> str:
    why = "they would make the page too large" if kept < read else "their shards cannot be read"
    return f"{missing} images are left out: {why}."


def _read(path: Path, rows: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Pictures of some rows of a shard, ascending; of what cannot be read none."""
    try:
        starts = [0]
        for count in shard_info(path).row_groups:
            starts.append(starts[-1] + count)
        groups = [
            group
            for group in range(len(starts) - 1)
            if any(starts[group] <= row < starts[group + 1] for row in rows)
        ]
        for group, begin, table in iter_blocks(path, groups):
            first = starts[group] + begin
            for row in rows:
                if first <= row < first + table.num_rows:
                    uri = _picture(table.slice(row - first, 1).to_pylist()[0])
                    if uri:
                        yield row, uri
    except (KaizenError, OSError):
        return


def _picture(row: Mapping[str, Any]) -> str | None:
    from PIL import Image

    names = ("image", "encoding", "height", "width", "channels")
    try:
        pixels = decode_row(*(row[name] for name in names))
    except (KaizenError, ValueError, OSError, MemoryError):
        return None
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((SIDE, SIDE))
    png = _encoded(image, "PNG", optimize=True)
    if len(png) > _PNG_UP_TO:
        jpeg = _encoded(image, "JPEG", quality=80)
        if len(jpeg) < len(png):
            return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _encoded(image: Any, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
