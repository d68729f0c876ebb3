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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kaizen.errors import KaizenError
from kaizen.files import explain_write_errors, printable, sha256_text, write_json
from kaizen.store.identity import make_id
from kaizen.store.node_id import NodeId
from kaizen.store.processes import this_machine
from kaizen.store.store import Store
from kaizen.store.users import CHECKOUT_ID, STORE_ID, User, read_user, user_of


@dataclass(frozen=True)
class Registrations:
    """What stands in `<store>/.users`: the file of each that lives, why it lives where that is not
    plain, those that lapsed, and files that say nothing that can be understood.
    """

    living: Sequence[tuple[Path, User, str]]
    lapsed: Sequence[Path]
    unreadable: Sequence[Path]


def register(
    store: Store, checkout: Path, plan: str, nodes: Iterable[NodeId], firm: bool = True
) -> None:
    """Record that ``checkout`` needs the nodes of a plan, whose key is ``plan``.

    ``firm`` where it is run: those of its plans that were run before may then lapse.
    """
    with contextlib.suppress(KaizenError):
        make_id(checkout / CHECKOUT_ID)
    make_id(store.root / STORE_ID)
    user = user_of(store, checkout, plan, nodes, firm)
    own = user.checkout_id or this_machine()
    path = store.root / ".users" / f"{sha256_text(f'{own}:{checkout}:{plan}')[:32]}.json"
    with store_gate(store, fcntl.LOCK_SH):
        others = [other for file in _files(store) if (other := read_user(file)) is not None]
        ours = [other for other in others if other.is_of(user)]
        newest = max((other for other in ours if other.firm), key=lambda o: o.at, default=None)
        known = read_user(path) if path.exists() else None
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
    read = {path: read_user(path) for path in _files(store)}
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
    read = {path: read_user(path) for path in _files(store)}
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
