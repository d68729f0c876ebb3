"""What is left to do and how long it may take, from the times of what is done."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kaizen.files import counted
from kaizen.jobs.hindsight import makespan, mostly_unknown, off_so_far
from kaizen.jobs.learn import learn
from kaizen.jobs.times import Times, workload_of
from kaizen.plan.job import Job
from kaizen.plan.memory import images_of_tasks
from kaizen.plan.specs import StepSpec
from kaizen.store.node_id import Kind, NodeId

if TYPE_CHECKING:
    from kaizen.jobs.workflow import Workflow


@dataclass(frozen=True)
class Left:
    """How long what is left takes: seconds, by how much that may be wrong (None: nothing says),
    and the kinds of which nothing is known, which are not in it, and may be most of the work.
    """

    seconds: float
    error: float | None
    unknown: tuple[Kind, ...] = ()
    jobs: int = 1
    mostly_unknown: bool = False

    @property
    def is_given(self) -> bool:
        """Whether enough is known to give an estimate."""
        return not self.unknown or (bool(self.seconds) and not self.mostly_unknown)

    def __str__(self) -> str:
        if not self.is_given:
            kind = Kind.STEP if Kind.STEP in self.unknown else self.unknown[0]
            return f"no estimate yet: no {kind} has finished"
        text = f"about {duration(self.seconds)} left"
        if self.error is not None:
            low, high = self.seconds / (1 + self.error), self.seconds * (1 + self.error)
            if duration(low) != duration(high):
                text += f" ({duration(low)} to {duration(high)})"
        if self.jobs > 1:
            text += f", {self.jobs} at a time"
        if self.unknown:
            others = len(self.unknown) - 1
            more = f" and {counted(others, 'other kind')}" if others else ""
            text += f"; without {self.unknown[0]}{more}"
        return text


def time_left(
    jobs: Sequence[Job[Any]],
    seconds: Mapping[NodeId, float | None],
    times: Times,
    at_once: int,
    running: Sequence[NodeId] = (),
) -> Left:
    """How long ``jobs``, in an order in which they can be made, take with so many at once.

    ``seconds`` are those of each, of the ``running`` ones what is left. The longest chains begin
    first, as `kaizen run -j` does it. The errors of nodes of a kind add up, as they have one cause;
    the whole is at least as wrong as it was before in this plan (`kaizen.jobs.hindsight`).
    """
    unknown = [job.id.kind for job in jobs if seconds.get(job.id) is None]
    # Between two nodes a process starts, and whoever starts it looks around.
    usual, under_way = times.pause(), set(running)
    pause = {job.id: 0.0 if job.id in under_way else usual for job in jobs}
    known = {job.id: (seconds.get(job.id) or 0.0) for job in jobs}
    total = sum(known.values())
    weighed = sum(length * times.error(node.kind) for node, length in known.items() if length)
    error = max(weighed / total, off_so_far(times)) if total else None
    with_pauses = {node: length and pause[node] + length for node, length in known.items()}
    length = makespan(jobs, with_pauses, max(1, at_once), set(running))
    kinds = tuple(kind for kind in Kind if kind in unknown)
    mostly = mostly_unknown(unknown, total, times)
    return Left(length, error, kinds, at_once, mostly_unknown=mostly)


def jobs_at_once(jobs: Sequence[Job[Any]]) -> int:
    """How many steps `snakemake` alone makes at a time on this machine: as many as it has cores
    for.
    """
    used = [
        job.local.processes * job.spec.train.threads
        for job in jobs
        if isinstance(job.spec, StepSpec)
    ]
    return max(1, len(os.sched_getaffinity(0)) // max(1, *used)) if used else 1


def work_left(
    workflow: Workflow, at_once: int | None = None
) -> tuple[Left, Mapping[NodeId, float | None]]:
    """How long the missing nodes of a plan take, all of them and each in seconds (None: nothing
    says).
    """
    jobs = [node.job() for node in workflow.plan.nodes.values()]
    done = workflow.all_done()
    images = images_of_tasks(workflow.plan)
    times = learn(jobs, done, workflow.store, images)
    missing = [job for job in jobs if job.id not in done]
    seconds = {job.id: times.estimate(workload_of(job, images)) for job in missing}
    return time_left(missing, seconds, times, at_once or jobs_at_once(jobs)), seconds


def describe_work(workflow: Workflow) -> str:
    """One line: the missing nodes by kind, and their time one after the other, where every kind
    has finished before.
    """
    missing = workflow.missing()
    if not missing:
        return "nothing is left to run"
    counts = Counter(node.kind for node in missing)
    jobs = ", ".join(f"{counts[kind]} {kind}" for kind in Kind if counts[kind])
    left, _ = work_left(workflow, at_once=1)
    if not left.seconds:
        return f"to run: {jobs}; how long that takes is not known before something has run"
    unknown = ", ".join(left.unknown)
    but = f" (without {unknown}, of which none has run yet)" if unknown else ""
    return f"to run: {jobs}; about {duration(left.seconds)} one after the other{but}"


def duration(seconds: float) -> str:
    """A time for people: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
