"""How long a node will take, from what finished ones took: a plain rule, with its own error.

A node's time is a fixed part (loading, which a step records) and the rest, in proportion to its
size: a step's images times its epochs (a third more with a teacher), an evaluation's steps. Both
are medians over finished nodes that are most alike; see `workload`. The error is what this rule
got wrong of the finished nodes, each estimated from those that had finished when it began, as one
would have done then.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from kaizen.files import canonical_json
from kaizen.params.typed import to_dict
from kaizen.plan.data_specs import ShardsSpec
from kaizen.plan.job import Job
from kaizen.plan.roles import step_roles
from kaizen.plan.specs import EvaluationSpec, HeadSpec, ReplaySpec, StepSpec, SummarySpec
from kaizen.store.node_id import Kind

# So many finished nodes of a kind are looked at.
MOST = 100
# The error is what this share of the finished nodes kept to; of fewer than so many it is not known,
# and at least that of half to twice.
_WITHIN = 0.8
_FEWEST = 3
NOT_KNOWN = 1.0
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
    """A finished node: its fixed seconds, and those that grow with its size; when it began, in
    seconds since 1970, where that is known.
    """

    workload: Workload
    fixed: float
    growing: float
    began: float | None = None

    @property
    def seconds(self) -> float:
        """All of its seconds."""
        return self.fixed + self.growing

    @property
    def ended(self) -> float | None:
        """When it ended."""
        return None if self.began is None else self.began + self.seconds


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
        self._wrong: dict[Kind, list[float]] = {}
        self.own: list[tuple[Job[Any], Sample]] = []
        """The plan's own nodes of which it is known when they were made."""
        self.looked_back: tuple[int, float] | None = None
        """What `kaizen.jobs.hindsight` found of so many of them."""

    def add(self, sample: Sample) -> None:
        """Learn from a finished node."""
        work = sample.workload
        self._of_kind.setdefault(work.kind, []).append(sample)
        for alike in work.alike:
            self._alike.setdefault((work.kind, alike), []).append(sample)
        self._wrong.pop(work.kind, None)

    def add_own(self, job: Job[Any], sample: Sample) -> None:
        """Learn from one of the plan's nodes: also how they follow each other."""
        self.add(sample)
        if sample.began is not None:
            self.own.append((job, sample))

    def until(self, moment: float) -> Times:
        """What was known at a moment, in seconds since 1970."""
        times = Times()
        for samples in self._of_kind.values():
            for sample in samples:
                if sample.ended is not None and sample.ended <= moment:
                    times.add(sample)
        times.own = [(job, s) for job, s in self.own if s.ended is not None and s.ended <= moment]
        return times

    def pause(self) -> float:
        """The seconds from the end of a node to the beginning of the next, the median of those
        under a minute; 0 where nothing is known.
        """
        spans = [(s.began, s.ended) for _, s in self.own if s.began is not None and s.ended]
        ends = sorted(end for _, end in spans)
        places = ((began, bisect.bisect_right(ends, began)) for began, _ in spans)
        pauses = [began - ends[place - 1] for began, place in places if place]
        pauses = [pause for pause in pauses if pause < _LONGEST_PAUSE]
        return median(pauses) if pauses else 0.0

    def count(self, kind: Kind) -> int:
        """How many nodes of a kind it knows."""
        return len(self._of_kind.get(kind, []))

    def median_seconds(self, kind: Kind) -> float:
        """What a node of a kind took, whatever its size; 0 where none has finished."""
        return median(s.seconds for s in self._of_kind[kind]) if self.count(kind) else 0.0

    def estimate(self, work: Workload, under_way: Sequence[Sample] = ()) -> float | None:
        """The seconds that a node will take; None where none of its kind has finished.

        ``under_way`` count beside the finished ones: steps half way.
        """
        for alike in work.alike:
            found = self._alike.get((work.kind, alike), [])[-MOST:]
            also = [
                s for s in under_way if alike in s.workload.alike and s.workload.kind is work.kind
            ]
            if found or also:
                return _estimate(work, found, also)
        return None

    def error(self, kind: Kind) -> float:
        """By how much estimates of a kind were wrong: four of five nodes took from 1 / (1 + error)
        of what was estimated to (1 + error) times that; at least 1 where too few have finished to
        say.
        """
        wrong = self._were_wrong(kind)
        if self.says(kind):
            return wrong[min(len(wrong) - 1, int(_WITHIN * len(wrong)))]
        return max([*wrong, NOT_KNOWN])

    def says(self, kind: Kind) -> bool:
        """Whether enough nodes of a kind have finished to say how wrong estimates of it are."""
        return len(self._were_wrong(kind)) >= _FEWEST

    def _were_wrong(self, kind: Kind) -> list[float]:
        if kind not in self._wrong:
            self._wrong[kind] = sorted(_wrong(self._of_kind.get(kind, [])[-MOST:]))
        return self._wrong[kind]


def off_by(said: float, took: float) -> float:
    """How wrong an estimate was, as `Times.error` has it: 1 for half and for twice what it took."""
    said, took = max(said, 1e-3), max(took, 1e-3)
    return max(said / took, took / said) - 1


def _estimate(work: Workload, found: Sequence[Sample], also: Sequence[Sample] = ()) -> float:
    rate = median(s.growing / s.workload.size for s in [*found, *also])
    fixed = median(s.fixed for s in found or also)
    return fixed + rate * work.size


def _wrong(samples: Sequence[Sample]) -> Iterator[float]:
    """How wrong each would have been estimated when it began, from those that had ended."""
    for sample in samples:
        if sample.began is None:
            continue
        before = [s for s in samples if s.ended is not None and s.ended <= sample.began]
        for alike in sample.workload.alike:
            if found := [s for s in before if alike in s.workload.alike]:
                yield off_by(_estimate(sample.workload, found), sample.seconds)
                break


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
    began = made.get("began")
    known = isinstance(began, int | float) and not isinstance(began, bool)
    return Sample(work, float(seconds) - growing, growing, float(began or 0.0) if known else None)


def _text(value: Any) -> str:
    return canonical_json(value)
