"""The nodes of the data: task shards and replay shards, and what one shard's content depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from kaizen.data.names import Part
from kaizen.data.split import effective_split
from kaizen.files import canonical_json, sha256_text
from kaizen.params import registry
from kaizen.plan import roles
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
from kaizen.plan.specs import ReplaySpec, ShardsSpec, Spec, StepSpec
from kaizen.store.node_id import KEY_LENGTH, Kind


class DataNodes:
    """Makes the nodes of the data, and the identities by which all others know their shards."""

    def __init__(self, draft: Draft) -> None:
        """Plan the shards."""
        self.draft = draft
        self._checksums = draft.facts.identities()
        source = registry.SOURCES[draft.params.dataset.source]
        self._code = Code(("kaizen.data.ingest", source.target), DATA_PACKAGES)
        # Every run of a grid asks for the same few.
        self._identities: dict[tuple[int, Part], str] = {}
        self.shards = self._shards()

    def _shards(self) -> Node[ShardsSpec]:
        draft = self.draft
        dataset = draft.params.dataset
        spec = ShardsSpec(
            dataset=self.dataset(),
            split=effective_split(draft.params.split, dataset.unlabelled),
            labels=self.labels(),
            classes=list(draft.facts.classes),
            found=draft.facts.found,
        )
        domains = {f"domain/{draft.facts.domains[domain]}" for domain in draft.stream.domains}
        read = domains or {str(label) for labels in draft.tasks for label in labels}
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
        return draft.node(Kind.SHARDS, title, spec, {}, self._code, identities, local)

    def dataset(self) -> dict[str, Any]:
        """What decides the images' content: where they lie does not; chosen classes are known by
        name.
        """
        dataset = self.draft.params.dataset
        reads = registry.SOURCES[dataset.source].reads
        left_out = {"path", "classes", *registry.SOURCE_PARAMETERS} - (set(reads) - {"classes"})
        if dataset.encoding != "auto":
            left_out = left_out | {"raw_limit"}
        values = dataclasses.asdict(dataset)
        return {name: value for name, value in values.items() if name not in left_out}

    def labels(self) -> dict[str, Any]:
        """What decides which labels are kept: the seed only where there is a choice."""
        labels = dataclasses.asdict(self.draft.params.labels)
        if labels["fraction"] in (0.0, 1.0):
            labels.pop("seed")
        return labels

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
        draft = self.draft
        facts, stream, params = draft.facts, draft.stream, draft.params
        dataset = self.dataset()
        dataset.pop("compression")
        depends: dict[str, Any] = {"dataset": dataset, "part": part, "code": self.shards.code_hash}
        if stream.by == "domain":
            domain = facts.domains[stream.domains[task]]
            checksum = self._checksums[f"{part}/domain/{domain}"]
            depends |= {"classes": facts.classes, "domain": [domain, checksum]}
        else:
            depends["classes"] = {
                str(label): [facts.classes[label], self._checksums[f"{part}/{label}"]]
                for label in draft.tasks[task]
            }
            if stream.by == "data" or (part == "train" and params.dataset.unlabelled):
                depends["dealt"] = {
                    "by": stream.by,
                    "task": task,
                    "of": len(stream),
                    "seed": params.split.seed,
                }
        if part == "train":
            depends["labels"] = self.labels()
        return sha256_text(canonical_json(depends))[:KEY_LENGTH]

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

    def replay(self, point: Point, steps: Sequence[Node[StepSpec]]) -> Node[ReplaySpec]:
        """The replay shard of the step that follows ``steps``: of a run's own if the policy looks
        at features.
        """
        draft = self.draft
        replay = draft.params.replay
        policy = registry.REPLAY_POLICIES[replay.policy]
        size, unit, task = point.replay_size or 0, point.replay_unit, len(steps)
        spec = ReplaySpec(
            policy=replay.policy,
            unit=unit,
            size=size,
            task=task,
            classes=draft.tasks[:task],
            seed=replay.seed if policy.seeded else None,
            compute=compute_of(steps) if policy.features else None,
        )
        inputs: dict[str, Node[Spec]] = {roles.SHARDS: self.shards}
        title = f"replay {replay.policy} {size_text(size, unit)} · for task {task}"
        code = Code(("kaizen.data.replay.shard", policy.target), DATA_PACKAGES)
        if policy.features:
            inputs |= step_inputs(steps)
            title += f" · {point.label} · seed {point.seed}"
            code = Code((*code.modules, "kaizen.evaluation.step_features"), TRAIN_PACKAGES)
        identities = self.train_identities(range(task))
        return draft.node(Kind.REPLAY, title, spec, inputs, code, identities)
