"""Replay shards: the few images of earlier tasks that a step may train on again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kaizen.data.shards import ShardInfo, ShardWriter, iter_row_groups, read_table, shard_info
from kaizen.data.split import seeded_order
from kaizen.errors import KaizenError

Policy = Callable[[int, int, int, tuple[str | int, ...]], np.ndarray]


def first_n(rows: int, count: int, seed: int, group: tuple[str | int, ...]) -> np.ndarray:
    """The first ``count`` of a group's ``rows`` rows in dataset order: the reference's rule (fidelity.md §7)."""
    return np.arange(min(count, rows))


def balanced_random(rows: int, count: int, seed: int, group: tuple[str | int, ...]) -> np.ndarray:
    """``count`` of a group's rows at random, ascending; a smaller count's choice is part of a larger one's.

    It depends on the seed and the group (a class, or a task's unlabelled rows) alone, so it is the same at each step.
    """
    return np.sort(seeded_order(rows, seed, "replay", *group)[:count])


POLICIES: dict[str, Policy] = {"first_n": first_n, "balanced_random": balanced_random}


def make_replay(
    shards: Path,
    task: int,
    policy: str,
    proportion: float | None,
    memory: int | None,
    seed: int,
    out: Path,
) -> dict[str, Any]:
    """Write the replay shard of step ``task`` from the train shards of the tasks before it.

    Of a class with m labelled rows the policy chooses int(m * proportion), or (memory // task) // classes per task
    (fidelity.md §7), or the smaller of both if both are given. Unlabelled rows form one further group per task,
    since their class is not known: a proportion of them, or of the task's memory what its classes left empty.
    Rows are in order of task, class in the task's order (unlabelled last), and dataset order within.
    Raises KaizenError on damaged or missing shards and on sizes that cannot be.
    """
    _check(task, policy, proportion, memory)
    sources = [shard_info(shards / f"task-{earlier:02d}.train.parquet") for earlier in range(task)]
    writer = ShardWriter(
        out,
        dataset=sources[0].dataset,
        part="replay",
        task=task,
        classes=[label for info in sources for label in info.classes],
        class_names=[name for info in sources for name in info.class_names],
    )
    choose = POLICIES[policy]
    counts: list[dict[str, Any]] = []
    with writer:
        for earlier, info in enumerate(sources):
            labels = read_table(info.path, ["label"]).column("label").to_numpy()
            budget = None if memory is None else (memory // task) // len(info.classes)
            taken: dict[str, int] = {}
            for label in info.classes:
                members = np.flatnonzero(labels == label)
                rows = members[choose(len(members), _size(len(members), proportion, budget), seed, ("class", label))]
                taken[str(label)] = len(rows)
                _copy(info, rows, writer)
            unlabelled = np.flatnonzero(labels == -1)
            left = None if budget is None else budget * len(info.classes) - sum(taken.values())
            rows = unlabelled[
                choose(len(unlabelled), _size(len(unlabelled), proportion, left), seed, ("task", earlier))
            ]
            _copy(info, rows, writer)
            counts.append({"task": earlier, "classes": taken, "unlabelled": len(rows)})
    return {"task": task, "rows": writer.rows, "content_sha256": writer.content_sha256, "from": counts}


def _check(task: int, policy: str, proportion: float | None, memory: int | None) -> None:
    if policy not in POLICIES:
        raise KaizenError(f"replay.policy: {policy!r} is unknown; choose one of {', '.join(POLICIES)}")
    if task < 1:
        raise KaizenError(
            f"a replay shard holds earlier tasks' images, and task {task} has none; ask for task 1 or later"
        )
    if proportion is None and memory is None:
        raise KaizenError("replay.proportion and replay.memory are both null; set one of them")
    if proportion is not None and not 0 <= proportion <= 1:
        raise KaizenError(f"replay.proportion: {proportion} must be a share between 0 and 1")
    if memory is not None and memory < 0:
        raise KaizenError(f"replay.memory: {memory} must not be negative")


def _size(rows: int, proportion: float | None, budget: int | None) -> int:
    """How many of a group's rows are taken, at most."""
    # The guard keeps 0.29 * 100 = 28.999999999999996 from becoming 28.
    share = rows if proportion is None else math.floor(rows * proportion + 1e-9)
    return share if budget is None else min(share, budget)


def _copy(info: ShardInfo, rows: np.ndarray, writer: ShardWriter) -> None:
    """Append the given rows (ascending) of a shard to the replay shard, reading only their row groups."""
    starts = np.cumsum([0, *info.row_groups])
    bounds = np.searchsorted(rows, starts)
    groups = [group for group in range(len(info.row_groups)) if bounds[group] < bounds[group + 1]]
    tables: Iterator[pa.Table] = iter_row_groups(info.path, groups)
    for group, table in zip(groups, tables, strict=True):
        writer.write_table(table.take(rows[bounds[group] : bounds[group + 1]] - starts[group]))
