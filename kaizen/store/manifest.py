"""The manifest of a published tree: which file of which node lies at which path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import printable, read_json
from kaizen.store.layout import Layout, is_published_path
from kaizen.store.node_id import NodeId, is_key
from kaizen.store.records import RECORD, FileEntry, file_name, parse_run_record
from kaizen.store.store import Store


@dataclass(frozen=True, slots=True)
class PublishedEntry:
    """A published file: its node, its name in the node, and what it must hold."""

    node: NodeId
    name: str
    content: FileEntry

    def to_json(self) -> dict[str, Any]:
        """As a mapping, for JSON."""
        return {**self.node.to_json(), "file": self.name, **self.content.to_json()}

    @classmethod
    def from_json(cls, value: Any) -> PublishedEntry | None:
        """From a mapping; None where it is not a complete one."""
        try:
            node = NodeId.read(value["kind"], value["key"])
            return cls(node, file_name(value["file"]), FileEntry.from_json(value))
        except (KaizenError, KeyError, TypeError, ValueError):
            return None


def expected_manifest(layout: Layout, store: Store) -> dict[str, PublishedEntry]:
    """What a plan's manifest must hold, by the records of its nodes: path -> entry.

    Raises KaizenError when a record is missing or damaged.
    """
    entries = {}
    files: dict[NodeId, dict[str, FileEntry]] = {}
    for folder, node in layout.folders.items():
        files[node] = files.get(node) or _files(store, node)
        for name, content in files[node].items():
            entries[f"{folder}/{name}"] = PublishedEntry(node, name, content)
    for path, (node, name) in layout.second_places.items():
        if name in files[node]:
            entries[path] = PublishedEntry(node, name, files[node][name])
    return entries


def _files(store: Store, node: NodeId) -> dict[str, FileEntry]:
    """A node's files with size and hash, its record among them."""
    record = store.read_record(node)
    return {**record.files, RECORD: FileEntry.of(store.record_path(node))}


def manifest_json(plan: str, entries: Mapping[str, PublishedEntry]) -> dict[str, Any]:
    """The manifest's content."""
    return {"plan": plan, "files": {path: entry.to_json() for path, entry in entries.items()}}


def manifest_entries(value: Any) -> dict[str, PublishedEntry]:
    """The entries of a manifest, read from JSON, that are complete and at paths that files are
    published at; none when it is not one.
    """
    files = value.get("files") if isinstance(value, dict) else None
    found = {}
    for path, item in files.items() if isinstance(files, dict) else ():
        entry = PublishedEntry.from_json(item)
        if entry is not None and is_published_path(path) and printable(path) == path:
            found[path] = entry
    return found


def published_run_records(path: Path) -> dict[str, dict[str, Any]]:
    """How nodes were made, by key, as `publish` wrote it to ``path``; nothing where the file is
    missing or broken.
    """
    try:
        nodes = read_json(path)["nodes"].items()
        found = ((key, parse_run_record(record)) for key, record in nodes if is_key(key))
        return {key: record for key, record in found if record is not None}
    except (KaizenError, KeyError, TypeError, ValueError, AttributeError):
        return {}
