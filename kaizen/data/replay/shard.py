"""Making a replay shard: what the policy chooses is copied from the earlier tasks' shards, row
group by row group.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kaizen.data.replay.base import Features, Policy, ReplayStream, Size, Task, no_features
from kaizen.data.replay.memory import Kept
from kaizen.data.shards import ShardInfo, ShardWriter, iter_row_groups, read_table, shard_info
from kaizen.errors import KaizenError
from kaizen.params import registry


@dataclass(frozen=True)
class Before:
    """The replay shard of the step before, at ``path``, and what it kept of each task."""

    path: Path
    kept: Sequence[Kept]


def make_replay(
    shards: Sequence[Path],
    task: int,
    policy: str,
    size: Size,
    *,
    seed: int,
    out: Path,
    features: Features = no_features,
    before: Before | None = None,
    growing: bool = False,
    without: Collection[int] = (),
) -> list[Kept]:
    """Write the replay shard of step ``task`` to ``out``: rows that the policy chooses from the
    tasks before it, in stream order (by task, in a task by row). Return what is kept of each.

    ``shards`` are the train shards of those tasks, without the first ones that ``before`` holds.
    ``features`` computes a task's features, and ``growing`` says that a later memory goes on from
    this one (see `ReplayStream`). Of the tasks in ``without`` nothing is kept.
    Raises KaizenError on damaged or missing shards, an unknown policy, a task that has none
    before it, and a policy that wants back what it gave up.
    """
    if policy not in registry.REPLAY_POLICIES:
        raise KaizenError(
            f"replay.policy: {policy!r} is unknown; choose one of "
            f"{', '.join(registry.REPLAY_POLICIES)}"
        )
    if task < 1:
        raise KaizenError(
            f"a replay shard holds earlier tasks' images, and task {task} has none; ask for task "
            "1 or later"
        )
    old = before.kept if before else []
    sources = [shard_info(path) for path in shards]
    tasks = (*(kept.task for kept in old), *(_task(info) for info in sources))
    choose: Policy = registry.load(registry.REPLAY_POLICIES[policy].target)
    known = {kept.task.number: kept.rows for kept in old}
    chosen = choose(ReplayStream(tasks, seed, features, known, growing), size)
    none = np.empty(0, dtype=np.int64)
    chosen = [
        none if task.number in without else rows for task, rows in zip(tasks, chosen, strict=True)
    ]
    # In several tasks, a class may come back.
    infos = [shard_info(before.path), *sources] if before else sources
    names = {
        label: name
        for info in infos
        for label, name in zip(info.classes, info.class_names, strict=True)
    }
    with ShardWriter(
        out,
        dataset=sources[0].dataset,
        part="replay",
        task=task,
        classes=list(names),
        class_names=list(names.values()),
    ) as writer:
        if before:
            _copy(infos[0], _positions(old, chosen[: len(old)]), writer)
        for info, rows in zip(sources, chosen[len(old) :], strict=True):
            _copy(info, np.sort(rows), writer)
    return [Kept(task, rows) for task, rows in zip(tasks, chosen, strict=True)]


def _positions(old: Sequence[Kept], chosen: Sequence[np.ndarray]) -> np.ndarray:
    """Where the rows ``chosen`` of each task lie in the replay shard before: int64, ascending."""
    found, start = [np.empty(0, dtype=np.int64)], 0
    for kept, rows in zip(old, chosen, strict=True):
        there = np.sort(kept.rows)
        if not np.isin(rows, there).all():
            raise KaizenError(
                f"replay.policy: it wants images of task {kept.task.number} back that it gave up "
                "before; its memories must be nested"
            )
        found.append(start + np.searchsorted(there, np.sort(rows)))
        start += len(there)
    return np.concatenate(found)


def _task(info: ShardInfo) -> Task:
    labels = read_table(info.path, ["label"]).column("label").to_numpy()
    return Task(info.task, info.classes, labels)


def _copy(info: ShardInfo, rows: np.ndarray, writer: ShardWriter) -> None:
    """Append the given rows (ascending) of a shard to the replay shard, reading only their row
    groups.
    """
    starts = np.cumsum([0, *info.row_groups])
    bounds = np.searchsorted(rows, starts)
    groups = [group for group in range(len(info.row_groups)) if bounds[group] < bounds[group + 1]]
    for group, table in zip(groups, iter_row_groups(info.path, groups), strict=True):
        writer.write_table(table.take(rows[bounds[group] : bounds[group + 1]] - starts[group]))
