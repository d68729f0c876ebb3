"""A grid as it is being made, by whoever makes it: what the store shows of it at a moment.

Running nodes are known by their locks, how far they are by what their jobs leave in their working
folders (`kaizen.training.traces`); nothing is asked of the processes themselves, so they may be
those of any Snakemake, cluster or checkout that shares the store. Nothing is changed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from kaizen.jobs.estimate import Left, jobs_at_once, time_left
from kaizen.jobs.learn import learn
from kaizen.jobs.times import Sample, Workload, sample_of, workload_of
from kaizen.plan.job import Job
from kaizen.store.locks import Holder, is_held, read_holder
from kaizen.store.node_id import NodeId
from kaizen.store.processes import this_machine
from kaizen.store.store import Store, names_in
from kaizen.training.traces import Amount, Row, read_amount, read_failure, read_rows

# Of so many last epochs the median is what one takes.
_EPOCHS = 5
# Where locks do not reach across hosts, who wrote a row so many seconds ago, or a few epochs, runs.
_FRESH = 120.0


@dataclass(frozen=True)
class Running:
    """A node that is being made: by whom, its epochs so far, or how much else is done; and the
    seconds that are left, None where nothing says.
    """

    job: Job[Any]
    holder: Holder
    rows: Sequence[Row] = ()
    amount: Amount | None = None
    left: float | None = None


@dataclass(frozen=True)
class Stopped:
    """A node that nobody makes: why its last job failed, or "" where it was stopped half way."""

    job: Job[Any]
    reason: str
    rows: Sequence[Row] = ()


@dataclass(frozen=True)
class Picture:
    """A grid at a moment, ``at`` in seconds since 1970.

    ``blocked`` wait for one that failed; ``waiting`` are the others that nobody makes, those that
    were stopped half way among them, in an order in which they can be made. ``expected`` are the
    seconds that each open node will still take.
    """

    at: float
    total: int
    finished: frozenset[NodeId]
    running: tuple[Running, ...]
    failed: tuple[Stopped, ...]
    stopped: tuple[Stopped, ...]
    waiting: tuple[Job[Any], ...]
    blocked: int
    left: Left
    expected: Mapping[NodeId, float | None] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return len(self.finished) == self.total

    def needs(self, job: Job[Any]) -> int:
        """How many others a node waits for; 0: it is ready."""
        return sum(node not in self.finished for node in set(job.inputs.values()))


@dataclass
class Grid:
    """The nodes of a plan, in an order in which they can be made, and what is known of them.

    ``images`` are the training images of each task, None where they are not known; ``at_once`` how
    many are made at a time, None: as many as were seen, or as this machine has cores for.
    """

    jobs: Sequence[Job[Any]]
    store: Store
    images: Sequence[int] | None = None
    at_once: int | None = None
    finished: set[NodeId] = field(default_factory=set)
    _work: dict[NodeId, Workload] = field(default_factory=dict)
    _most_running: int = 0

    def __post_init__(self) -> None:
        """Learn from what is finished."""
        self.finished |= self.store.finished(job.id for job in self.jobs)
        self.times = learn(self.jobs, self.finished, self.store, self.images)

    def look(self) -> Picture:
        """What the store shows now."""
        self._learn_of_new()
        open_jobs = [job for job in self.jobs if job.id not in self.finished]
        locks, works = names_in(self.store.root / ".locks"), names_in(self.store.root / ".work")
        now = time.time()
        running: dict[NodeId, Running] = {}
        failed: dict[NodeId, Stopped] = {}
        stopped: list[Stopped] = []
        for job in open_jobs:
            name = job.id.file_name
            work = self.store.work_folder(job.id)
            has_work = name in works
            rows = read_rows(work) if has_work else []
            holder = read_holder(self.store.lock_file(job.id)) if name in locks else None
            if holder is not None and self._is_at_work(job, holder, rows, now):
                amount = read_amount(work) if has_work else None
                running[job.id] = Running(job, holder, rows, amount)
            elif has_work and (failure := read_failure(work)):
                failed[job.id] = Stopped(job, failure.message, rows)
            elif rows:
                stopped.append(Stopped(job, "", rows))
        under_way = [s for one in running.values() if (s := self._half_way(one, now))]
        seconds = {job.id: self._estimate(job, under_way) for job in open_jobs}
        for node, one in running.items():
            seconds[node] = _left(one, seconds[node], now)
            running[node] = Running(one.job, one.holder, one.rows, one.amount, seconds[node])
        blocked = _blocked(open_jobs, set(failed))
        coming = [j for j in open_jobs if j.id not in failed and j.id not in blocked]
        self._most_running = max(self._most_running, len(running))
        at_once = self.at_once or max(self._most_running, jobs_at_once(self.jobs))
        return Picture(
            now,
            len(self.jobs),
            frozenset(self.finished),
            tuple(running.values()),
            tuple(failed.values()),
            tuple(stopped),
            tuple(job for job in coming if job.id not in running),
            len(blocked),
            time_left(coming, seconds, self.times, at_once, tuple(running)),
            seconds,
        )

    def took(self, job: Job[Any]) -> float | None:
        """The seconds that a finished node took; None where that is not known."""
        seconds = (self.store.read_run_record(job.id) or {}).get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else None

    def _learn_of_new(self) -> None:
        open_jobs = {job.id: job for job in self.jobs if job.id not in self.finished}
        for node in self.store.finished(open_jobs):
            self.finished.add(node)
            made = self.store.read_run_record(node)
            if sample := sample_of(self._workload(open_jobs[node]), made):
                self.times.add_own(open_jobs[node], sample)

    def _workload(self, job: Job[Any]) -> Workload:
        if job.id not in self._work:
            self._work[job.id] = workload_of(job, self.images)
        return self._work[job.id]

    def _estimate(self, job: Job[Any], under_way: Sequence[Sample]) -> float | None:
        return self.times.estimate(self._workload(job), under_way=under_way)

    def _is_at_work(self, job: Job[Any], holder: Holder, rows: Sequence[Row], now: float) -> bool:
        if is_held(self.store.lock_file(job.id)):
            return True
        if holder.machine in ("", this_machine()):
            return False
        last = rows[-1] if rows else None
        return last is not None and now - last.at < max(_FRESH, _EPOCHS * last.seconds)

    def _half_way(self, one: Running, now: float) -> Sample | None:
        """What a step that is under way teaches of others."""
        if not one.rows:
            return None
        growing = _epoch_seconds(one.rows) * one.rows[-1].epochs
        return Sample(self._workload(one.job), 0.0, growing)


def _epoch_seconds(rows: Sequence[Row]) -> float:
    return median(row.seconds for row in rows[-_EPOCHS:])


def _left(one: Running, estimate: float | None, now: float) -> float | None:
    """The seconds that are left of a running node: by its epochs, by what is done of it, or by what
    others took.
    """
    if one.rows:
        last = one.rows[-1]
        # Before this attempt's first row the last one is of the attempt before.
        since = now - max(last.at, one.holder.since)
        return max(0.0, _epoch_seconds(one.rows) * (last.epochs - last.epoch) - since)
    taken = max(0.0, now - one.holder.since)
    if one.amount is not None and one.amount.done and one.amount.total:
        spent = max(0.0, one.amount.at - one.holder.since)
        whole = spent * one.amount.total / one.amount.done
        return max(0.0, whole - taken)
    return None if estimate is None else max(0.0, estimate - taken)


def _blocked(jobs: Sequence[Job[Any]], failed: set[NodeId]) -> set[NodeId]:
    """Those of ``jobs`` that wait for a failed one."""
    blocked: set[NodeId] = set()
    for job in jobs:
        if job.id not in failed and any(p in failed or p in blocked for p in job.inputs.values()):
            blocked.add(job.id)
    return blocked
