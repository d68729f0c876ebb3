"""Raw images to one train and one test shard per task, in a stream: memory does not grow with the images' size.

Worker processes read and decode; this process writes. The shards' bytes do not depend on the number of workers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kaizen.data.labels import labelled
from kaizen.data.reading import ChunkReader, Corrupt, Outcome, ReadImages
from kaizen.data.shards import ShardWriter
from kaizen.data.sources import open_source
from kaizen.data.sources.base import PARTS, Part, Row
from kaizen.data.split import class_tasks
from kaizen.errors import KaizenError
from kaizen.files import write_json
from kaizen.params import DatasetParams, LabelsParams, SplitParams

Progress = Callable[[int, int], None]


class _Shard(NamedTuple):
    task: int
    part: Part
    rows: list[Row]
    keep: np.ndarray  # bool [N]: which rows keep their label


def ingest(
    dataset: DatasetParams,
    split: SplitParams,
    labels: LabelsParams,
    workers: int,
    out: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write task-00.train.parquet, task-00.test.parquet, … and tasks.json into ``out``; return what tasks.json holds.

    ``progress(done, total)`` is called in images. A skipped image counts as drawn when ``labels.fraction`` is
    applied; test images always keep their label.
    Raises KaizenError on a bad source or split, on a corrupt image (``on_corrupt`` "stop"), and where skipping
    leaves a class empty; NodeFailed where a worker process was killed.
    """
    source = open_source(dataset)
    names = source.classes
    tasks = class_tasks(len(names), split.tasks, split.seed)
    rows = {part: source.rows(part) for part in PARTS}
    total = sum(len(of_part) for of_part in rows.values())
    entries: list[dict[str, Any]] = [
        {"task": task, "classes": classes, "class_names": [names[label] for label in classes]}
        for task, classes in enumerate(tasks)
    ]
    read = ReadImages(source, dataset.encoding, dataset.raw_limit, dataset.resize)
    reader = ChunkReader(read, 1 if source.in_memory else workers)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    plan = _shards(tasks, rows, labels)
    with reader:
        chunks = reader.read(shard.rows for shard in _shards(tasks, rows, labels))
        for shard in plan:
            entry = entries[shard.task]
            writer = ShardWriter(
                out / f"task-{shard.task:02d}.{shard.part}.parquet",
                dataset=source.name,
                part=shard.part,
                task=shard.task,
                classes=entry["classes"],
                class_names=entry["class_names"],
                compression=dataset.compression,
                row_group_mb=dataset.row_group_mb,
            )
            counts = _write(shard, writer, chunks, names, dataset, advance)
            entry[shard.part] = {"rows": writer.rows, "content_sha256": writer.content_sha256, **counts}
    summary = {"dataset": source.name, "classes": names, "num_classes": len(names), "tasks": entries}
    write_json(out / "tasks.json", summary)
    return summary


def _shards(tasks: list[list[int]], rows: dict[Part, list[Row]], labels: LabelsParams) -> Iterator[_Shard]:
    """The shards in the order in which they are written; rows keep their dataset order."""
    for task, classes in enumerate(tasks):
        members = set(classes)
        for part in PARTS:
            chosen = [row for row in rows[part] if row.label in members]
            keep = np.ones(len(chosen), dtype=bool)
            if part == "train":
                keep = labelled([row.label for row in chosen], labels.fraction, labels.seed)
            yield _Shard(task, part, chosen, keep)


def _write(
    shard: _Shard,
    writer: ShardWriter,
    chunks: Iterator[list[Outcome]],
    names: list[str],
    dataset: DatasetParams,
    advance: Callable[[int], None],
) -> dict[str, int]:
    """Write one shard from the chunks that hold its rows; returns how many rows are labelled and were skipped."""
    skipped: list[Corrupt] = []
    kept = dict.fromkeys(sorted({row.label for row in shard.rows}), 0)
    with_label = position = 0
    with writer:
        while position < len(shard.rows):
            outcomes = next(chunks)
            for keep, outcome in zip(shard.keep[position : position + len(outcomes)], outcomes, strict=True):
                if isinstance(outcome, Corrupt):
                    skipped.append(outcome)
                    if dataset.on_corrupt == "stop":
                        raise KaizenError(
                            f"{_where(dataset, outcome)} cannot be read as an image ({outcome.reason}); replace or "
                            "remove it, or set dataset.on_corrupt: skip"
                        )
                    continue
                kept[outcome.label] += 1
                with_label += bool(keep)
                writer.write(outcome if keep else dataclasses.replace(outcome, label=-1))
            position += len(outcomes)
            advance(len(outcomes))
        for label, count in kept.items():
            if not count:
                first = next(corrupt for corrupt in skipped if corrupt.row.label == label)
                raise KaizenError(
                    f"class {names[label]!r} has no readable image left in its {shard.part} part, all were skipped "
                    f"(the first: {_where(dataset, first)}, {first.reason}); mend its images or remove the class"
                )
    return {"labelled": with_label, "skipped": len(skipped)}


def _where(dataset: DatasetParams, corrupt: Corrupt) -> str:
    path = corrupt.row.path
    return str(Path(dataset.path).expanduser().absolute() / path) if dataset.path else path
