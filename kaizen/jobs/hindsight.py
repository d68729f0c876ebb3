"""How long jobs take together; and how wrong that was so far in a plan that is under way: what one
would have said earlier of the nodes that have ended since, and what these took.

What one node takes says little of the whole: how nodes wait for each other, for a cluster's queue
or for other programs is seen only here.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kaizen.jobs.parallel import heights
from kaizen.jobs.times import NOT_KNOWN, Sample, Times, off_by
from kaizen.plan.job import Job
from kaizen.store.node_id import Kind, NodeId

# When one looks back: after these shares of the nodes that have ended.
_SHARES = (0.25, 0.5, 0.75)
# Of the nodes that ended last so many count. With fewer than so many nothing can be said.
_MOST, _FEWEST = 200, 8
# While nobody made anything, no more than that went by: a plan may lie still over night.
_LONGEST_PAUSE = 60.0
# What a node of another kind takes, as a share of a step, where nothing else is known: about what
# was measured of several grids. Only whether an estimate is given depends on it.
_OF_A_STEP = 1 / 3
# Ten times as long: more is said of nothing.
_WORST = 9.0


def off_so_far(times: Times) -> float:
    """How wrong the time that is left was estimated before, as `Times.error` has it; at least 1
    where too few nodes have ended to say.
    """
    own = sorted(times.own, key=_ended)[-_MOST:]
    if len(own) < _FEWEST:
        return NOT_KNOWN
    if times.looked_back is None or times.looked_back[0] != len(times.own):
        found = [_off_since(times, own, int(share * len(own)) - 1) for share in _SHARES]
        wrong = [one for one in found if one is not None]
        times.looked_back = len(times.own), min(_WORST, max(wrong, default=NOT_KNOWN))
    return times.looked_back[1]


def mostly_unknown(unknown: Iterable[Kind], seconds: float, times: Times) -> bool:
    """Whether most of the work is of nodes of kinds that are ``unknown``, one entry each, beside
    what takes so many seconds; steps are most of it in any case.
    """
    kinds = list(unknown)
    typical = _OF_A_STEP * times.median_seconds(Kind.STEP)
    return Kind.STEP in kinds or len(kinds) * typical > seconds


def _off_since(times: Times, own: Sequence[tuple[Job[Any], Sample]], place: int) -> float | None:
    """How wrong it was when the node at ``place`` ended; None where nothing was said then."""
    then = _ended(own[place])
    known = times.until(then)
    seconds: dict[NodeId, float] = {}
    unknown: list[Kind] = []
    running = set()
    pause = known.pause()
    for job, sample in own[place + 1 :]:
        estimate = known.estimate(sample.workload)
        began = sample.began or 0.0
        if began <= then:
            running.add(job.id)
        if estimate is None:
            unknown.append(job.id.kind)
        else:
            # Of nodes that ran, what was left; to others the pause before them is added.
            spent = then - began if began <= then else -pause
            seconds[job.id] = max(0.0, estimate - spent)
    if mostly_unknown(unknown, sum(seconds.values()), known):
        return None
    jobs = _in_order([job for job, _ in own[place + 1 :]])
    lengths = {job.id: seconds.get(job.id, 0.0) for job in jobs}
    said = makespan(jobs, lengths, _at_once(own), running)
    return off_by(said, _busy(own, then)) if said else None


def _ended(one: tuple[Job[Any], Sample]) -> float:
    return one[1].ended or 0.0


def _in_order(jobs: Sequence[Job[Any]]) -> list[Job[Any]]:
    """Jobs after what they need; one that ended later needs none that ended before."""
    place = {job.id: number for number, job in enumerate(jobs)}
    level: dict[NodeId, int] = {}
    for job in jobs:
        level[job.id] = 1 + max((level.get(p, 0) for p in job.inputs.values()), default=0)
    return sorted(jobs, key=lambda job: (level[job.id], place[job.id]))


def _at_once(own: Sequence[tuple[Job[Any], Sample]]) -> int:
    """How many nodes were made at a time, at most."""
    changes = [(sample.began or 0.0, 1) for _, sample in own] + [(_ended(one), -1) for one in own]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def _busy(own: Sequence[tuple[Job[Any], Sample]], then: float) -> float:
    """The seconds from a moment to the last end, with pauses of a minute at most."""
    total, until = 0.0, then
    for _, sample in sorted(own, key=lambda one: one[1].began or 0.0):
        began, ended = sample.began or 0.0, sample.ended or 0.0
        if ended <= until:
            continue
        total += min(max(0.0, began - until), _LONGEST_PAUSE) + ended - max(began, until)
        until = ended
    return total


def makespan(
    jobs: Sequence[Job[Any]], seconds: Mapping[NodeId, float], at_once: int, running: set[NodeId]
) -> float:
    """When the last of ``jobs`` ends, in seconds from now."""
    height = heights(jobs)
    children: dict[NodeId, list[NodeId]] = {}
    waits: dict[NodeId, int] = {}
    ready: list[tuple[bool, int, int, NodeId]] = []
    place = {job.id: number for number, job in enumerate(jobs)}
    for job in jobs:
        parents = {parent for parent in job.inputs.values() if parent in place}
        waits[job.id] = len(parents)
        for parent in parents:
            children.setdefault(parent, []).append(job.id)
        if not parents:
            heapq.heappush(ready, _turn(job.id, running, height, place))
    now = 0.0
    ends: list[tuple[float, int, NodeId]] = []
    while ready or ends:
        while ready and len(ends) < at_once:
            node = heapq.heappop(ready)[-1]
            heapq.heappush(ends, (now + seconds[node], place[node], node))
        now, _, ended = heapq.heappop(ends)
        for child in children.get(ended, []):
            waits[child] -= 1
            if not waits[child]:
                heapq.heappush(ready, _turn(child, running, height, place))
    return now


def _turn(
    node: NodeId, running: set[NodeId], height: Mapping[NodeId, int], place: Mapping[NodeId, int]
) -> tuple[bool, int, int, NodeId]:
    return node not in running, -height[node], place[node], node
