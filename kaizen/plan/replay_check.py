"""Refusing a replay memory that would be empty, before anything is made."""

from __future__ import annotations

from kaizen.data.replay.base import Size
from kaizen.data.replay.counts import kept_labels, replay_count, task_counts
from kaizen.errors import KaizenError
from kaizen.plan.draft import Draft
from kaizen.plan.point import size_text
from kaizen.plan.step_nodes import variant_switches


def refuse_empty_replay(draft: Draft) -> None:
    """Raise KaizenError where a variant of the grid replays, and a size above 0 comes to no image
    at some step: that would be the variant without replay under another name.

    Where the source does not know its numbers of images, or the stream is split by domain, the job
    that chooses them refuses instead.
    """
    params, stream, images = draft.params, draft.stream, draft.facts.train_counts
    arrivals = draft.facts.arrivals
    replaying = [name for name in params.grid.variants if variant_switches(params, name).replay]
    if not replaying or not (images or arrivals) or stream.by == "domain":
        return
    unlabelled = draft.facts.unlabelled_images
    tasks = (
        [kept_labels(arrival.counts("train"), params.labels) for arrival in arrivals]
        if arrivals
        else task_counts(stream.by, stream.classes, images, params.split, params.labels, unlabelled)
    )
    for unit, sizes in params.replay.sizes().items():
        for amount in sizes:
            for task in range(1, len(tasks)) if amount else ():
                if replay_count(params.replay.policy, Size(unit, amount), tasks[:task]) == 0:
                    raise empty_replay(unit, amount, task, replaying[0])


def empty_replay(unit: str, amount: float, task: int, variant: str | None = None) -> KaizenError:
    """The error of a replay size that leaves step ``task`` nothing to replay."""
    who = f"; the variant {variant} would be one without replay" if variant else ""
    rule = (
        "a share of each class is rounded down"
        if unit == "proportion"
        else "it is divided over tasks and classes and rounded down"
    )
    return KaizenError(
        f"replay.{unit}: {size_text(amount, unit)} of the earlier tasks comes to no image at step "
        f"{task} ({rule}){who}; raise it, or take a variant without replay"
    )
