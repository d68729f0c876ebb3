"""A node's record, `node.json`: what was made, from what, and the hash of every file."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import printable, read_json, sha256_file, shortened
from kaizen.store.node_id import Kind, NodeId, is_key, node_key

RECORD = "node.json"
# How the node was made: commit, times, host, speed. It differs from run to run.
RUN_RECORD = "run.json"
# In a run record: the keys of the shards that the job read, by role.
SHARDS_OF_RUN = "shards"
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Identities that are no inputs: of tasks (kaizen/plan/data_nodes.py) and of raw classes.
_CONTENT = re.compile(r"(task|test|train)[-/]")
_LARGEST = 1 << 60
_LONGEST_NAME = 1024
# Fields of a run record that are read: numbers (with what they may come to), and texts.
_RUN_NUMBERS = {
    "began": 253_402_300_000.0,  # the year 9999
    "seconds": 1e12,
    "training_seconds": 1e12,
    "images_per_second": 1e12,
    "processes": 1e6,
    "pid": 1e12,
}
_RUN_TEXTS = ("host", "title", "slurm_job")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file as a record or a manifest has it: SHA-256 in hexadecimal digits, size in bytes."""

    sha256: str
    size: int

    def mismatch(self, path: Path) -> str:
        """What is wrong with the file at ``path``; empty when nothing is."""
        try:
            status = path.stat()
        except OSError:
            return "is missing"
        if not stat.S_ISREG(status.st_mode):
            return "is not a regular file"
        size = status.st_size
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
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise ValueError("no hash of a file")
        if type(size) is not int or not 0 <= size <= _LARGEST:
            raise ValueError("no size of a file")
        return cls(sha256, size)


@dataclass(frozen=True)
class Record:
    """What `Store.commit` wrote of a node.

    ``params`` are those of the job (`kaizen.plan.specs`) as JSON, ``code_hash`` that of its code;
    ``inputs``, role -> node, are what it was made from, without the shards: of those
    ``identities`` name what was read. ``files`` are named relative to its folder.
    """

    id: NodeId
    code_hash: str
    params: Mapping[str, Any]
    identities: Mapping[str, str]
    inputs: Mapping[str, NodeId]
    environment: Mapping[str, Any]
    files: Mapping[str, FileEntry]

    def to_json(self) -> dict[str, Any]:
        """As a mapping, for JSON."""
        return {
            **self.id.to_json(),
            "code": self.code_hash,
            "params": dict(self.params),
            "identities": dict(self.identities),
            "inputs": {role: node.to_json() for role, node in self.inputs.items()},
            "environment": dict(self.environment),
            "files": {name: entry.to_json() for name, entry in self.files.items()},
        }


def parse_record(value: Any, expected: NodeId) -> Record | None:
    """The record that ``value``, read from JSON, is; None where it is not that of ``expected``.

    It is complete, its names of files stay inside a folder, hashes and keys are such, its content
    leads to its key, and its inputs are those that the key stands for.
    """
    try:
        record = Record(
            NodeId.read(value["kind"], value["key"]),
            _text(value["code"]),
            dict(value["params"]),
            {_text(name): _text(identity) for name, identity in value["identities"].items()},
            {_text(role): NodeId.read(**node) for role, node in value["inputs"].items()},
            {_text(name): _fact(fact) for name, fact in value.get("environment", {}).items()},
            {file_name(name): FileEntry.from_json(e) for name, e in value["files"].items()},
        )
        if len({name.casefold() for name in record.files} & {RECORD, RUN_RECORD}):
            raise ValueError("a record names itself among its files")
        right = record.id == expected and record_key(value) == expected.key
        right = right and inputs_agree(record.inputs, record.identities)
    except (KaizenError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return record if right else None


def inputs_agree(inputs: Mapping[str, NodeId], identities: Mapping[str, str]) -> bool:
    """Whether ``inputs`` are those that a key stands for: ``identities`` name each by its key, but
    of the shards what is read of their content.
    """
    named = {role: key for role, key in identities.items() if not _CONTENT.match(role)}
    others = {role: node.key for role, node in inputs.items() if node.kind is not Kind.SHARDS}
    return named == others


def parse_run_record(value: Any) -> dict[str, Any] | None:
    """A run record as it may be believed: what it says of times, places and processes is of the
    right type and size, or left out. None where it is no mapping.
    """
    if not isinstance(value, dict):
        return None
    found = dict(value)
    for name, most in _RUN_NUMBERS.items():
        number = found.get(name, 0)
        if (
            isinstance(number, bool)
            or not isinstance(number, int | float)
            or not 0 <= number <= most
        ):
            del found[name]
    for name in _RUN_TEXTS:
        if name in found and (not isinstance(found[name], str) or len(found[name]) > 10_000):
            del found[name]
    shards = found.get(SHARDS_OF_RUN, {})
    if not isinstance(shards, dict) or not all(map(is_key, shards.values())):
        del found[SHARDS_OF_RUN]
    dvc = found.get("dvc", {"file": "", "md5": ""})
    if not isinstance(dvc, dict) or not all(isinstance(dvc.get(n), str) for n in ("file", "md5")):
        del found["dvc"]
    return found


def read_record(path: Path) -> Record | None:
    """The record in a file, of whatever node it names; None where it is not the record of one.

    Raises KaizenError where the file cannot be read.
    """
    value = read_json(path)
    try:
        node = NodeId.read(value["kind"], value["key"])
    except (KaizenError, KeyError, TypeError):
        return None
    return parse_record(value, node)


def record_key(value: Mapping[str, Any]) -> str:
    """The key that a record's own content leads to: one that was altered leads to another."""
    return node_key(value["kind"], value["params"], value["code"], value["identities"])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text, not {type(value).__name__}")
    return value


def _fact(value: Any) -> Any:
    """A fact of the environment: a text, a number, true or false, or a list or mapping of such."""
    if isinstance(value, dict):
        return {_text(name): _fact(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_fact(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError("no fact")


def file_name(name: Any) -> str:
    """The name of a file in a node, if it lies in the folder that it is put into; raises ValueError
    or TypeError.
    """
    text = _text(name)
    if len(text) > _LONGEST_NAME or printable(text) != text or "\\" in text:
        raise ValueError(f"{shortened(text)!r} is not the name of a file")
    if any(part in ("", ".", "..") for part in text.split("/")):
        raise ValueError(f"{shortened(text)!r} leads out of its folder")
    return text
