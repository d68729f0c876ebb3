"""Reservoir sampling: a random sample of the stream, whatever the classes."""

from __future__ import annotations

import numpy as np

from kaizen.data.replay.base import ReplayStream, Size
from kaizen.data.split import seeded_keys


def choose(stream: ReplayStream, size: Size) -> list[np.ndarray]:
    """After each task keep, of the rows held and the task's, those with the smallest of keys drawn
    once per row.

    A fixed memory is a uniform sample without replacement of all rows so far, the same as if the
    stream had come row by row (Vitter 1985, doi:10.1145/3147.3165). A size that grows with the
    stream (proportion, images per class x classes seen) cannot bring back rows that were dropped:
    it is filled up from the newest task where the sample of the earlier ones falls short.
    """
    # The rows held, in stream order. Place i of each of the three arrays is of the same row: its
    # key, its position in its task's shard, and its task's place in the stream.
    keys = np.empty(0, dtype=np.uint64)
    rows = tasks = np.empty(0, dtype=np.int64)
    seen, classes = 0, set[int]()
    for position, task in enumerate(stream.tasks):
        count = len(task.labels)
        keys = np.concatenate(
            [keys, seeded_keys(count, stream.seed, "replay", "reservoir", task.number)]
        )
        rows = np.concatenate([rows, np.arange(count)])
        tasks = np.concatenate([tasks, np.full(count, position)])
        seen += count
        classes.update(task.classes)
        held = np.sort(np.argsort(keys, kind="stable")[: size.of_stream(seen, len(classes))])
        keys, rows, tasks = keys[held], rows[held], tasks[held]
    return [rows[tasks == position] for position in range(len(stream.tasks))]
