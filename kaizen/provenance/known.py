"""What is known of nodes without a plan: records, runs and files, from the store and from the
published tree.

Reads only: a record that is torn or was altered counts as not there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import printable, read_json
from kaizen.plan import roles
from kaizen.plan.job import Local, read_local
from kaizen.plan.origin import OriginFacts
from kaizen.store.layout import MANIFEST, PROVENANCE
from kaizen.store.manifest import PublishedEntry, manifest_entries, published_run_records
from kaizen.store.node_id import Kind, NodeId, is_key
from kaizen.store.records import RECORD, SHARDS_OF_RUN, Record, parse_record
from kaizen.store.store import Store


@dataclass(frozen=True)
class KnownNode:
    """A finished node: its record, and how it was made (nothing where that is not known)."""

    record: Record
    run_record: dict[str, Any]

    @property
    def id(self) -> NodeId:
        """Its name."""
        return self.record.id

    @property
    def shards(self) -> dict[str, NodeId]:
        """The shards that its job read, by role; none where it read none, or that is not known."""
        found = self.run_record.get(SHARDS_OF_RUN) or {}
        return {role: NodeId(Kind.SHARDS, key) for role, key in found.items()}

    @property
    def inputs(self) -> dict[str, NodeId]:
        """What it was made from by role, the shards among it where they are known."""
        return {**self.record.inputs, **self.shards}

    def with_shards(self, shards: Mapping[str, NodeId]) -> KnownNode:
        """The same made from other shards, which have the same content in all that it read."""
        keys = {role: node.key for role, node in shards.items()}
        return KnownNode(self.record, {**self.run_record, SHARDS_OF_RUN: keys})

    @functools.cached_property
    def local(self) -> Local | None:
        """What its job got besides what its key stands for; None where that is not known."""
        try:
            return read_local(self.run_record["local"])
        except (KeyError, TypeError):
            return None

    @property
    def origin(self) -> OriginFacts | None:
        """Where it was planned; None where that is not known."""
        return self.local.origin if self.local else None

    @property
    def title(self) -> str:
        """What it is, for people."""
        return printable(self.run_record.get("title") or "") or f"{self.id.kind} {self.id.key[:12]}"

    @property
    def seconds(self) -> float | None:
        """The wall time that went into it, of a resumed step over all its jobs; None where it is
        not known.
        """
        times = [self.run_record.get(name) for name in ("seconds", "training_seconds")]
        return max((float(time) for time in times if isinstance(time, int | float)), default=None)


@dataclass
class Known:
    """The nodes of a store and of the tree that is published in a checkout."""

    store: Store
    root: Path
    files: dict[str, PublishedEntry] = field(default_factory=dict)
    run_records: dict[str, dict[str, Any]] = field(default_factory=dict)
    _nodes: dict[NodeId, KnownNode | None] = field(default_factory=dict)

    @classmethod
    def at(cls, root: Path, store: Store) -> Known:
        """What the manifest in ``root`` names, and what ``store`` holds."""
        path = root / MANIFEST
        files = manifest_entries(read_json(path)) if path.is_file() else {}
        return cls(store, root, files, published_run_records(root / PROVENANCE))

    def node(self, node: NodeId) -> KnownNode | None:
        """A finished node; None where neither store nor published tree has its record."""
        if node not in self._nodes:
            found = (_read_record(path, node) for path in self._paths(node, RECORD))
            record = next((record for record in found if record is not None), None)
            made = self.store.read_run_record(node) or self.run_records.get(node.key) or {}
            self._nodes[node] = None if record is None else KnownNode(record, made)
        return self._nodes[node]

    def file(self, node: KnownNode, name: str) -> Path | None:
        """Where a node's file can be read as its record has it; None where there is no good
        copy.
        """
        entry = node.record.files.get(name)
        paths = self._paths(node.id, name)
        return next((path for path in paths if entry and not entry.mismatch(path)), None)

    @functools.cached_property
    def _published(self) -> dict[str, list[tuple[str, str]]]:
        """Key -> where its files are published, as (path, name in the node)."""
        found: dict[str, list[tuple[str, str]]] = {}
        for path, entry in self.files.items():
            found.setdefault(entry.node.key, []).append((path, entry.name))
        return found

    def places(self, key: str) -> list[str]:
        """The folders in which a node's files are published."""
        paths = self._published.get(key, [])
        return sorted(path.removesuffix(f"/{RECORD}") for path, name in paths if name == RECORD)

    def named(self, prefix: str) -> list[NodeId]:
        """The nodes whose key begins with ``prefix``, which may say the kind: "step/1f"."""
        wanted, _, start = prefix.rpartition("/")
        stored = {
            node
            for kind in Kind
            for key in _names(self.store.root / kind)
            if is_key(key) and key.startswith(start) and self.store.has(node := NodeId(kind, key))
        }
        published = {e.node for e in self.files.values() if e.node.key.startswith(start)}
        return sorted(node for node in stored | published if wanted in ("", node.kind))

    def same_shards(self, node: KnownNode, role: str) -> NodeId | None:
        """Shards, not those that a node names as ``role``, with the same content in all that it
        read of them; None where no such are known.

        A node's key holds what its tasks' shards depend on (`kaizen.plan.data_nodes`), not the key
        of all shards. So whatever was made from other shards and has the same of it will do.
        """
        wanted = read_of_shards(node.record, role)
        if not wanted:
            return None
        for other in self.named(""):
            found = self.node(other)
            shards = found.shards.get(role) if found is not None else None
            if found is None or shards is None or shards == node.shards.get(role):
                continue
            if wanted.items() <= read_of_shards(found.record, role).items() and self.node(shards):
                return shards
        return None

    def _paths(self, node: NodeId, name: str) -> Iterator[Path]:
        yield self.store.folder(node) / name
        for path, file in self._published.get(node.key, []):
            if file == name:
                yield self.root / path


def read_of_shards(record: Record, role: str) -> dict[str, str]:
    """What a node read of the shards that it knows as ``role``: part and task -> what that shard's
    content depends on.
    """
    parts = {"task": "train", "train": "train", "test": "test"}
    split = {name: name.partition("-") for name in record.identities}
    return {
        f"{parts[part]}-{task}": record.identities[name]
        for name, (part, _, task) in split.items()
        if part in parts
        and task.isdecimal()
        # A task's own shards hold nothing of the others.
        and role in (roles.SHARDS, roles.shards_role(int(task)))
    }


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


def _read_record(path: Path, node: NodeId) -> Record | None:
    """The record of a node; None where there is none, or another's."""
    try:
        return parse_record(read_json(path), node)
    except KaizenError:
        return None
