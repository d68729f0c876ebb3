"""Writing the shards of one or several tasks from raw images: memory does not grow with the images'
size.

Worker processes read and decode; this process writes. The shards' bytes do not depend on the number
of workers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kaizen.data.names import shard_file
from kaizen.data.reading import ChunkReader, Corrupt, Outcome, ReadImages
from kaizen.data.schema import UNLABELLED
from kaizen.data.shards import ShardWriter
from kaizen.data.sources.base import Part, Row, Source
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams

Progress = Callable[[int, int], None]


class ToWrite(NamedTuple):
    """A shard to be written: its rows, which of them keep their label, bool [N], and the column
    `index`, int64 [N].
    """

    task: int
    part: Part
    rows: list[Row]
    keep: np.ndarray
    places: np.ndarray


def write_shards(
    source: Source,
    dataset: DatasetParams,
    shards: Sequence[ToWrite],
    entries: Mapping[int, dict[str, Any]],
    names: list[str],
    workers: int,
    out: Path,
    progress: Progress | None,
) -> None:
    """Read the shards' rows by worker processes, and write shard after shard; what each came to is
    added to its task's entry.
    """
    total = sum(len(shard.rows) for shard in shards)
    read = ReadImages(
        source, dataset.encoding, dataset.raw_limit, dataset.resize, dataset.bit_depth
    )
    reader = ChunkReader(read, 1 if source.in_memory else workers)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    with reader:
        chunks = reader.read(shard.rows for shard in shards)
        for shard in shards:
            entry = entries[shard.task]
            writer = ShardWriter(
                out / shard_file(shard.task, shard.part),
                dataset=source.name,
                part=shard.part,
                task=shard.task,
                classes=entry["classes"],
                class_names=entry["class_names"],
                compression=dataset.compression,
                row_group_mb=dataset.row_group_mb,
            )
            counts = _write(shard, writer, chunks, names=names, dataset=dataset, advance=advance)
            entry[shard.part] = {
                "rows": writer.rows,
                "content_sha256": writer.content_sha256,
                **counts,
            }


def _write(
    shard: ToWrite,
    writer: ShardWriter,
    chunks: Iterator[list[Outcome]],
    *,
    names: list[str],
    dataset: DatasetParams,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    """Write one shard from the chunks that hold its rows.

    Returns how many rows are labelled, were skipped and are in colour, and the smallest and largest
    height and width of its images.
    """
    skipped: list[Corrupt] = []
    kept = dict.fromkeys(sorted({row.label for row in shard.rows} - {UNLABELLED}), 0)
    with_label = 0
    heights, widths = set[int](), set[int]()
    colour = 0
    with writer:
        for keep, place, outcome in _outcomes(shard, chunks, advance):
            if isinstance(outcome, Corrupt):
                skipped.append(outcome)
                if dataset.on_corrupt == "stop":
                    raise KaizenError(
                        f"{_where(dataset, outcome)} cannot be read as an image "
                        f"({outcome.reason}); replace or remove it, or set dataset.on_corrupt: skip"
                    )
                continue
            if outcome.label != UNLABELLED:
                kept[outcome.label] += 1
            with_label += bool(keep)
            heights.add(outcome.height)
            widths.add(outcome.width)
            colour += outcome.channels == 3
            label = outcome.label if keep else UNLABELLED
            writer.write(dataclasses.replace(outcome, label=label, index=int(place)))
        for label, count in kept.items():
            if not count:
                first = next(corrupt for corrupt in skipped if corrupt.row.label == label)
                raise KaizenError(
                    f"class {names[label]!r} has no readable image left in its {shard.part} part, "
                    f"all were skipped (the first: {_where(dataset, first)}, {first.reason}); fix "
                    "its images or remove the class"
                )
    sizes = (
        {"height": [min(heights), max(heights)], "width": [min(widths), max(widths)]}
        if heights
        else {}
    )
    return {"labelled": with_label, "skipped": len(skipped), "colour": colour, **sizes}


def _outcomes(
    shard: ToWrite, chunks: Iterator[list[Outcome]], advance: Callable[[int], None]
) -> Iterator[tuple[np.bool, np.int64, Outcome]]:
    """For each row of a shard whether it keeps its label, its index, and what reading it came to,
    from the chunks that hold the rows; each chunk counts as done after its last row.
    """
    position = 0
    while position < len(shard.rows):
        outcomes = next(chunks)
        end = position + len(outcomes)
        keep, places = shard.keep[position:end], shard.places[position:end]
        yield from zip(keep, places, outcomes, strict=True)
        position = end
        advance(len(outcomes))


def _where(dataset: DatasetParams, corrupt: Corrupt) -> str:
    path = corrupt.row.path
    return str(Path(dataset.path).expanduser().absolute() / path) if dataset.path else path
