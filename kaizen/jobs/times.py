"""How long a node will take, from what finished ones took: a plain rule, with its own error.

A node's time is a fixed part (loading, which a step records) and the rest, in proportion to its
size: a step's images times its epochs (a third more with a teacher), an evaluation's steps. Both
are medians over finished nodes that are most alike; see `workload`. The error is what this rule
gets wrong of the finished nodes, each estimated from the others (leave-one-out).
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import canonical_json
from kaizen.params.typed import to_dict
from kaizen.plan.data_specs import ShardsSpec
from kaizen.plan.job import Job
from kaizen.plan.roles import step_roles
from kaizen.plan.specs import EvaluationSpec, HeadSpec, ReplaySpec, StepSpec, SummarySpec, read_spec
from kaizen.store.node_id import Kind, NodeId, is_key
from kaizen.store.records import read_record
from kaizen.store.store import Store

# So many finished nodes of a kind are looked at.
_MOST = 100
# With fewer of the plan's own, those of other plans in the store count, too.
_ENOUGH = 5
# The error is what this share of the finished nodes kept to; of fewer than so many none is given.
_WITHIN = 0.8
_FEWEST = 3
_LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class Workload:
    """What a node's time depends on: its kind; what it must have in common with others, from most
    to nothing; and its size, in a unit that those of ``alike`` share.
    """

    kind: Kind
    alike: tuple[str, ...]
    size: float


@dataclass(frozen=True)
class Sample:
    """A finished node: its fixed seconds, and those that grow with its size."""

    workload: Workload
    fixed: float
    growing: float

    @property
    def seconds(self) -> float:
        """All of its seconds."""
        return self.fixed + self.growing


def workload(
    kind: Kind,
    spec: Any,
    roles: Iterable[str],
    processes: int = 1,
    images: Sequence[int] | None = None,
) -> Workload:
    """The workload of a node by its specification and its inputs' roles; ``images`` are the
    training images of each task, None where they are not known.

    Alike are first nodes of one method, network, batch and machine settings, then of one network
    and settings, then all of the kind.
    """
    if isinstance(spec, StepSpec):
        train, model = spec.train, spec.model
        replay = spec.replay_batch_size or 0
        known = images is not None and all(task < len(images) for task in spec.tasks)
        of_tasks = sum(images[task] for task in spec.tasks) if images and known else len(spec.tasks)
        size = train.epochs * of_tasks * train.data_fraction * (1 + replay / train.batch_size)
        network = [model.backbone, model.width, model.stem, spec.image.size, spec.image.channels]
        settings = [known, *network, train.device, train.precision, train.threads, processes]
        distils = [spec.feature_distill is not None, spec.classifier_distill is not None]
        # The teacher goes forward only, a third of what the student does forward and backward.
        size *= 1 + any(distils) / 3
        close = [spec.method, train.batch_size, replay, *distils, *settings]
        return Workload(kind, (_text(close), _text(settings), _text([known])), max(size, 1e-9))
    size, close = 1.0, []
    if isinstance(spec, ShardsSpec):
        size = float(sum(images)) if images else 1.0
        close = [bool(images), spec.dataset.source]
    elif isinstance(spec, ReplaySpec):
        close = [spec.policy, spec.compute is not None]
    elif isinstance(spec, EvaluationSpec):
        size = float(max(1, len(step_roles(roles))))
        close = [spec.step is None, len(spec.tasks), to_dict(spec.evaluation), spec.heads or []]
        close.append(to_dict(spec.compute))
    elif isinstance(spec, HeadSpec):
        size = float(max(1, len(spec.tasks)))
        close = [sorted(spec.kinds), to_dict(spec.heads), to_dict(spec.compute)]
    elif isinstance(spec, SummarySpec):
        size = float(max(1, len(spec.runs)))
    return Workload(kind, (_text(close), ""), size)


def workload_of(job: Job[Any], images: Sequence[int] | None) -> Workload:
    """As `workload`, of a job."""
    processes = job.local.processes * job.local.hosts
    return workload(job.id.kind, job.spec, job.inputs, processes, images)


class Times:
    """What finished nodes took, and estimates from that."""

    def __init__(self) -> None:
        """Know nothing."""
        self._of_kind: dict[Kind, list[Sample]] = {}
        self._alike: dict[tuple[Kind, str], list[Sample]] = {}
        self._errors: dict[Kind, float | None] = {}
        # When the plan's own began and ended, in seconds since 1970.
        self._spans: list[tuple[float, float]] = []

    def add(self, sample: Sample) -> None:
        """Learn from a finished node."""
        work = sample.workload
        self._of_kind.setdefault(work.kind, []).append(sample)
        for alike in work.alike:
            self._alike.setdefault((work.kind, alike), []).append(sample)
        self._errors.pop(work.kind, None)

    def add_span(self, made: dict[str, Any] | None) -> None:
        """Learn how nodes follow each other from the run record of one of the plan's."""
        if made is not None and "began" in made and "seconds" in made:
            began = float(made["began"])
            self._spans.append((began, began + float(made["seconds"])))

    def pause(self) -> float:
        """The seconds from the end of a node to the beginning of the next, the median of those
        under a minute; 0 where nothing is known.
        """
        ends = sorted(end for _, end in self._spans)
        places = ((began, bisect.bisect_right(ends, began)) for began, _ in self._spans)
        pauses = [began - ends[place - 1] for began, place in places if place]
        pauses = [pause for pause in pauses if pause < _LONGEST_PAUSE]
        return median(pauses) if pauses else 0.0

    def count(self, kind: Kind) -> int:
        """How many nodes of a kind it knows."""
        return len(self._of_kind.get(kind, []))

    def estimate(
        self, work: Workload, without: Sample | None = None, under_way: Sequence[Sample] = ()
    ) -> float | None:
        """The seconds that a node will take; None where none of its kind has finished.

        ``without`` does not count; ``under_way`` do, beside the finished ones: steps half way.
        """
        for alike in work.alike:
            found = [s for s in self._alike.get((work.kind, alike), []) if s is not without]
            found = found[-_MOST:]
            also = [
                s for s in under_way if alike in s.workload.alike and s.workload.kind is work.kind
            ]
            if found or also:
                rate = median(s.growing / s.workload.size for s in [*found, *also])
                fixed = median(s.fixed for s in found or also)
                return fixed + rate * work.size
        return None

    def error(self, kind: Kind) -> float | None:
        """By how much estimates of a kind were wrong, relative to what the nodes took: four of five
        were off by no more. None where too few have finished to say.
        """
        if kind not in self._errors:
            wrong = []
            for sample in self._of_kind.get(kind, [])[-_MOST:]:
                estimate = self.estimate(sample.workload, without=sample)
                if estimate is not None:
                    wrong.append(abs(estimate - sample.seconds) / max(sample.seconds, 1e-3))
            wrong.sort()
            enough = len(wrong) >= _FEWEST
            place = min(len(wrong) - 1, int(_WITHIN * len(wrong)))
            self._errors[kind] = wrong[place] if enough else None
        return self._errors[kind]


def sample_of(work: Workload, made: dict[str, Any] | None) -> Sample | None:
    """What a finished node's run record (`Store.read_run_record`) teaches; None where it does not
    say how long it took.
    """
    seconds = (made or {}).get("seconds")
    if made is None or not isinstance(seconds, int | float) or seconds <= 0:
        return None
    training = made.get("training_seconds")
    growing = float(seconds)
    if isinstance(training, int | float):
        growing = min(float(training), growing)
    return Sample(work, float(seconds) - growing, growing)


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
        for job in done[-_MOST:]:
            made = store.read_run_record(job.id)
            times.add_span(made)
            if sample := sample_of(workload_of(job, images), made):
                times.add(sample)
        if len(done) < len(of_kind) and times.count(kind) < _ENOUGH:
            for node in newest(store, kind, {job.id.key for job in of_kind}, _MOST):
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


def _text(value: Any) -> str:
    return canonical_json(value)
