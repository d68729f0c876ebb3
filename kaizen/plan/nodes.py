"""What a plan consists of: nodes with their keys, runs, and the facts about the raw data that it
is made from.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from kaizen.data.arrivals import Arrival
from kaizen.data.found import Found
from kaizen.files import canonical_json, sha256_text
from kaizen.params import Params
from kaizen.params.typed import to_dict
from kaizen.plan.data_specs import ShardsSpec
from kaizen.plan.job import Job, Local
from kaizen.plan.point import Point
from kaizen.plan.specs import EvaluationSpec, HeadSpec, ReplaySpec, Spec, StepSpec, SummarySpec
from kaizen.store.node_id import KEY_LENGTH, Kind, NodeId

S_co = TypeVar("S_co", bound=Spec, covariant=True)


@dataclass(frozen=True)
class DatasetFacts:
    """What the plan must know of the raw data: class names in label order, a checksum per class of
    each part.

    The same of its domains, where it has any.
    """

    classes: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    domains: tuple[str, ...] = ()
    train_domains: tuple[str, ...] = ()
    test_domains: tuple[str, ...] = ()
    # As `kaizen.data.sources.base.Source.found` gives it: for tasks.json and the data card.
    found: Found = field(default_factory=Found)
    # Of the training images without a class that lie beside the others, which are dealt over the
    # tasks: a checksum, and how many; "" and 0 where there are none.
    unlabelled: str = ""
    unlabelled_images: int = 0
    # Training images of each class; empty where the source does not know them without reading all.
    # In no key: what they are shows in the checksums.
    train_counts: tuple[int, ...] = ()
    # Of a stream that grows, which has no checksums per class of a whole dataset.
    arrivals: tuple[Arrival, ...] = ()

    @property
    def held_out(self) -> bool:
        """Whether the data have no test part, so that a share of every class is held out."""
        return bool(self.found.held_out)

    def to_json(self) -> dict[str, Any]:
        """As a mapping, for JSON."""
        return to_dict(self)

    def identities(self) -> dict[str, str]:
        """All checksums, of classes as "train/3", of domains as "train/domain/sketch", and of
        images without a class as "train/unlabelled", where there are some.
        """
        found = {"train/unlabelled": self.unlabelled} if self.unlabelled else {}
        for part, classes, domains in (
            ("train", self.train, self.train_domains),
            ("test", self.test, self.test_domains),
        ):
            found |= {f"{part}/{label}": checksum for label, checksum in enumerate(classes)}
            names = (f"{part}/domain/{name}" for name in self.domains)
            found |= dict(zip(names, domains, strict=True))
        return found


@dataclass(frozen=True)
class Node(Generic[S_co]):
    """One thing to make.

    ``spec``, ``code_hash`` and ``identities`` make the key; ``inputs``, role -> node, are what it
    is made from; ``local`` is no part of the key. ``given_up``: others were made from it, but it
    must not be kept.
    """

    id: NodeId
    title: str
    code_hash: str
    spec: S_co
    inputs: Mapping[str, Node[Spec]] = field(default_factory=dict)
    identities: Mapping[str, str] = field(default_factory=dict)
    local: Local = field(default_factory=Local)
    given_up: bool = False

    @property
    def kind(self) -> Kind:
        """What it is."""
        return self.id.kind

    @property
    def key(self) -> str:
        """The hash of all that it depends on."""
        return self.id.key

    def job(self) -> Job[S_co]:
        """What its job receives, but for its origin."""
        inputs = {role: node.id for role, node in self.inputs.items()}
        identities = dict(self.identities)
        return Job(self.id, self.title, self.code_hash, self.spec, inputs, identities, self.local)


@dataclass(frozen=True)
class Run:
    """A point of the grid and the nodes that it consists of, steps in task order."""

    point: Point
    steps: tuple[Node[StepSpec], ...]
    replays: tuple[Node[ReplaySpec], ...]
    # One of all steps; of a stream that grows, one after each step.
    evaluations: tuple[Node[EvaluationSpec], ...]
    # As the evaluations; none where the grid asks for the trained head alone.
    heads: tuple[Node[HeadSpec], ...] = ()
    # After each step that another one follows, where pseudo-features are replayed.
    statistics: tuple[Node[HeadSpec], ...] = ()

    @property
    def name(self) -> str:
        """A readable, path-safe name that is unique in the grid."""
        return self.point.name

    @property
    def nodes(self) -> tuple[Node[Spec], ...]:
        """All that it uses directly."""
        return (*self.steps, *self.replays, *self.statistics, *self.heads, *self.evaluations)


@dataclass(frozen=True)
class SpecialistSet:
    """The models trained on one task alone (task 0's is step 0) and their evaluation."""

    method: str
    seed: int
    steps: tuple[Node[StepSpec], ...]
    evaluation: Node[EvaluationSpec]

    @property
    def name(self) -> str:
        """A readable, path-safe name that is unique in the grid."""
        return f"{self.method}-specialist-seed{self.seed}"

    @property
    def nodes(self) -> tuple[Node[Spec], ...]:
        """All that it uses directly."""
        return (*self.steps, self.evaluation)


@dataclass(frozen=True)
class Plan:
    """All nodes of an experiment in an order in which they can be made, and the runs they belong
    to.
    """

    params: Params
    facts: DatasetFacts
    nodes: dict[str, Node[Spec]]
    # One of all tasks; of a stream that grows, one for each arrival.
    shards: tuple[Node[ShardsSpec], ...]
    runs: tuple[Run, ...]
    references: tuple[SpecialistSet, ...]
    summary: Node[SummarySpec]

    @property
    def key(self) -> str:
        """Identifies the whole plan: that of the published tree."""
        return plan_key(self.nodes)

    def users(self, key: str) -> list[str]:
        """Names of the runs and specialist sets that use a node directly."""
        return self._users.get(key, [])

    @functools.cached_property
    def _users(self) -> dict[str, list[str]]:
        """Of all nodes: asked for every one of them, each must not go through all runs."""
        found: dict[str, list[str]] = {}
        users: list[Run | SpecialistSet] = [*self.runs, *self.references]
        for user in users:
            for key in dict.fromkeys(node.key for node in user.nodes):
                found.setdefault(key, []).append(user.name)
        return found


def plan_key(keys: Iterable[str]) -> str:
    """What identifies a plan of nodes with these keys, in whatever order."""
    return sha256_text(canonical_json(sorted(keys)))[:KEY_LENGTH]
