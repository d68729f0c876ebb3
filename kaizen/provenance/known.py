"""What is known of nodes without a plan: records, runs and files, from the store and from the
published tree.

Reads only: a record that is torn or was altered counts as not there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import read_json
from kaizen.store.publish import MANIFEST, PROVENANCE, manifest_files, published_runs
from kaizen.store.store import KINDS, RECORD, Store, is_record, mismatch


@dataclass(frozen=True)
class KnownNode:
    """A finished node: its record, and how it was made (nothing where that is not known)."""

    kind: str
    key: str
    record: dict[str, Any]
    run: dict[str, Any]

    @property
    def local(self) -> dict[str, Any]:
        """What its job got beside what its key stands for."""
        local = self.run.get("local")
        return local if isinstance(local, dict) else {}

    @property
    def origin(self) -> dict[str, Any]:
        """See `kaizen.provenance.origin.Origin.of`."""
        origin = self.local.get("origin")
        return origin if isinstance(origin, dict) else {}

    @property
    def title(self) -> str:
        """What it is, for people."""
        return str(self.run.get("title") or f"{self.kind} {self.key[:12]}")

    @property
    def seconds(self) -> float | None:
        """The wall time that went into it, of a resumed step over all its jobs; None where it is
        not known.
        """
        times = [self.run.get(name) for name in ("seconds", "training_seconds")]
        return max((float(time) for time in times if isinstance(time, int | float)), default=None)


@dataclass
class Known:
    """The nodes of a store and of the tree that is published in a checkout."""

    store: Store
    root: Path
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    _nodes: dict[str, KnownNode | None] = field(default_factory=dict)

    @classmethod
    def at(cls, root: Path, store: Store) -> Known:
        """What the manifest in ``root`` names, and what ``store`` holds."""
        path = root / MANIFEST
        files = manifest_files(read_json(path)) if path.is_file() else {}
        return cls(store, root, files, published_runs(root / PROVENANCE))

    def node(self, kind: str, key: str) -> KnownNode | None:
        """A finished node; None where neither store nor published tree has its record."""
        if key not in self._nodes:
            found = (_read_record(path, kind, key) for path in self._paths(kind, key, RECORD))
            record = next((record for record in found if record is not None), None)
            run = self.store.read_run(kind, key) or self.runs.get(key) or {}
            self._nodes[key] = None if record is None else KnownNode(kind, key, record, run)
        return self._nodes[key]

    def file(self, node: KnownNode, name: str) -> Path | None:
        """Where a node's file can be read as its record has it; None where there is no good
        copy.
        """
        entry = node.record["files"].get(name)
        paths = self._paths(node.kind, node.key, name)
        return next((path for path in paths if entry and not mismatch(path, entry)), None)

    @functools.cached_property
    def _published(self) -> dict[str, list[tuple[str, str]]]:
        """Key -> where its files are published, as (path, name in the node)."""
        found: dict[str, list[tuple[str, str]]] = {}
        for path, entry in self.files.items():
            found.setdefault(entry["key"], []).append((path, entry["file"]))
        return found

    def places(self, key: str) -> list[str]:
        """The folders in which a node's files are published."""
        paths = self._published.get(key, [])
        return sorted(path.removesuffix(f"/{RECORD}") for path, name in paths if name == RECORD)

    def named(self, prefix: str) -> list[tuple[str, str]]:
        """The nodes, as (kind, key), whose key begins with ``prefix``, which may say the kind:
        "step/1f".
        """
        kind, _, start = prefix.rpartition("/")
        stored = {
            (folder, key)
            for folder in KINDS
            if kind in ("", folder)
            for key in _names(self.store.root / folder)
            if key.startswith(start) and self.store.has(folder, key)
        }
        published = {
            (entry["kind"], entry["key"])
            for entry in self.files.values()
            if entry["key"].startswith(start)
        }
        return sorted(stored | {(found, key) for found, key in published if kind in ("", found)})

    def _paths(self, kind: str, key: str, name: str) -> Iterator[Path]:
        yield self.store.folder(kind, key) / name
        yield from (self.root / path for path, file in self._published.get(key, []) if file == name)


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


def _read_record(path: Path, kind: str, key: str) -> dict[str, Any] | None:
    """The record of a node; None where there is none, or another's."""
    try:
        record = read_json(path)
    except KaizenError:
        return None
    return record if is_record(record, kind, key) else None
