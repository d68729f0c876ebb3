"""Garbage collection: what no checkout that uses the store needs any more.

Every checkout leaves its plan's nodes in `<store>/.users/`; they are kept as long as the checkout
exists. The rest may go: all of it, or the longest unused, until the store keeps to a size.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kaizen.errors import KaizenError
from kaizen.files import explain_write_errors, read_json, sha256_text, write_json
from kaizen.store.locks import remove_if_free, user_name
from kaizen.store.store import KINDS, Store

NodeName = tuple[str, str]

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class User:
    """A checkout that uses the store, and the nodes, (kind, key), of its last plan."""

    checkout: str
    store: str
    host: str
    user: str
    at: float
    plan: str
    nodes: frozenset[NodeName]

    def is_gone(self, store: Store) -> bool:
        """Whether the checkout was on this host and exists no more (a temporary workspace of DVC,
        say).

        Or it uses another store, of which ``store`` is a copy.
        """
        here = self.host == socket.gethostname()
        return here and not (
            Path(self.checkout).is_dir() and self.store == str(store.root.resolve())
        )


@dataclass(frozen=True)
class Garbage:
    """Something in the store that no plan needs: its size in bytes, and when it was last used (0:
    it never can be).
    """

    path: Path
    size: int
    used: float


def register(store: Store, checkout: Path, plan: str, nodes: Iterable[NodeName]) -> None:
    """Record that ``checkout`` needs the nodes of its current plan, whose key is ``plan``."""
    path = _user_file(store, checkout)
    known = _read_user(path)
    place = str(store.root.resolve())
    if known is not None and (known.plan, known.store) == (plan, place):
        return
    user = User(
        str(checkout), place, socket.gethostname(), user_name(), time.time(), plan, frozenset(nodes)
    )
    with _gate(store, fcntl.LOCK_SH):
        write_json(path, dataclasses.asdict(user) | {"nodes": sorted(user.nodes)})


def forget(store: Store, checkout: Path) -> None:
    """Let go of what ``checkout`` needs; raises KaizenError where it is no user of the store."""
    path = _user_file(store, checkout)
    if not path.exists():
        known = ", ".join(user.checkout for user in users(store)) or "none"
        raise KaizenError(f"{checkout} does not use {store.root}; known: {known}")
    path.unlink()


def users(store: Store) -> list[User]:
    """The checkouts that use the store and still exist."""
    found = (_read_user(path) for path in sorted((store.root / ".users").glob("*.json")))
    return [user for user in found if user is not None and not user.is_gone(store)]


def collect(store: Store, keep: int | None, really: bool) -> list[Garbage]:
    """Find what no user of the store needs, and remove it if ``really``; returns it.

    With ``keep`` only so much, the longest unused first, that the whole store then has at most that
    many bytes.
    """
    # No checkout may come to rely on a node between the finding and the removing.
    with _gate(store, fcntl.LOCK_EX):
        needed = {node for user in users(store) for node in user.nodes}
        garbage = find_garbage(store, needed)
        if keep is not None:
            garbage = _beyond(garbage, _size(store.root) - keep)
        if really:
            delete(garbage)
            for path in (store.root / ".users").glob("*.json"):
                user = _read_user(path)
                if user is None or user.is_gone(store):
                    path.unlink(missing_ok=True)
            for path in (store.root / ".locks").glob("*-*"):
                remove_if_free(path)
    return garbage


def find_garbage(store: Store, needed: set[NodeName]) -> list[Garbage]:
    """Entries, resume states and leftovers that ``needed`` (kind, key) does not name; what is being
    made is spared.
    """
    garbage: list[Garbage] = []
    for kind in KINDS:
        for folder in sorted((store.root / kind).glob("*")):
            temporary = folder.name.startswith(".")
            key = folder.name.split(".")[1] if temporary else folder.name
            if ((kind, key) not in needed or temporary) and not store.is_locked(kind, key):
                garbage.append(_garbage(folder, usable=not temporary))
    for folder in sorted((store.root / ".work").glob("*")):
        kind, _, key = folder.name.partition("-")
        finished = store.has(kind, key)
        if ((kind, key) not in needed or finished) and not store.is_locked(kind, key):
            garbage.append(_garbage(folder, usable=not finished))
    for path in sorted((store.root / ".specs").glob("*.json")):
        kind, _, key = path.stem.partition("-")
        if (kind, key) not in needed or store.has(kind, key):
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


def _user_file(store: Store, checkout: Path) -> Path:
    return store.root / ".users" / f"{sha256_text(f'{socket.gethostname()}:{checkout}')[:16]}.json"


def _read_user(path: Path) -> User | None:
    """What `register` wrote; None where it is not that."""
    try:
        found = read_json(path)
        return User(**found | {"nodes": frozenset((kind, key) for kind, key in found["nodes"])})
    except (KaizenError, TypeError, KeyError, ValueError):
        return None


@contextlib.contextmanager
def _gate(store: Store, mode: int) -> Iterator[None]:
    """Let either one collector or any number of registrations in."""
    path = store.root / ".locks" / "gate"
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, mode)
        yield
    finally:
        os.close(descriptor)
