"""The checkouts that use a store: each records its plan's nodes in `<store>/.users/`, so that
garbage collection keeps them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kaizen.errors import KaizenError
from kaizen.files import explain_write_errors, read_json, sha256_text, write_json
from kaizen.store.locks import user_name
from kaizen.store.node_id import NodeId
from kaizen.store.store import Store


@dataclass(frozen=True)
class User:
    """A checkout that uses the store, and the nodes of its last plan."""

    checkout: str
    store: str
    host: str
    user: str
    at: float
    plan: str
    nodes: frozenset[NodeId]

    def is_gone(self, store: Store) -> bool:
        """Whether the checkout was on this host and exists no more (a temporary workspace of DVC,
        say).

        Or it uses another store, of which ``store`` is a copy.
        """
        here = self.host == socket.gethostname()
        return here and not (
            Path(self.checkout).is_dir() and self.store == str(store.root.resolve())
        )


def register(store: Store, checkout: Path, plan: str, nodes: Iterable[NodeId]) -> None:
    """Record that ``checkout`` needs the nodes of its current plan, whose key is ``plan``."""
    path = _user_file(store, checkout)
    known = _read_user(path)
    place = str(store.root.resolve())
    if known is not None and (known.plan, known.store) == (plan, place):
        return
    user = User(
        str(checkout), place, socket.gethostname(), user_name(), time.time(), plan, frozenset(nodes)
    )
    values = {field.name: getattr(user, field.name) for field in dataclasses.fields(user)}
    names = sorted((str(node.kind), node.key) for node in user.nodes)
    with store_gate(store, fcntl.LOCK_SH):
        write_json(path, values | {"nodes": names})


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


def forget_the_gone(store: Store) -> None:
    """Remove the records of checkouts that exist no more."""
    for path in (store.root / ".users").glob("*.json"):
        user = _read_user(path)
        if user is None or user.is_gone(store):
            path.unlink(missing_ok=True)


def _user_file(store: Store, checkout: Path) -> Path:
    return store.root / ".users" / f"{sha256_text(f'{socket.gethostname()}:{checkout}')[:16]}.json"


def _read_user(path: Path) -> User | None:
    """What `register` wrote; None where it is not that."""
    try:
        found = read_json(path)
        nodes = frozenset(NodeId.of(kind, key) for kind, key in found["nodes"])
        return User(**found | {"nodes": nodes})
    except (KaizenError, TypeError, KeyError, ValueError):
        return None


@contextlib.contextmanager
def store_gate(store: Store, mode: int) -> Iterator[None]:
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
