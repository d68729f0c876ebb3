"""Garbage collection: what no checkout that uses the store needs any more.

The nodes of every checkout's last plan (`kaizen.store.users`) are kept as long as the checkout
exists. The rest may go: all of it, or the longest unused, until the store keeps to a size.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kaizen.errors import KaizenError
from kaizen.files import explain_write_errors
from kaizen.store.locks import remove_if_free
from kaizen.store.node_id import Kind, NodeId
from kaizen.store.store import Store
from kaizen.store.users import forget_the_gone, store_gate, users

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Garbage:
    """Something in the store that no plan needs: its size in bytes, and when it was last used (0:
    it never can be).
    """

    path: Path
    size: int
    used: float


def collect(store: Store, keep: int | None, really: bool) -> list[Garbage]:
    """Find what no user of the store needs, and remove it if ``really``; returns it.

    With ``keep`` only so much, the longest unused first, that the whole store then has at most that
    many bytes.
    """
    # No checkout may come to rely on a node between the finding and the removing.
    with store_gate(store, fcntl.LOCK_EX):
        needed = {node for user in users(store) for node in user.nodes}
        garbage = find_garbage(store, needed)
        if keep is not None:
            garbage = _beyond(garbage, _size(store.root) - keep)
        if really:
            delete(garbage)
            forget_the_gone(store)
            for path in (store.root / ".locks").glob("*-*"):
                remove_if_free(path)
    return garbage


def find_garbage(store: Store, needed: set[NodeId]) -> list[Garbage]:
    """Entries, resume states and leftovers that ``needed`` does not name; what is being made is
    spared, and so is what has no node's name.
    """
    garbage: list[Garbage] = []
    for kind in Kind:
        for folder in sorted((store.root / kind).glob("*")):
            temporary = folder.name.startswith(".")
            node = NodeId(kind, folder.name.split(".")[1] if temporary else folder.name)
            if (node not in needed or temporary) and not store.is_locked(node):
                garbage.append(_garbage(folder, usable=not temporary))
    for folder in sorted((store.root / ".work").glob("*")):
        if folder.name.startswith("."):
            garbage.append(_garbage(folder, usable=False))
        elif (work := NodeId.from_file_name(folder.name)) is not None:
            finished = store.has(work)
            if (work not in needed or finished) and not store.is_locked(work):
                garbage.append(_garbage(folder, usable=not finished))
    for path in sorted((store.root / ".specs").glob("*.json")):
        job = NodeId.from_file_name(path.stem)
        if job is not None and (job not in needed or store.has(job)):
            garbage.append(_garbage(path, usable=False))
    garbage.extend(
        _garbage(folder, usable=False) for folder in sorted((store.root / ".damaged").glob("*"))
    )
    return garbage


def delete(garbage: Sequence[Garbage]) -> None:
    """Remove garbage; each entry vanishes by a rename first, so that a kill leaves no half entry
    under a key.

    What another process removed meanwhile is skipped.
    """
    for item in garbage:
        gone = item.path.with_name(f".{item.path.name.lstrip('.')}.{secrets.token_hex(4)}.gone")
        with explain_write_errors(item.path), contextlib.suppress(FileNotFoundError):
            os.replace(item.path, gone)
            if gone.is_dir():
                shutil.rmtree(gone)
            else:
                gone.unlink()


def parse_size(text: str) -> int:
    """The bytes that "500M", "20GB" or "1.5T" say (powers of 1000); raises KaizenError for anything
    else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if not found:
        raise KaizenError(f"{text!r} is not a size; write a number and K, M, G or T, as in 20G")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _beyond(garbage: Sequence[Garbage], excess: int) -> list[Garbage]:
    """The first of ``garbage``, longest unused first, that come to ``excess`` bytes; what can never
    be used always.
    """
    chosen = []
    for item in sorted(garbage, key=lambda item: item.used):
        if item.used and excess <= 0:
            break
        chosen.append(item)
        excess -= item.size
    return chosen


def _garbage(path: Path, usable: bool) -> Garbage:
    return Garbage(path, _size(path), path.stat().st_mtime if usable else 0.0)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file())
