"""Raw images to one train and one test shard per task: which row goes into which shard, and what
tasks.json says of it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kaizen.data.found import Found
from kaizen.data.labels import labelled
from kaizen.data.names import TASKS_FILE
from kaizen.data.schema import UNLABELLED
from kaizen.data.shard_writing import Progress, ToWrite, write_shards
from kaizen.data.sources import open_source
from kaizen.data.sources.base import PARTS, Part, Row, names_text
from kaizen.data.split import Stream, deal, make_stream
from kaizen.errors import KaizenError
from kaizen.files import write_json
from kaizen.params import DatasetParams, LabelsParams, SplitParams
from kaizen.params.typed import to_dict

_NO_TASK = -1


def ingest_arrival(
    dataset: DatasetParams,
    task: int,
    names: Sequence[str],
    labels: LabelsParams,
    workers: int,
    out: Path,
    parts: Sequence[Part] = PARTS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write one arrival's shards, task-TT.train.parquet and task-TT.test.parquet (those of
    ``parts``), and tasks.json into ``out``; return what tasks.json holds.

    ``names`` are the classes of the stream up to this arrival in label order. Otherwise as
    `ingest`; raises KaizenError also where the arrival has a class that is not among them.
    """
    source = open_source(dataset)
    label_of = {name: label for label, name in enumerate(names)}
    unknown = [name for name in source.classes if name not in label_of]
    if unknown:
        raise KaizenError(f"{dataset.path}: {names_text(unknown)}: no class of the stream")
    shards = []
    for part in parts:
        rows = [
            dataclasses.replace(row, label=label_of[source.classes[row.label]])
            if row.label != UNLABELLED
            else row
            for row in source.rows(part)
        ]
        shards.append(ToWrite(task, part, rows, _kept(part, rows, labels), _places(rows)))
    classes = sorted(label_of[name] for name in source.classes)
    entry: dict[str, Any] = {
        "task": task,
        "classes": classes,
        "class_names": [names[label] for label in classes],
    }
    write_shards(source, dataset, shards, {task: entry}, list(names), workers, out, progress)
    summary = {
        "dataset": source.name,
        "split": "arrival",
        "classes": list(names),
        "num_classes": len(names),
        **to_dict(source.found(None)),
        "tasks": [entry],
    }
    write_json(out / TASKS_FILE, summary)
    return summary


def ingest(
    dataset: DatasetParams,
    split: SplitParams,
    labels: LabelsParams,
    workers: int,
    out: Path,
    *,
    progress: Progress | None = None,
    found: Found | None = None,
) -> dict[str, Any]:
    """Write task-00.train.parquet, task-00.test.parquet, … and tasks.json into ``out``; return what
    tasks.json holds.

    ``progress(done, total)`` is called in images. ``found`` is what `Source.found` gave the plan;
    None: asked for here. A skipped image counts as drawn when ``labels.fraction`` is applied; test
    images always keep their label. Raises KaizenError on a bad
    source or split, on a corrupt image (``on_corrupt`` "stop"), and where skipping leaves a class
    empty; NodeFailed where a worker process was killed.
    """
    source = open_source(dataset)
    names = source.classes
    stream = make_stream(split, names, source.domains)
    shards = [
        shard
        for part in PARTS
        for shard in _shards(stream, names, part, source.rows(part), seed=split.seed, labels=labels)
    ]
    shards.sort(key=lambda shard: shard.task)
    entries: list[dict[str, Any]] = [
        {"task": task, "classes": classes, "class_names": [names[label] for label in classes]}
        for task, classes in enumerate(stream.classes)
    ]
    if stream.by == "domain":
        for entry, domain in zip(entries, stream.domains, strict=True):
            entry["domain"] = source.domains[domain]
    of_task = dict(enumerate(entries))
    write_shards(source, dataset, shards, of_task, names, workers, out, progress)
    summary = {
        "dataset": source.name,
        "split": stream.by,
        "classes": names,
        "num_classes": len(names),
        **to_dict(source.found(None) if found is None else found),
        "tasks": entries,
    }
    write_json(out / TASKS_FILE, summary)
    return summary


def _shards(
    stream: Stream,
    names: list[str],
    part: Part,
    rows: list[Row],
    *,
    seed: int,
    labels: LabelsParams,
) -> list[ToWrite]:
    """A part's shards in task order; rows keep their dataset order."""
    tasks = _tasks_of(stream, names, part, rows, seed)
    places = _places(rows)
    shards = []
    for task in range(len(stream)):
        positions = np.flatnonzero(tasks == task)
        chosen = [rows[position] for position in positions]
        if not chosen:
            raise KaizenError(
                f"split: task {task} has no {part} images; leave its domain out with split.domains"
            )
        shards.append(ToWrite(task, part, chosen, _kept(part, chosen, labels), places[positions]))
    return shards


def _kept(part: Part, rows: Sequence[Row], labels: LabelsParams) -> np.ndarray:
    """Which of a shard's rows keep their label: bool [N]; test images all do."""
    true = np.array([row.label for row in rows], dtype=np.int64)
    keep: np.ndarray = true != UNLABELLED
    if part == "train":
        keep &= labelled(true, labels.fraction, labels.seed)
    return keep


def _places(rows: list[Row]) -> np.ndarray:
    """The position of each row among those of its class and domain: int64 [N].

    Not in the whole part, where it would depend on the files of classes that a shard has none of:
    a step that reads the shard has one key whatever these hold.
    """
    places = np.empty(len(rows), dtype=np.int64)
    seen = Counter[tuple[int, int]]()
    for position, row in enumerate(rows):
        places[position] = seen[row.label, row.domain]
        seen[row.label, row.domain] += 1
    return places


def _tasks_of(
    stream: Stream, names: list[str], part: Part, rows: list[Row], seed: int
) -> np.ndarray:
    """The task of each row: int64 [N], `_NO_TASK` for those that are not in the stream."""
    if stream.by == "domain":
        task_of = {domain: task for task, domain in enumerate(stream.domains)}
        return np.array([task_of.get(row.domain, _NO_TASK) for row in rows], dtype=np.int64)
    true = np.array([row.label for row in rows], dtype=np.int64)
    tasks = np.full(len(rows), _NO_TASK, dtype=np.int64)
    if stream.by == "class":
        for task, classes in enumerate(stream.classes):
            tasks[np.isin(true, classes)] = task
    dealt = [UNLABELLED] if stream.by == "class" else [UNLABELLED, *range(len(names))]
    for label in dealt:
        members = np.flatnonzero(true == label)
        if label != UNLABELLED and len(members) < len(stream):
            raise KaizenError(
                f"split.tasks: class {names[label]!r} has {len(members)} {part} images, too few "
                f"for one in each of the {len(stream)} parts of a split by data; lower split.tasks"
            )
        tasks[members] = deal(len(members), len(stream), seed, part, label)
    return tasks
