"""What a node is called: its kind, and the key that hashes all that its content depends on."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import canonical_json, sha256_text

KEY_LENGTH = 32
_KEY = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}")
# Raised when nodes made before must not be used any more, though nothing that a key hashes tells
# them apart: a new layout of a node's files, say. Raising it makes every node of every user again.
KEY_VERSION = 1


class Kind(enum.StrEnum):
    """The kinds of nodes, in an order in which they can be made."""

    SHARDS = "shards"
    REPLAY = "replay"
    STEP = "step"
    HEAD = "head"
    EVALUATION = "evaluation"
    REFERENCE = "reference"
    SUMMARY = "summary"


def is_key(value: Any) -> bool:
    """Whether a value is written as a key is."""
    return isinstance(value, str) and _KEY.fullmatch(value) is not None


@dataclass(frozen=True, order=True, slots=True)
class NodeId:
    """A node's name: unique among all nodes of all plans, and its path in a store."""

    kind: Kind
    key: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.key}"

    @property
    def file_name(self) -> str:
        """The name as one component of a path, for locks and working folders."""
        return f"{self.kind}-{self.key}"

    def to_json(self) -> dict[str, str]:
        """As a mapping, for JSON."""
        return {"kind": str(self.kind), "key": self.key}

    @classmethod
    def of(cls, kind: str, key: str) -> NodeId:
        """From two texts; raises KaizenError where ``kind`` is none of the kinds."""
        try:
            return cls(Kind(kind), key)
        except ValueError:
            kinds = ", ".join(Kind)
            raise KaizenError(f"kind {kind!r} is unknown, not one of {kinds}") from None

    @classmethod
    def read(cls, kind: Any, key: Any) -> NodeId:
        """From what a file says; raises KaizenError where it is not a kind and a key, which become
        parts of paths.
        """
        if not isinstance(kind, str) or not is_key(key):
            raise KaizenError(
                f"{str(kind)[:20]!r} and {str(key)[:40]!r} are not a node's kind and its key, "
                f"which is {KEY_LENGTH} hexadecimal digits"
            )
        return cls.of(kind, key)

    @classmethod
    def from_file_name(cls, name: str) -> NodeId | None:
        """The node that `file_name` made ``name`` of; None where it is none."""
        kind, _, key = name.partition("-")
        try:
            return cls.read(kind, key)
        except KaizenError:
            return None


def node_key(
    kind: str, params: Mapping[str, Any], code_hash: str, identities: Mapping[str, str]
) -> str:
    """The key: SHA-256 of the canonical JSON of all that a node depends on, cut to 32 digits.

    ``identities`` name its inputs' content: keys of the nodes that it is made from, or checksums.
    """
    text = canonical_json(
        {
            "key_version": KEY_VERSION,
            "kind": str(kind),
            "params": dict(params),
            "code": code_hash,
            "identities": dict(identities),
        }
    )
    return sha256_text(text)[:KEY_LENGTH]
