"""A job's specification: all that the making of a node needs, complete. The job reads no
params.yaml.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

from kaizen.errors import KaizenError
from kaizen.files import canonical_json
from kaizen.params.typed import from_dict, to_dict
from kaizen.plan.specs import S, read_spec, spec_json
from kaizen.store.node_id import NodeId
from kaizen.store.records import record_key

_FIX = "take it from this version's `kaizen plan --json`"
_FIELDS = {
    "kind": str,
    "key": str,
    "title": str,
    "code": str,
    "params": dict,
    "identities": dict,
    "inputs": dict,
    "local": dict,
}


@dataclass(frozen=True)
class Code:
    """The code that a node depends on: entry modules, and packages whose versions count."""

    modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Local:
    """What a job gets that is no part of its node's key: it decides how, not what is made.

    ``path`` and ``classes`` are where the images of `shards` lie and how the classes were chosen;
    ``versions`` are those of ``code.packages`` when the plan was made, ``origin`` tells the commit
    (`kaizen.provenance.origin`).
    """

    code: Code = field(default_factory=Code)
    path: str | None = None
    classes: list[str] | str | None = None
    workers: int = 1
    save_every_epochs: int = 10
    processes: int = 1
    hosts: int = 1
    versions: dict[str, str] | None = None
    origin: dict[str, Any] | None = None


@dataclass(frozen=True)
class Job(Generic[S]):
    """What a job receives. ``spec`` is what the node is, by kind; ``inputs``, role -> node."""

    id: NodeId
    title: str
    code_hash: str
    spec: S
    inputs: dict[str, NodeId]
    identities: dict[str, str]
    local: Local

    def to_json(self) -> dict[str, Any]:
        """The specification as JSON."""
        return {
            **self.id.to_json(),
            "title": self.title,
            "code": self.code_hash,
            "params": spec_json(self.spec),
            "identities": self.identities,
            "inputs": {role: node.to_json() for role, node in self.inputs.items()},
            "local": to_dict(self.local),
        }

    def through_json(self) -> Job[S]:
        """The same as a job of its own process gets it, with the mappings' order of its JSON.

        What a node's files say in the order of a mapping must not tell the two apart.
        """
        return read_job(json.loads(canonical_json(self.to_json())), self.title)

    def with_local(self, **changes: Any) -> Job[S]:
        """The same node, made otherwise."""
        return dataclasses.replace(self, local=dataclasses.replace(self.local, **changes))


def read_job(value: Any, source: str) -> Job[Any]:
    """The job whose specification ``value``, read from JSON, is.

    Raises KaizenError naming ``source`` and what is wrong.
    """
    if not isinstance(value, Mapping):
        raise KaizenError(
            f"{source} is not a node's specification but a {type(value).__name__}; {_FIX}"
        )
    for name, kind in _FIELDS.items():
        if not isinstance(value.get(name), kind):
            what = "lacks" if name not in value else f"has no {kind.__name__} as"
            raise KaizenError(f"{source} {what} {name!r}; {_FIX}")
    try:
        node = NodeId.of(value["kind"], value["key"])
    except KaizenError as error:
        raise KaizenError(f"{source}: {error}; {_FIX}") from None
    if record_key(value) != node.key:
        raise KaizenError(
            f"{source}: key {node.key} is not that of its content, which was altered; {_FIX}"
        )
    try:
        local = from_dict(Local, value["local"], "local")
    except TypeError as error:
        raise KaizenError(f"{source}: {error}; {_FIX}") from None
    return Job(
        node,
        value["title"],
        value["code"],
        read_spec(node.kind, value["params"], source),
        {role: _input(role, parent, source) for role, parent in value["inputs"].items()},
        value["identities"],
        local,
    )


def _input(role: str, value: Any, source: str) -> NodeId:
    try:
        if isinstance(value["key"], str):
            return NodeId.of(value["kind"], value["key"])
    except (KaizenError, KeyError, TypeError):
        pass
    raise KaizenError(f"{source}: input {role!r} does not name a kind and a key; {_FIX}")
