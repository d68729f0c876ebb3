"""What a plan consists of: nodes with their keys, runs, and the facts about the raw data that it is
made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kaizen.files import canonical_json, sha256_text
from kaizen.params import Params

Kind = Literal["shards", "replay", "step", "evaluation", "reference", "summary"]
KEY_LENGTH = 32

# Bumped when the way jobs are started changes what they make (the rules' shell text is part of the
# key).
JOB_COMMAND = (
    "exec python -m kaizen node --store {params.store:q} --receipt {output:q} --log "
    "{log:q} --spec {params.spec:q}"
)


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
    # Training images of each class; empty where the source does not know them without reading all.
    # In no key: what they are shows in the checksums.
    train_counts: tuple[int, ...] = ()

    def identities(self) -> dict[str, str]:
        """All checksums, of classes as "train/3" and of domains as "train/domain/sketch"."""
        found: dict[str, str] = {}
        for part, classes, domains in (
            ("train", self.train, self.train_domains),
            ("test", self.test, self.test_domains),
        ):
            found |= {f"{part}/{label}": checksum for label, checksum in enumerate(classes)}
            names = (f"{part}/domain/{name}" for name in self.domains)
            found |= dict(zip(names, domains, strict=True))
        return found


@dataclass(frozen=True)
class Node:
    """One thing to make. ``params`` and ``inputs`` are what the job gets; ``local`` is not part of
    the key.
    """

    kind: Kind
    key: str
    title: str
    code: str
    params: dict[str, Any]
    inputs: dict[str, Node] = field(default_factory=dict)
    identities: dict[str, str] = field(default_factory=dict)
    local: dict[str, Any] = field(default_factory=dict)

    def spec(self) -> dict[str, Any]:
        """The JSON that the job receives, complete: the job reads no params.yaml."""
        return {
            "kind": self.kind,
            "key": self.key,
            "title": self.title,
            "code": self.code,
            "params": self.params,
            "identities": self.identities,
            "inputs": {
                role: {"kind": node.kind, "key": node.key} for role, node in self.inputs.items()
            },
            "local": self.local,
        }


def node_key(kind: str, params: Mapping[str, Any], code: str, identities: Mapping[str, str]) -> str:
    """The key: SHA-256 of the canonical JSON of all that a node depends on, cut to 32 digits."""
    text = canonical_json(
        {
            "kind": kind,
            "params": dict(params),
            "code": code,
            "inputs": dict(identities),
            "command": JOB_COMMAND,
        }
    )
    return sha256_text(text)[:KEY_LENGTH]


@dataclass(frozen=True)
class Run:
    """A point of the grid and the nodes that it consists of, steps in task order."""

    method: str
    variant: str
    replay_unit: str
    replay_size: float | None
    seed: int
    steps: tuple[Node, ...]
    replays: tuple[Node, ...]
    evaluation: Node

    @property
    def name(self) -> str:
        """A readable, path-safe name that is unique in the grid."""
        return "-".join(
            [
                self.method,
                self.variant,
                *size_words(self.replay_unit, self.replay_size),
                f"seed{self.seed}",
            ]
        )


@dataclass(frozen=True)
class SpecialistSet:
    """The models trained on one task alone (task 0's is step 0) and their evaluation."""

    method: str
    seed: int
    steps: tuple[Node, ...]
    evaluation: Node

    @property
    def name(self) -> str:
        """A readable, path-safe name that is unique in the grid."""
        return f"{self.method}-specialist-seed{self.seed}"


@dataclass(frozen=True)
class Plan:
    """All nodes of an experiment in an order in which they can be made, and the runs they belong
    to.
    """

    params: Params
    facts: DatasetFacts
    nodes: dict[str, Node]
    shards: Node
    runs: tuple[Run, ...]
    references: tuple[SpecialistSet, ...]
    summary: Node

    @property
    def key(self) -> str:
        """Identifies the whole plan: that of the published tree."""
        return sha256_text(canonical_json(sorted(self.nodes)))[:KEY_LENGTH]

    def users(self, key: str) -> list[str]:
        """Names of the runs and specialist sets that use a node directly."""
        users = [
            run.name
            for run in self.runs
            if any(n.key == key for n in (*run.steps, *run.replays, run.evaluation))
        ]
        return users + [
            ref.name
            for ref in self.references
            if any(n.key == key for n in (*ref.steps, ref.evaluation))
        ]


def size_text(unit: str, size: float) -> str:
    """A replay size for people: "5 %", "20 images per class" or "200 images"."""
    if unit == "proportion":
        return f"{100 * size:g} %"
    return f"{size} images per class" if unit == "per_class" else f"{size} images"


def size_word(unit: str, size: float) -> str:
    """A replay size in names of runs and folders: "5pct", "20imagesperclass" or "200images"."""
    return f"{100 * size:g}pct" if unit == "proportion" else size_text(unit, size).replace(" ", "")


def size_words(unit: str, size: float | None) -> list[str]:
    """The part of a run's name that tells its replay size; none where there is no replay."""
    return [] if size is None else [f"replay{size_word(unit, size)}"]
