"""The nodes of the data: task shards and replay shards, and what one shard's content depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from kaizen.data.names import Part
from kaizen.data.schema import UNLABELLED
from kaizen.data.split import turns
from kaizen.files import canonical_json, sha256_text
from kaizen.params import registry
from kaizen.params.typed import to_dict
from kaizen.plan import roles
from kaizen.plan.data_specs import DatasetSpec, LabelsSpec, ShardsSpec, SplitSpec
from kaizen.plan.draft import (
    DATA_PACKAGES,
    TRAIN_PACKAGES,
    Draft,
    compute_of,
    step_inputs,
)
from kaizen.plan.job import Code, Local
from kaizen.plan.nodes import Node
from kaizen.plan.point import Point, size_text
from kaizen.plan.specs import ReplaySpec, Spec, StepSpec
from kaizen.store.node_id import KEY_LENGTH, Kind


class DataNodes:
    """Makes the nodes of the data, and the identities by which all others know their shards.

    This one is for a closed dataset, which is read in one pass; a stream that grows has its own,
    `kaizen.plan.stream_nodes`.
    """

    def __init__(self, draft: Draft) -> None:
        """Plan the shards."""
        self.draft = draft
        source = registry.SOURCES[draft.params.dataset.source]
        self._code = Code(("kaizen.data.ingest", source.target), DATA_PACKAGES)
        # Every run of a grid asks for the same few.
        self._identities: dict[tuple[int, Part], str] = {}
        self._replays: dict[tuple[float, str, int], Node[ReplaySpec]] = {}
        self.shards = self.plan_shards()

    def plan_shards(self) -> list[Node[ShardsSpec]]:
        """The nodes that hold all shards: one."""
        draft = self.draft
        self._checksums = draft.facts.identities()
        dataset = draft.params.dataset
        spec = ShardsSpec(
            dataset=DatasetSpec.of(dataset, draft.facts.held_out),
            split=SplitSpec.of(
                draft.params.split, dataset.unlabelled or bool(draft.facts.unlabelled)
            ),
            labels=LabelsSpec.of(draft.params.labels),
            classes=list(draft.facts.classes),
            found=draft.facts.found,
        )
        domains = {f"domain/{draft.facts.domains[domain]}" for domain in draft.stream.domains}
        labels = {str(label) for labels in draft.tasks for label in labels}
        read = domains or labels | {"unlabelled"}
        identities = {
            name: checksum
            for name, checksum in self._checksums.items()
            if name.partition("/")[2] in read
        }
        local = Local(
            path=dataset.path,
            classes=dataset.classes,
            workers=draft.params.runtime.ingest_workers,
        )
        title = f"shards {dataset.source} · {len(draft.tasks)} tasks"
        node = draft.node(
            Kind.SHARDS,
            title,
            spec=spec,
            inputs={},
            code=self._code,
            identities=identities,
            local=local,
        )
        return [node]

    def inputs(self, tasks: Iterable[int]) -> dict[str, Node[Spec]]:
        """The nodes that hold the shards of ``tasks``, by their roles."""
        return {roles.SHARDS: self.shards[0]}

    def identity(self, task: int, part: Part) -> str:
        """What the content of one task shard depends on: its own classes' or domain's raw data,
        not the other tasks'.

        Steps take this instead of the key of `shards`, so that a task appended to the stream, or
        new images of one class, leave the steps before it alone.
        """
        if (task, part) not in self._identities:
            self._identities[task, part] = self._identity(task, part)
        return self._identities[task, part]

    def _identity(self, task: int, part: Part) -> str:
        depends = {"part": part, "code": self.shards[0].code_hash} | self.content(task, part)
        if part == "train":
            depends["labels"] = to_dict(self.shards[0].spec.labels)
        return sha256_text(canonical_json(depends))[:KEY_LENGTH]

    def content(self, task: int, part: Part) -> dict[str, Any]:
        """What decides a shard's content: the raw data of its classes or domain."""
        draft = self.draft
        facts, stream, params = draft.facts, draft.stream, draft.params
        depends: dict[str, Any] = {"dataset": to_dict(self.shards[0].spec.dataset.content())}
        if stream.by == "domain":
            domain = facts.domains[stream.domains[task]]
            checksum = self._checksums[f"{part}/domain/{domain}"]
            depends |= {"classes": facts.classes, "domain": [domain, checksum]}
        else:
            depends["classes"] = {
                str(label): [facts.classes[label], self._checksums[f"{part}/{label}"]]
                for label in draft.tasks[task]
            }
            holds = part == "train" and self._holds_unlabelled(task)
            if holds and facts.unlabelled:
                depends["unlabelled"] = facts.unlabelled
            if stream.by == "data" or holds:
                depends["dealt"] = {
                    "by": stream.by,
                    "task": task,
                    "of": len(stream),
                    "seed": params.split.seed,
                }
        return depends

    def _holds_unlabelled(self, task: int) -> bool:
        """Whether images without a class are dealt to a task: to each, unless they are very few."""
        draft = self.draft
        count, tasks = draft.facts.unlabelled_images, len(draft.stream)
        return draft.params.dataset.unlabelled or task in turns(
            min(count, tasks), tasks, UNLABELLED
        )

    def train_identities(self, tasks: Sequence[int]) -> dict[str, str]:
        """What training on ``tasks`` reads."""
        return {f"task-{task:02d}": self.identity(task, "train") for task in tasks}

    def identities(self) -> dict[str, str]:
        """What an evaluation of a whole run reads: every shard."""
        parts: tuple[Part, ...] = ("train", "test")
        return {
            f"{part}-{task:02d}": self.identity(task, part)
            for task in range(len(self.draft.tasks))
            for part in parts
        }

    def replay_inputs(
        self, steps: Sequence[Node[StepSpec]], before: Sequence[Node[ReplaySpec]]
    ) -> tuple[dict[str, Node[Spec]], range]:
        """The inputs of the replay shard that follows ``steps``, and the tasks whose shards it is
        chosen from: all of them.
        """
        read = range(len(steps))
        return self.inputs(read), read

    def replay_without(self, task: int) -> list[int]:
        """The tasks of which the replay shard of step ``task`` keeps nothing."""
        return []

    def replay_given_up(self, task: int) -> bool:
        """Whether the replay shard of step ``task`` must not be kept."""
        return False

    def replay(
        self,
        point: Point,
        steps: Sequence[Node[StepSpec]],
        before: Sequence[Node[ReplaySpec]],
    ) -> Node[ReplaySpec]:
        """The replay shard of the step that follows ``steps``, after the run's replay shards
        ``before``: of a run's own if the policy looks at features.
        """
        if registry.REPLAY_POLICIES[self.draft.params.replay.policy].features:
            return self._replay(point, steps, before)
        alike = (point.replay_size or 0, point.replay_unit, len(steps))
        if alike not in self._replays:
            self._replays[alike] = self._replay(point, steps, before)
        return self._replays[alike]

    def _replay(
        self, point: Point, steps: Sequence[Node[StepSpec]], before: Sequence[Node[ReplaySpec]]
    ) -> Node[ReplaySpec]:
        draft = self.draft
        replay = draft.params.replay
        policy = registry.REPLAY_POLICIES[replay.policy]
        size, unit, task = point.replay_size or 0, point.replay_unit, len(steps)
        inputs, read = self.replay_inputs(steps, before)
        spec = ReplaySpec(
            policy=replay.policy,
            unit=unit,
            size=size,
            task=task,
            classes=[draft.tasks[old] for old in read],
            seed=replay.seed if policy.seeded else None,
            compute=compute_of(steps) if policy.features else None,
            without=self.replay_without(task) or None,
        )
        title = f"replay {replay.policy} {size_text(size, unit)} · for task {task}"
        code = Code(("kaizen.data.replay.shard", policy.target), DATA_PACKAGES)
        if policy.features:
            models = step_inputs(steps)
            inputs |= {roles.step_role(number): models[roles.step_role(number)] for number in read}
            title += f" · {point.label} · seed {point.seed}"
            code = Code((*code.modules, "kaizen.evaluation.step_features"), TRAIN_PACKAGES)
        identities = self.train_identities(range(task))
        node = draft.node(
            Kind.REPLAY, title, spec=spec, inputs=inputs, code=code, identities=identities
        )
        if not self.replay_given_up(task):
            return node
        draft.nodes.pop(node.key, None)
        return dataclasses.replace(node, given_up=True)
