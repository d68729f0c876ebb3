"""Making a replay shard: what the policy chooses is copied from the earlier tasks' shards, row
group by row group.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kaizen.data.names import shard_file
from kaizen.data.replay.base import Features, Policy, ReplayStream, Size, Task, no_features
from kaizen.data.shards import ShardInfo, ShardWriter, iter_row_groups, read_table, shard_info
from kaizen.errors import KaizenError
from kaizen.params import registry


def make_replay(
    shards: Path,
    task: int,
    policy: str,
    size: Size,
    *,
    seed: int,
    out: Path,
    features: Features = no_features,
) -> None:
    """Write the replay shard of step ``task`` to ``out``: rows that the policy chooses from the
    train shards of the tasks before it, in stream order (by task, in a task by row).

    ``features`` computes a task's features (see `ReplayStream`) for the policies that look at them.
    Raises KaizenError on damaged or missing shards, an unknown policy, and a task that has none
    before it.
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
    sources = [shard_info(shards / shard_file(earlier, "train")) for earlier in range(task)]
    choose: Policy = registry.load(registry.REPLAY_POLICIES[policy].target)
    chosen = choose(ReplayStream(tuple(_task(info) for info in sources), seed, features), size)
    # With splits by data or domain a class is in several tasks.
    names = {
        label: name
        for info in sources
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
        for info, rows in zip(sources, chosen, strict=True):
            _copy(info, rows, writer)


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
