"""Garbage collection: what no checkout that uses the store needs any more.

The nodes of every checkout's last plan (`kaizen.store.registrations`) are kept unless the checkout
is known to be gone. The rest may go: all of it, or the longest unused, until the store keeps to a
size.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kaizen.errors import KaizenError
from kaizen.files import explain_write_errors
from kaizen.store.locks import remove_if_free
from kaizen.store.node_id import Kind, NodeId, is_key
from kaizen.store.records import SHARDS_OF_RUN, read_record
from kaizen.store.registrations import registrations, store_gate
from kaizen.store.store import Store
from kaizen.store.users import User

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Garbage:
    """Something in the store that no plan needs: its size in bytes, and when it was last used (0:
    it never can be). A node ``of_stream`` may be one that cannot be made again: its raw images may
    be gone.
    """

    path: Path
    size: int
    used: float
    of_stream: bool = False


def collect(
    store: Store,
    keep: int | None,
    really: bool,
    also: User | None = None,
    *,
    streams: bool = False,
) -> list[Garbage]:
    """Find what no user of the store needs, and remove it if ``really``; returns it. Nodes of
    streams that grow stay unless ``streams``.

    With ``keep`` only so much, the longest unused first, that the whole store then has at most that
    many bytes. ``also`` counts as registered. Where a registration cannot be read, nothing goes
    that somebody could use.
    """
    # No checkout may come to rely on a node between the finding and the removing.
    with store_gate(store, fcntl.LOCK_EX):
        found = registrations(store, also)
        needed = {node for _, user, _ in found.living for node in user.nodes}
        garbage = find_garbage(store, needed | (also.nodes if also else set()))
        if not streams:
            garbage = [item for item in garbage if not item.of_stream]
        if found.unreadable:
            garbage = [item for item in garbage if not item.used]
        if keep is not None:
            garbage = _beyond(garbage, _size(store.root) - keep)
        if really:
            delete(garbage)
            for path in found.lapsed:
                path.unlink(missing_ok=True)
            for path in (store.root / ".locks").glob("*-*"):
                remove_if_free(path)
    return garbage


def find_garbage(store: Store, needed: set[NodeId]) -> list[Garbage]:
    """Entries, resume states and leftovers that ``needed`` does not name; what is being made is
    kept, and so is what has no node's name.
    """
    damaged = sorted((store.root / ".damaged").glob("*"))
    return [
        *_unneeded_nodes(store, needed),
        *_unneeded_work(store, needed),
        *_unneeded_specs(store, needed),
        *(_garbage(folder, usable=False) for folder in damaged),
    ]


def _unneeded_nodes(store: Store, needed: set[NodeId]) -> Iterator[Garbage]:
    """Finished nodes, and folders of builds and of removals that were killed."""
    for kind in Kind:
        for folder in sorted((store.root / kind).glob("*")):
            temporary = folder.name.startswith(".")
            key = folder.name.split(".")[1] if temporary else folder.name
            if not is_key(key) or (temporary and folder.suffix not in (".tmp", ".gone")):
                continue
            node = NodeId(kind, key)
            if (node not in needed or temporary) and not store.is_locked(node):
                item = _garbage(folder, usable=not temporary)
                of_stream = not temporary and _of_stream(store, node)
                yield dataclasses.replace(item, of_stream=of_stream)


def _of_stream(store: Store, node: NodeId) -> bool:
    """Whether a node was made from the arrivals of a stream that grows, each of which has shards of
    its own.
    """
    made = store.read_run_record(node)
    shards = made.get(SHARDS_OF_RUN) if made is not None else None
    if isinstance(shards, Mapping) and any(role.startswith("shards-") for role in shards):
        return True
    if node.kind is not Kind.SHARDS:
        return False
    try:
        record = read_record(store.record_path(node))
    except KaizenError:
        return True  # not known: it stays
    return record is not None and record.params.get("task") is not None


def _unneeded_work(store: Store, needed: set[NodeId]) -> Iterator[Garbage]:
    """Resume states, also those of nodes that are finished."""
    for folder in sorted((store.root / ".work").glob("*")):
        if folder.name.startswith("."):
            if folder.suffix == ".gone":
                yield _garbage(folder, usable=False)
        elif (work := NodeId.from_file_name(folder.name)) is not None:
            finished = store.has(work)
            if (work not in needed or finished) and not store.is_locked(work):
                yield _garbage(folder, usable=not finished)


def _unneeded_specs(store: Store, needed: set[NodeId]) -> Iterator[Garbage]:
    """Specifications of jobs that are done, or that nobody asks for."""
    for path in sorted((store.root / ".specs").glob("*.json")):
        job = NodeId.from_file_name(path.stem)
        if job is not None and (job not in needed or store.has(job)):
            yield _garbage(path, usable=False)


def delete(garbage: Sequence[Garbage]) -> None:
    """Remove garbage; each entry vanishes by a rename first, so that a kill leaves no half entry
    under a key.

    What another process removed meanwhile is skipped.
    """
    for item in garbage:
        gone = item.path.with_name(f".{item.path.name.lstrip('.')}.{secrets.token_hex(4)}.gone")
        with explain_write_errors(item.path), contextlib.suppress(FileNotFoundError):
            os.replace(item.path, gone)
            if gone.is_dir() and not gone.is_symlink():
                shutil.rmtree(gone)
            else:
                gone.unlink()


def parse_size(text: str) -> int:
    """The bytes that "500M", "20GB" or "1.5T" say (powers of 1000); raises KaizenError for anything
    else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if not found:
        raise KaizenError(
            f"--keep: {text!r} is not a size; write a number and K, M, G or T, as in 20G"
        )
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
    return Garbage(path, _size(path), path.lstat().st_mtime if usable else 0.0)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file() or file.is_symlink())
