"""What a replay shard of a growing stream knows of the tasks that it was chosen from.

The next replay shard goes on from it and from the newest task's shard alone: no older training
shard is read again, so these may be gone. Policies are nested, so what is kept of an older task was
kept before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kaizen.data.replay.base import Task
from kaizen.data.shards import explain_read_errors
from kaizen.files import atomic_path

_SCHEMA = pa.schema(
    [
        pa.field("task", pa.int32(), nullable=False),
        pa.field("classes", pa.list_(pa.int32()), nullable=False),
        pa.field("labels", pa.list_(pa.int32()), nullable=False),
        pa.field("rows", pa.list_(pa.int64()), nullable=False),
    ]
)


@dataclass(frozen=True)
class Kept:
    """An earlier task, with the labels of all its training images, and the rows of its shard that
    are kept: int64, in the order in which the policy would give them up last.
    """

    task: Task
    rows: np.ndarray


def write_memory(memory: Sequence[Kept], path: Path) -> None:
    """Write a row for each task, in stream order."""
    columns = [
        pa.array([kept.task.number for kept in memory], pa.int32()),
        pa.array([list(kept.task.classes) for kept in memory], _SCHEMA.field("classes").type),
        pa.array([kept.task.labels.tolist() for kept in memory], _SCHEMA.field("labels").type),
        pa.array([kept.rows.tolist() for kept in memory], _SCHEMA.field("rows").type),
    ]
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA), temporary, compression="zstd")


def read_memory(path: Path) -> list[Kept]:
    """The tasks of a replay shard; raises KaizenError where `write_memory` did not write it."""
    with explain_read_errors(path):
        table = pq.read_table(path)
        if table.schema.remove_metadata() != _SCHEMA:
            raise ValueError(f"its columns are {table.schema.names}")
        found = []
        for row in table.to_pylist():
            labels, rows = np.array(row["labels"], np.int64), np.array(row["rows"], np.int64)
            if len(np.unique(rows)) != len(rows) or (rows < 0).any() or (rows >= len(labels)).any():
                raise ValueError(f"task {row['task']} keeps rows that it does not have")
            found.append(Kept(Task(row["task"], tuple(row["classes"]), labels), rows))
    return found
