"""A node's record, `node.json`: what was made, from what, and the hash of every file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kaizen.files import read_json, sha256_file
from kaizen.store.node_id import Kind, NodeId, node_key

RECORD = "node.json"
# How the node was made: commit, times, host, speed. It differs from run to run.
RUN_RECORD = "run.json"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file as a record or a manifest has it: SHA-256 in hexadecimal digits, size in bytes."""

    sha256: str
    size: int

    def mismatch(self, path: Path) -> str:
        """What is wrong with the file at ``path``; empty when nothing is."""
        try:
            size = path.stat().st_size
        except OSError:
            return "is missing"
        if size != self.size:
            return f"has {size} bytes, not the recorded {self.size}"
        return "" if sha256_file(path) == self.sha256 else "does not match its recorded hash"

    def to_json(self) -> dict[str, Any]:
        """As a mapping, for JSON."""
        return {"sha256": self.sha256, "size": self.size}

    @classmethod
    def of(cls, path: Path) -> FileEntry:
        """The entry of a file as it is now."""
        return cls(sha256_file(path), path.stat().st_size)

    @classmethod
    def from_json(cls, value: Any) -> FileEntry:
        """From a mapping; raises ValueError where it is not one of hash and size."""
        sha256, size = value["sha256"], value["size"]
        if not isinstance(sha256, str) or type(size) is not int or size < 0:
            raise ValueError("no hash and size of a file")
        return cls(sha256, size)


@dataclass(frozen=True)
class Record:
    """What `Store.commit` wrote of a node.

    ``params`` are those of the job (`kaizen.plan.specs`) as JSON, ``code`` the hash of its code;
    ``inputs``, role -> node, are what it was made from; ``files`` are named relative to its folder.
    """

    id: NodeId
    code: str
    params: Mapping[str, Any]
    identities: Mapping[str, str]
    inputs: Mapping[str, NodeId]
    environment: Mapping[str, Any]
    files: Mapping[str, FileEntry]

    def to_json(self) -> dict[str, Any]:
        """As a mapping, for JSON."""
        return {
            **self.id.to_json(),
            "code": self.code,
            "params": dict(self.params),
            "identities": dict(self.identities),
            "inputs": {role: node.to_json() for role, node in self.inputs.items()},
            "environment": dict(self.environment),
            "files": {name: entry.to_json() for name, entry in self.files.items()},
        }


def parse_record(value: Any, expected: NodeId) -> Record | None:
    """The record that ``value``, read from JSON, is; None where it is not that of ``expected``.

    It is complete, its names of files stay inside a folder, and its content leads to its key.
    """
    try:
        inputs = {
            role: NodeId(Kind(node["kind"]), _text(node["key"]))
            for role, node in value["inputs"].items()
        }
        files = {_inside(name): FileEntry.from_json(e) for name, e in value["files"].items()}
        record = Record(
            NodeId(Kind(value["kind"]), _text(value["key"])),
            _text(value["code"]),
            dict(value["params"]),
            {_text(name): _text(identity) for name, identity in value["identities"].items()},
            inputs,
            dict(value.get("environment", {})),
            files,
        )
        right = record.id == expected and record_key(value) == expected.key
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return record if right else None


def read_record(path: Path) -> Record | None:
    """The record in a file, of whatever node it names; None where it is not the record of one.

    Raises KaizenError where the file cannot be read.
    """
    value = read_json(path)
    try:
        node = NodeId(Kind(value["kind"]), _text(value["key"]))
    except (KeyError, TypeError, ValueError):
        return None
    return parse_record(value, node)


def record_key(value: Mapping[str, Any]) -> str:
    """The key that a record's own content leads to: one that was altered leads to another."""
    return node_key(value["kind"], value["params"], value["code"], value["identities"])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text, not {type(value).__name__}")
    return value


def _inside(name: str) -> str:
    """The name of a file, if it lies in the folder that it is put into."""
    path = PurePosixPath(_text(name))
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise ValueError(f"{name!r} leads out of its folder")
    return name
