"""Who uses a store: a plan of a checkout, and whether it is gone or still at work.

What cannot be seen or read counts as living. `kaizen.store.registrations` keeps the list of them.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import printable, read_json
from kaizen.store.identity import read_id, same_folder
from kaizen.store.locks import user_name
from kaizen.store.node_id import NodeId
from kaizen.store.processes import Process, living_workflows, this_machine, this_process
from kaizen.store.store import Store

VERSION = 2
# Where the name of a store, and of a checkout, lies within it.
STORE_ID = Path(".id")
CHECKOUT_ID = Path(".kaizen/id")


@dataclass(frozen=True)
class User:
    """A plan of a checkout that uses the store.

    ``above``: device and inode of the checkout and of every folder above it; ``process`` registered
    it. Both are unknown of what an earlier version wrote.
    """

    checkout: str
    store: str
    host: str
    user: str
    at: float
    plan: str
    nodes: frozenset[NodeId]
    checkout_id: str = ""
    store_id: str = ""
    firm: bool = True
    process: Process | None = None
    above: tuple[tuple[int, int], ...] = ()

    @property
    def is_here(self) -> bool:
        """Whether it was registered on this machine, so that its paths mean the same."""
        return self.process is not None and self.process.machine == this_machine()

    def is_gone(self, store: Store) -> bool:
        """Whether the checkout certainly exists no more (a temporary workspace of DVC, say).

        Or it uses another store, of which ``store`` is a copy.
        """
        return self.is_here and (self._is_removed() or self._uses_another(store))

    def _is_removed(self) -> bool:
        path = Path(self.checkout)
        places = (path, *path.parents)
        if len(places) != len(self.above):
            return False
        for depth, place in enumerate(places):
            try:
                status = place.stat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                return False
            # Was all that is missing on the file system that is still there? Else it may be
            # unmounted.
            devices = {device for device, _ in self.above[:depth]}
            same = (status.st_dev, status.st_ino) == self.above[depth]
            return depth > 0 and same and devices <= {status.st_dev}
        return False

    def _uses_another(self, store: Store) -> bool:
        other = Path(self.store)
        if other == store.root.resolve() or not self.store_id:
            return False
        copied = self.store_id == read_id(other / STORE_ID) == read_id(store.root / STORE_ID)
        return copied and not same_folder(store.root, other)

    def is_of(self, other: User) -> bool:
        """Whether both are of one checkout."""
        same = self.is_here and other.is_here
        known = self.checkout_id != "" and self.checkout_id == other.checkout_id
        return self.checkout == other.checkout and (same or known)

    def is_at_work(self) -> bool:
        """Whether its process, or a snakemake in its checkout, may still run."""
        if self.process is None or (self.process.may_run() and not self.process.is_this()):
            return True
        try:
            os.listdir(self.checkout)
            return bool(living_workflows(Path(self.checkout)))
        except OSError:
            return True

    def to_json(self) -> dict[str, Any]:
        """As a mapping, for JSON."""
        process = self.process or this_process()
        return {
            "version": VERSION,
            "checkout": self.checkout,
            "checkout_id": self.checkout_id,
            "store": self.store,
            "store_id": self.store_id,
            "host": self.host,
            "user": self.user,
            "at": self.at,
            "plan": self.plan,
            "firm": self.firm,
            "machine": process.machine,
            "pid": process.pid,
            "started": process.started,
            "above": [list(place) for place in self.above],
            "nodes": sorted((str(node.kind), node.key) for node in self.nodes),
        }

    @classmethod
    def from_json(cls, value: Any) -> User | None:
        """From a mapping; None where it is none of this version or the one before."""
        try:
            version = value.get("version", 1)
            texts = [value[name] for name in ("checkout", "store", "host", "user", "plan")]
            at, nodes = value["at"], frozenset(NodeId.read(*pair) for pair in value["nodes"])
            if not all(isinstance(t, str) and printable(t) == t for t in texts) or version not in (
                1,
                VERSION,
            ):
                return None
            checkout, store, host, user, plan = texts
            if not isinstance(at, int | float) or not Path(checkout).is_absolute():
                return None
            found = cls(checkout, store, host, user, float(at), plan, nodes)
            if version == 1:
                return found
            process = Process(*(value[name] for name in ("machine", "pid", "started")))
            above = tuple((device, inode) for device, inode in value["above"])
            ids, firm = (value["checkout_id"], value["store_id"]), value["firm"]
            numbers = [process.pid, *(number for place in above for number in place)]
            if (
                all(isinstance(text, str) for text in (*ids, process.machine, process.started))
                and all(type(number) is int for number in numbers)
                and isinstance(firm, bool)
            ):
                return replace(
                    found,
                    checkout_id=ids[0],
                    store_id=ids[1],
                    firm=firm,
                    process=process,
                    above=above,
                )
        except (KaizenError, TypeError, KeyError, ValueError, AttributeError, OverflowError):
            pass
        return None


def user_of(
    store: Store, checkout: Path, plan: str, nodes: Iterable[NodeId], firm: bool = True
) -> User:
    """What `kaizen.store.registrations.register` writes; changes nothing."""
    identity = read_id(checkout / CHECKOUT_ID)
    # A path that cannot be written down can never be seen to be gone.
    shown = printable(str(checkout))
    return User(
        shown,
        printable(str(store.root.resolve())),
        socket.gethostname(),
        printable(user_name()),
        time.time(),
        plan,
        frozenset(nodes),
        identity,
        read_id(store.root / STORE_ID),
        firm,
        this_process(),
        _above(checkout) if shown == str(checkout) else (),
    )


def read_user(path: Path) -> User | None:
    """What `kaizen.store.registrations.register` wrote; None where it is not that, or of a later
    version.
    """
    try:
        return User.from_json(read_json(path))
    except KaizenError:
        return None


def _above(checkout: Path) -> tuple[tuple[int, int], ...]:
    """Device and inode of a folder and of every folder above it; none where one cannot be seen."""
    try:
        found = [place.stat() for place in (checkout, *checkout.parents)]
    except OSError:
        return ()
    return tuple((status.st_dev, status.st_ino) for status in found)
