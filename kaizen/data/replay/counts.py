"""How many images a replay shard will hold, from counts of images alone: what the plan knows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from kaizen.data.replay.base import Size
from kaizen.data.schema import UNLABELLED
from kaizen.data.split import deal, turns
from kaizen.params import LabelsParams, SplitParams


def task_counts(
    by: str,
    tasks: Sequence[Sequence[int]],
    images: Sequence[int],
    split: SplitParams,
    labels: LabelsParams,
    unlabelled: int = 0,
) -> list[dict[int, int]]:
    """For each task the number of images by stored label, -1 where it is taken away.

    ``tasks`` are the labels of each, ``images`` the training images of each label, ``unlabelled``
    those without one; for splits by class or data. The counts are those of `kaizen.data.ingest`
    where no image is skipped.
    """
    found = []
    dealt = (
        {
            label: deal(count, len(tasks), split.seed, "train", label)
            for label, count in enumerate(images)
        }
        if by == "data"
        else {}
    )
    without = turns(unlabelled, len(tasks), UNLABELLED)
    for task, classes in enumerate(tasks):
        counts = {
            label: int((dealt[label] == task).sum()) if dealt else images[label]
            for label in classes
        }
        counts[UNLABELLED] = int((without == task).sum())
        found.append(kept_labels(counts, labels))
    return found


def kept_labels(counts: Mapping[int, int], labels: LabelsParams) -> dict[int, int]:
    """The number of images by stored label, from that by true label."""
    found = {UNLABELLED: counts.get(UNLABELLED, 0)}
    for label in counts.keys() - {UNLABELLED}:
        # As `kaizen.data.labels.labelled`.
        found[label] = math.ceil(labels.fraction * counts[label] - 1e-9)
        found[UNLABELLED] += counts[label] - found[label]
    return found


def classes_without_replay(
    policy: str, size: Size, tasks: Sequence[Mapping[int, int]]
) -> list[int]:
    """The labels of which the replay shard that follows ``tasks`` (`task_counts`) holds no labelled
    image, though they have some; none of a policy that does not choose by class.
    """
    if policy == "reservoir":
        return []
    holders = Counter(label for counts in tasks for label in counts if label != UNLABELLED)
    kept = Counter[int]()
    for counts in tasks:
        for label in counts.keys() - {UNLABELLED}:
            of_task = len(tasks) * (len(counts) - 1)
            quota = int(size.amount) // (holders[label] if size.unit == "per_class" else of_task)
            share = size.share(counts[label]) if size.unit == "proportion" else quota
            kept[label] += min(share, counts[label])
    some = {label for counts in tasks for label, count in counts.items() if count}
    return sorted(label for label, count in kept.items() if not count and label in some)


def replay_count(policy: str, size: Size, tasks: Sequence[Mapping[int, int]]) -> int:
    """The rows of the replay shard that follows ``tasks`` (`task_counts`), by what the policies
    choose (`kaizen.data.replay.base.choose_by_group`, `kaizen.data.replay.reservoir`).
    """
    total = sum(sum(counts.values()) for counts in tasks)
    if policy == "reservoir":
        held = seen = 0
        classes = set[int]()
        for counts in tasks:
            seen += sum(counts.values())
            classes.update(counts.keys() - {UNLABELLED})
            held = min(held + sum(counts.values()), size.of_stream(seen, len(classes)))
        return held
    if size.unit == "proportion":
        return sum(size.share(count) for counts in tasks for count in counts.values())
    holders = Counter(label for counts in tasks for label in counts if label != UNLABELLED)
    found = 0
    for counts in tasks:
        left = 0
        for label in counts.keys() - {UNLABELLED}:
            of_task = len(tasks) * (len(counts) - 1)
            quota = int(size.amount) // (holders[label] if size.unit == "per_class" else of_task)
            taken = min(quota, counts[label])
            left += quota - taken
            found += taken
        found += min(left, counts.get(UNLABELLED, 0))
    return min(found, total)
