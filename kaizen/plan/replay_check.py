"""Refusing a replay memory that would be empty, and naming the classes that it would hold nothing
of, before anything is made.
"""

from __future__ import annotations

from kaizen.data.replay.base import Size
from kaizen.data.replay.counts import (
    classes_without_replay,
    kept_labels,
    replay_count,
    task_counts,
)
from kaizen.data.split import Stream
from kaizen.errors import KaizenError, names_text
from kaizen.params import Params, ReplayUnit, registry
from kaizen.plan.draft import Draft, stream_of
from kaizen.plan.nodes import DatasetFacts
from kaizen.plan.point import size_text
from kaizen.plan.step_nodes import variant_switches


def refuse_empty_replay(draft: Draft) -> None:
    """Raise KaizenError where a variant of the grid replays, and a size above 0 comes to no image
    at some step: that would be the variant without replay under another name.

    Where the source does not know its numbers of images, or the stream is split by domain, the job
    that chooses them refuses instead.
    """
    params = draft.params
    tasks = _counts(params, draft.facts, draft.stream)
    for unit, amount in _sizes(params):
        for task in range(1, len(tasks)):
            if replay_count(params.replay.policy, Size(unit, amount), tasks[:task]) == 0:
                raise empty_replay(unit, amount, task, _replaying(params)[0])


def lost_classes(params: Params, facts: DatasetFacts) -> list[str]:
    """A sentence for each replay size that comes to no image of some classes, from the step on
    where it does first; none where the plan does not know the numbers.
    """
    tasks = _counts(params, facts, stream_of(params, facts))
    what = "image" if params.labels.fraction == 1 else "labelled image"
    found = []
    for unit, amount in _sizes(params):
        named: set[int] = set()
        for task in range(1, len(tasks)):
            size = Size(unit, amount)
            lost = set(classes_without_replay(params.replay.policy, size, tasks[:task])) - named
            if lost:
                names = names_text([facts.classes[label] for label in sorted(lost)])
                found.append(
                    f"replay.{unit}: {size_text(amount, unit)} comes to no {what} of {names} from "
                    f"step {task} on ({_rule(unit)}); raise it if they are to be replayed"
                )
            named |= lost
    return found


def replays_images(params: Params) -> bool:
    """Whether variants that replay do so by images of a replay shard, not by pseudo-features."""
    return registry.REPLAY_POLICIES[params.replay.policy].images


def _replaying(params: Params) -> list[str]:
    """The variants of the grid that replay."""
    return [name for name in params.grid.variants if variant_switches(params, name).replay]


def _counts(params: Params, facts: DatasetFacts, stream: Stream) -> list[dict[int, int]]:
    """The tasks' counts (`task_counts`); empty where nothing replays or they are not known."""
    if not _replaying(params) or not replays_images(params):
        return []
    if facts.arrivals:
        return [kept_labels(arrival.counts("train"), params.labels) for arrival in facts.arrivals]
    images, unlabelled = facts.train_counts, facts.unlabelled_images
    if not images or stream.by == "domain":
        return []
    return task_counts(
        stream.by,
        stream.classes,
        images,
        params.split,
        params.labels,
        unlabelled=unlabelled,
    )


def _sizes(params: Params) -> list[tuple[ReplayUnit, float]]:
    """The replay sizes above 0, each with its unit."""
    sizes = params.replay.sizes().items() if replays_images(params) else ()
    return [(unit, amount) for unit, amounts in sizes for amount in amounts if amount]


def _rule(unit: str) -> str:
    if unit == "proportion":
        return "a share of each class is rounded down"
    return "it is divided over tasks and classes and rounded down"


def empty_replay(unit: str, amount: float, task: int, variant: str | None = None) -> KaizenError:
    """The error of a replay size that leaves step ``task`` nothing to replay."""
    who = f"; the variant {variant} would be one without replay" if variant else ""
    return KaizenError(
        f"replay.{unit}: {size_text(amount, unit)} of the earlier tasks comes to no image at step "
        f"{task} ({_rule(unit)}){who}; raise it, or take a variant without replay"
    )
