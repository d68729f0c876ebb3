"""What the finished nodes of a plan, and of others in its store, teach of how long nodes take."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from kaizen.errors import KaizenError
from kaizen.jobs.times import MOST, Sample, Times, sample_of, workload, workload_of
from kaizen.plan.job import Job
from kaizen.plan.specs import StepSpec, read_spec
from kaizen.store.node_id import Kind, NodeId, is_key
from kaizen.store.records import read_record
from kaizen.store.store import Store

# With fewer of the plan's own, those of other plans in the store count, too.
_ENOUGH = 5


def learn(
    jobs: Iterable[Job[Any]], finished: set[NodeId], store: Store, images: Sequence[int] | None
) -> Times:
    """What the finished nodes among ``jobs`` took and, where they are few of a kind that is to be
    made, what the store's newest nodes of other plans did.
    """
    times = Times()
    own: dict[Kind, list[Job[Any]]] = {}
    for job in jobs:
        own.setdefault(job.id.kind, []).append(job)
    for kind, of_kind in own.items():
        done = [job for job in of_kind if job.id in finished]
        for job in done[-MOST:]:
            if sample := sample_of(workload_of(job, images), store.read_run_record(job.id)):
                times.add_own(job, sample)
        if len(done) < len(of_kind) and times.count(kind) < _ENOUGH:
            for node in newest(store, kind, {job.id.key for job in of_kind}, MOST):
                if sample := _foreign(store, node):
                    times.add(sample)
    return times


def newest(store: Store, kind: Kind, but: set[str], most: int) -> list[NodeId]:
    """The store's newest nodes of a kind, at most so many, oldest first, without those whose keys
    are in ``but``.
    """
    try:
        with os.scandir(store.root / kind) as entries:
            found = [(e.stat().st_mtime, e.name) for e in entries if is_key(e.name)]
    except OSError:
        return []
    last = sorted(one for one in found if one[1] not in but)[-most:]
    return [NodeId(kind, key) for _, key in last]


def _foreign(store: Store, node: NodeId) -> Sample | None:
    """What a node of another plan took, as its records say."""
    try:
        record = read_record(store.record_path(node))
        made = store.read_run_record(node)
        if record is None or made is None:
            return None
        spec = read_spec(node.kind, record.params, "its record")
    except KaizenError:
        return None
    processes = made.get("processes", 1)
    count = int(processes) if isinstance(processes, int | float) else 1
    images = None
    if isinstance(spec, StepSpec):
        # How many it saw, as its task's are not known.
        seen = float(made.get("training_seconds", 0)) * float(made.get("images_per_second", 0))
        per_epoch = (
            seen / spec.train.epochs / (1 + (spec.replay_batch_size or 0) / spec.train.batch_size)
        )
        images = [0] * max(spec.tasks) + [round(per_epoch / spec.train.data_fraction)]
        if seen <= 0:
            return None
    return sample_of(workload(node.kind, spec, record.inputs, max(1, count), images), made)
