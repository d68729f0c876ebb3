"""The checkouts that use a store: each records the nodes of its plans in `<store>/.users/`, a file
per plan, so that garbage collection keeps them.

What cannot be seen or read counts as living. A registration lapses in two cases only. Its checkout
is gone: this machine sees the folder that it lay in, the very same, without it. Or a later run has
taken its place: the checkout has started another plan since, this machine sees the checkout, no
snakemake works there, and the process that made the registration has ended. `firm` registrations
are those of runs; one of a dry run or of a plan from a file takes no other's place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import explain_write_errors, printable, read_json, sha256_text, write_json
from kaizen.store.identity import make_id, read_id, same_folder
from kaizen.store.locks import user_name
from kaizen.store.node_id import NodeId
from kaizen.store.processes import Process, living_workflows, this_machine, this_process
from kaizen.store.store import Store

VERSION = 2
_STORE_ID = ".id"
_CHECKOUT_ID = Path(".kaizen/id")


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
        copied = self.store_id == read_id(other / _STORE_ID) == read_id(store.root / _STORE_ID)
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


@dataclass(frozen=True)
class Registrations:
    """What stands in `<store>/.users`: the file of each that lives, why it lives where that is not
    plain, those that lapsed, and files that say nothing that can be understood.
    """

    living: Sequence[tuple[Path, User, str]]
    lapsed: Sequence[Path]
    unreadable: Sequence[Path]


def user_of(
    store: Store, checkout: Path, plan: str, nodes: Iterable[NodeId], firm: bool = True
) -> User:
    """What `register` writes; changes nothing."""
    identity = read_id(checkout / _CHECKOUT_ID)
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
        read_id(store.root / _STORE_ID),
        firm,
        this_process(),
        _above(checkout) if shown == str(checkout) else (),
    )


def register(
    store: Store, checkout: Path, plan: str, nodes: Iterable[NodeId], firm: bool = True
) -> None:
    """Record that ``checkout`` needs the nodes of a plan, whose key is ``plan``.

    ``firm`` where it is run: those of its plans that were run before may then lapse.
    """
    with contextlib.suppress(KaizenError):
        make_id(checkout / _CHECKOUT_ID)
    make_id(store.root / _STORE_ID)
    user = user_of(store, checkout, plan, nodes, firm)
    own = user.checkout_id or this_machine()
    path = store.root / ".users" / f"{sha256_text(f'{own}:{checkout}:{plan}')[:32]}.json"
    with store_gate(store, fcntl.LOCK_SH):
        others = [other for file in _files(store) if (other := _read_user(file)) is not None]
        ours = [other for other in others if other.is_of(user)]
        newest = max((other for other in ours if other.firm), key=lambda o: o.at, default=None)
        known = _read_user(path) if path.exists() else None
        if known is not None and known == newest and known.nodes == user.nodes:
            runs = known.process is not None and known.process.may_run()
            if known.store == user.store and (not firm or (runs and known.is_here)):
                return
        # After all others of the checkout, whatever its hosts' clocks say.
        at = max([user.at, *(other.at + 0.001 for other in ours)])
        write_json(path, replace(user, at=at).to_json())
        with explain_write_errors(path):
            # For every user's collector to read.
            path.chmod(path.stat().st_mode | 0o444)


def forget(store: Store, checkout: Path) -> None:
    """Let go of what ``checkout`` needs (its folder, or a file of `<store>/.users`); raises
    KaizenError where it is no user of the store.
    """
    read = {path: _read_user(path) for path in _files(store)}
    shown = printable(str(checkout))
    found = [
        path
        for path, user in read.items()
        if path == checkout or (user is not None and user.checkout == shown)
    ]
    if not found:
        known = ", ".join(sorted({user.checkout for user in users(store)})) or "none"
        raise KaizenError(f"{checkout} does not use {store.root}; known: {known}")
    for path in found:
        path.unlink(missing_ok=True)


def users(store: Store) -> list[User]:
    """The plans of checkouts that use the store, as far as they are not known to be gone."""
    return [user for _, user, _ in registrations(store).living]


def registrations(store: Store, also: User | None = None) -> Registrations:
    """Who uses the store, and ``also`` as if it were registered; changes nothing.

    Raises KaizenError where the list of them cannot be read.
    """
    read = {path: _read_user(path) for path in _files(store)}
    found = [(path, user) for path, user in read.items() if user is not None]
    everyone = [user for _, user in found] + ([also] if also else [])
    living, lapsed = [], []
    for path, user in found:
        later = any(o.firm and o.at > user.at and o.is_of(user) for o in everyone)
        if also is not None and also.is_of(user) and also.plan == user.plan:
            later = False
        if user.is_gone(store):
            lapsed.append(path)
        elif not later:
            living.append((path, user, "" if user.is_here else _UNSEEN))
        elif user.is_at_work():
            living.append((path, user, _AT_WORK if user.is_here else _UNSEEN))
        else:
            lapsed.append(path)
    return Registrations(living, lapsed, [path for path, user in read.items() if user is None])


_UNSEEN = "of another machine, or registered by an earlier version: `--forget` it once it is gone"
_AT_WORK = "an earlier plan, at which somebody may still work"


def _files(store: Store) -> list[Path]:
    """The files of all registrations; raises KaizenError where they cannot be listed."""
    folder = store.root / ".users"
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KaizenError(
            f"{folder} cannot be read ({error.strerror}), and who uses the store is not known; ask "
            "its owner to make it readable"
        ) from error
    return [folder / name for name in sorted(names) if name.endswith(".json") and name[0] != "."]


def _above(checkout: Path) -> tuple[tuple[int, int], ...]:
    """Device and inode of a folder and of every folder above it; none where one cannot be seen."""
    try:
        found = [place.stat() for place in (checkout, *checkout.parents)]
    except OSError:
        return ()
    return tuple((status.st_dev, status.st_ino) for status in found)


def _read_user(path: Path) -> User | None:
    """What `register` wrote; None where it is not that, or of a later version."""
    try:
        return User.from_json(read_json(path))
    except KaizenError:
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
