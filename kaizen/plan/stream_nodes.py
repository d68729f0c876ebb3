"""The nodes of a stream that grows: shards by arrival, and replay that goes on from the memory
before.

Whatever is planned for a task depends on the arrivals up to it, never on those to come.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from kaizen.data.arrivals import Arrival, class_names
from kaizen.data.found import Found
from kaizen.data.names import Part
from kaizen.params.typed import UNSET, to_dict
from kaizen.plan import roles
from kaizen.plan.data_nodes import DataNodes
from kaizen.plan.data_specs import DatasetSpec, LabelsSpec, ShardsSpec, SplitSpec
from kaizen.plan.draft import Draft
from kaizen.plan.job import Local
from kaizen.plan.nodes import Node
from kaizen.plan.specs import EvaluationSpec, HeadSpec, ReplaySpec, Spec, StepSpec
from kaizen.store.node_id import Kind


def reads_training(node: Node[Spec], task: int) -> bool:
    """Whether a node is made from the training shard of ``task`` itself."""
    if roles.shards_role(task) not in node.inputs:
        return False
    spec = node.spec
    if isinstance(spec, EvaluationSpec):
        return task not in (spec.absent or [])
    return isinstance(spec, StepSpec | HeadSpec | ReplaySpec)


def lacks(node: Node[Spec]) -> Node[Spec] | None:
    """What a node would be made from and is given up: an arrival's shards, or a replay shard; None
    where nothing is.
    """
    for parent in node.inputs.values():
        if parent.given_up:
            return parent
        spec = parent.spec
        if not isinstance(spec, ShardsSpec) or not spec.test_only or spec.task is None:
            continue
        if reads_training(node, spec.task):
            return parent
    return None


class StreamNodes(DataNodes):
    """The data of a stream that grows; see `DataNodes`."""

    def __init__(self, draft: Draft) -> None:
        """Plan the shards of each arrival."""
        self.arrivals = draft.facts.arrivals
        self._names = class_names(self.arrivals)
        # How many classes had come when each arrival was there.
        highest = (max(arrival.labels, default=-1) for arrival in self.arrivals)
        self._counts = [last + 1 for last in itertools.accumulate(highest, max)]
        super().__init__(draft)

    def class_count(self, task: int) -> int:
        """The number of classes that the arrivals up to ``task`` brought."""
        return self._counts[task]

    def plan_shards(self) -> list[Node[ShardsSpec]]:
        """A node for each arrival, with a train and a test shard."""
        return [self._arrival(task) for task in range(len(self.arrivals))]

    def _arrival(self, task: int) -> Node[ShardsSpec]:
        draft, arrival = self.draft, self.arrivals[task]
        names = self._names[: self.class_count(task)]
        spec = ShardsSpec(
            dataset=self.dataset_of(arrival),
            split=SplitSpec("arrival"),
            labels=LabelsSpec.of(draft.params.labels),
            classes=list(names),
            found=Found(),
            task=task,
            test_only=True if arrival.retired is not None else None,
        )
        identities = {
            f"{part}/{label}": checksum
            for part in self.parts(task)
            for label, checksum in arrival.checksums(part).items()
        }
        local = Local(path=arrival.path, workers=draft.params.runtime.ingest_workers)
        title = f"shards of arrival {task}, {arrival.name}"
        return draft.node(
            Kind.SHARDS,
            title,
            spec=spec,
            inputs={},
            code=self._code,
            identities=identities,
            local=local,
        )

    def parts(self, task: int) -> tuple[Part, ...]:
        """The parts that a task's node holds: of a retired one, the test part."""
        return ("test",) if self.arrivals[task].retired is not None else ("train", "test")

    def dataset_of(self, arrival: Arrival) -> DatasetSpec:
        """What decides the content of an arrival's images; how it was divided is in the stream's
        file.
        """
        return dataclasses.replace(
            DatasetSpec.of(self.draft.params.dataset),
            test_fraction=UNSET if arrival.test_fraction is None else arrival.test_fraction,
            seed=UNSET if arrival.seed is None else arrival.seed,
        )

    def content(self, task: int, part: Part) -> dict[str, Any]:
        """What decides a shard's content: names, labels and checksums of its classes."""
        arrival = self.arrivals[task]
        dataset = to_dict(self.dataset_of(arrival).content())
        classes = {
            label: [self._names[int(label)] if int(label) >= 0 else None, checksum]
            for label, checksum in arrival.checksums(part).items()
        }
        return {"dataset": dataset, "classes": classes, "task": task}

    def inputs(self, tasks: Iterable[int]) -> dict[str, Node[Spec]]:
        """The nodes that hold the shards of ``tasks``, by their roles."""
        return {roles.shards_role(task): self.shards[task] for task in tasks}

    def replay_without(self, task: int) -> list[int]:
        """The tasks of which the replay shard of step ``task`` keeps nothing."""
        return [
            old
            for old, arrival in enumerate(self.arrivals[:task])
            if arrival.replay_retired is not None and task >= arrival.replay_retired
        ]

    def replay_given_up(self, task: int) -> bool:
        """Whether the replay shard of step ``task`` must not be kept: it has rows of a task whose
        rows were given up later.
        """
        return any(
            arrival.replay_retired is not None and task < arrival.replay_retired
            for arrival in self.arrivals[:task]
        )

    def has_training_images(self, task: int, at: int) -> bool:
        """Whether the training images of ``task`` were still kept when the arrival ``at`` came."""
        retired = self.arrivals[task].retired
        return retired is None or at < retired

    def replay_inputs(
        self, steps: Sequence[Node[StepSpec]], before: Sequence[Node[ReplaySpec]]
    ) -> tuple[dict[str, Node[Spec]], range]:
        """The inputs of the replay shard that follows ``steps``, and the tasks whose shards are
        read: the newest only, where a memory of those before it is there.
        """
        task = len(steps)
        read = range(task - 1, task) if before else range(task)
        inputs = self.inputs(read)
        if before:
            inputs[roles.MEMORY] = before[-1]
        return inputs, read
