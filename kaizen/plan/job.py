"""A job's specification: all that the making of a node needs, complete. The job reads no
params.yaml.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal

from kaizen.errors import KaizenError
from kaizen.files import canonical_json, printable, shortened
from kaizen.params.typed import from_dict, to_dict, type_name
from kaizen.plan.origin import OriginFacts, read_origin
from kaizen.plan.specs import S, read_spec, spec_json
from kaizen.store.node_id import Kind, NodeId
from kaizen.store.records import inputs_agree, record_key

_FIX = "take it from this version's `kaizen plan --json`"
_LONGEST = 1000
# What numbers of `local` may come to: those of `runtime` (kaizen/params/training.py). Thousands of
# processes, as an altered plan file may ask for, would take the machine down.
_BOUNDS = {
    "workers": (1, 256),
    "save_every_epochs": (1, 1_000_000),
    "processes": (1, 64),
    "hosts": (1, 64),
    "live_accuracy": (0, 10_000),
}
# An entry of `kaizen.plan.fingerprint`: a module, a target in it, or a function alone.
_MODULE = re.compile(r"kaizen(\.[A-Za-z_][A-Za-z0-9_]*)*([:#][A-Za-z_][A-Za-z0-9_]*)?")
_PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
# What a specification has, and of which type.
FIELDS = {
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
    """The code that a node depends on: entries (see `kaizen.plan.fingerprint`), and packages whose
    versions count.
    """

    modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Local:
    """What a job gets that is no part of its node's key: it decides how, not what is made.

    ``path`` and ``classes`` are where the images of `shards` lie and how the classes were chosen;
    ``live`` is where a step's curves also go, ``live_accuracy`` on how many test images it is tried
    as it trains; ``versions`` are those of ``code.packages`` when the plan was made, ``origin``
    says the commit (`kaizen.provenance.origin`).
    """

    code: Code = field(default_factory=Code)
    path: str | None = None
    classes: list[str] | str | None = None
    workers: int = 1
    save_every_epochs: int = 10
    processes: int = 1
    hosts: int = 1
    live: Literal["tensorboard", "dvclive"] | None = None
    live_accuracy: int = 0
    versions: dict[str, str] | None = None
    origin: OriginFacts | None = None


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
    _check_fields(value, source)
    try:
        node = NodeId.read(value["kind"], value["key"])
    except KaizenError as error:
        raise KaizenError(f"{source}: {error}; {_FIX}") from None
    if record_key(value) != node.key:
        raise KaizenError(
            f"{source}: key {node.key} is not that of its content, which was altered; {_FIX}"
        )
    identities = value["identities"]
    if not all(isinstance(text, str) for text in (*identities, *identities.values())):
        raise KaizenError(f"{source}: an identity is not a text; {_FIX}")
    inputs = {role: _input(role, parent, source) for role, parent in value["inputs"].items()}
    if not inputs_agree(inputs, identities):
        raise KaizenError(f"{source}: its inputs are not those that its key stands for; {_FIX}")
    kinds = {parent.kind for parent in inputs.values()}
    if node.kind not in (Kind.SHARDS, Kind.SUMMARY) and Kind.SHARDS not in kinds:
        raise KaizenError(f"{source}: no shards are among its inputs; {_FIX}")
    try:
        local = read_local(value["local"])
    except TypeError as error:
        raise KaizenError(f"{source}: {error}; {_FIX}") from None
    spec = read_spec(node.kind, value["params"], source)
    title = printable(value["title"])[:_LONGEST]
    return Job(node, title, value["code"], spec, inputs, identities, local)


def _check_fields(value: Any, source: str) -> None:
    """Raise KaizenError where a specification lacks something, or it is of another type."""
    if not isinstance(value, Mapping):
        raise KaizenError(f"{source} is not a node's specification but {type_name(value)}; {_FIX}")
    for name, kind in FIELDS.items():
        if name not in value:
            raise KaizenError(f"{source} lacks {name!r}; {_FIX}")
        if not isinstance(value[name], kind):
            expected = "a text" if kind is str else "a mapping"
            raise KaizenError(
                f"{source}: {name!r} must be {expected}, not {type_name(value[name])}; {_FIX}"
            )


def read_local(value: Any) -> Local:
    """What a job gets besides its node, from JSON; raises TypeError where it is none.

    Numbers are such that they can be meant, modules are this package's; of the origin only what is
    well-formed is believed.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"local must be a mapping, not {type_name(value)}")
    # It is a note to people: what is wrong in it does not stop the job.
    origin = value.get("origin")
    if not isinstance(origin, Mapping | None):
        raise TypeError(f"local.origin must be a mapping or null, not {type_name(origin)}")
    others = {name: item for name, item in value.items() if name != "origin"}
    local = from_dict(Local, others, "local")
    for name, (least, most) in _BOUNDS.items():
        if not least <= getattr(local, name) <= most:
            raise TypeError(f"local.{name} must be from {least} to {most}")
    for module in local.code.modules:
        if not _MODULE.fullmatch(module):
            raise TypeError(
                f"local.code.modules: {shortened(repr(module))} is not a module of kaizen"
            )
    for package in (*local.code.packages, *(local.versions or ())):
        if not _PACKAGE.fullmatch(package):
            raise TypeError(f"local.code.packages: {shortened(repr(package))} is not a package")
    if local.path is not None and "\0" in local.path:
        raise TypeError("local.path holds a zero byte")
    return local if origin is None else dataclasses.replace(local, origin=read_origin(origin))


def _input(role: str, value: Any, source: str) -> NodeId:
    try:
        if isinstance(value["key"], str):
            return NodeId.read(value["kind"], value["key"])
    except (KaizenError, KeyError, TypeError):
        pass
    raise KaizenError(f"{source}: input {role!r} does not name a kind and a key; {_FIX}")
