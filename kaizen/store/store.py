"""The store: finished nodes at paths that hold their keys.

    <store>/<kind>/<key>/node.json        the record: parameters, inputs, environment, hash of every
        file
                         run.json         how it was made: commit, times, host, speed (differs from
                             run to run)
                         …                the node's files, read-only
    <store>/.work/<kind>-<key>/           undeclared working state: a step's resume state
    <store>/.locks/<kind>-<key>           held while a node is being made (locks.py)

A node appears whole, by one rename, or not at all. Nothing is ever written in place, as the
published tree and DVC's cache may be links to the same files.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import explain_write_errors, fsync_folder, read_json, sha256_file, write_json
from kaizen.store.locks import NodeLock, hold, is_held

KINDS = ("shards", "replay", "step", "evaluation", "reference", "summary")
RECORD = "node.json"
RUN_RECORD = "run.json"


def default_store(folder: Path) -> Path:
    """KAIZEN_STORE, else .kaizen/store in the main checkout.

    A temporary DVC workspace (.dvc/tmp/exps/…) and a git worktree find the main checkout's.
    """
    if chosen := os.environ.get("KAIZEN_STORE"):
        return Path(chosen).expanduser().absolute()
    return main_checkout(folder) / ".kaizen" / "store"


def main_checkout(folder: Path) -> Path:
    """The checkout that a temporary DVC workspace or a git worktree was made from; else ``folder``
    itself.
    """
    folder = folder.absolute()
    parts = folder.parts
    for start in range(len(parts) - 2):
        if parts[start : start + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:start])
    pointer = folder / ".git"
    if pointer.is_file():
        target = Path(pointer.read_text(encoding="utf-8").partition("gitdir:")[2].strip())
        git = (folder / target).resolve()
        # A submodule's pointer leads to .git/modules/…: it is a checkout of its own.
        if git.parent.name == "worktrees":
            return git.parent.parent.parent
    return folder


@dataclass(frozen=True)
class Store:
    """Finished nodes under ``root``; every method names nodes by kind and key."""

    root: Path

    def folder(self, kind: str, key: str) -> Path:
        """Where a node's files are, or will be."""
        return self.root / kind / key

    def record(self, kind: str, key: str) -> Path:
        """The file whose existence says that the node is finished."""
        return self.folder(kind, key) / RECORD

    def has(self, kind: str, key: str) -> bool:
        """Whether the node is finished."""
        return self.record(kind, key).is_file()

    def work_folder(self, kind: str, key: str) -> Path:
        """Where a node may keep state while it is being made; survives a failed job."""
        return self.root / ".work" / f"{kind}-{key}"

    def lock_file(self, kind: str, key: str) -> Path:
        """The file whose lock a process holds while it makes the node."""
        return self.root / ".locks" / f"{kind}-{key}"

    def lock(
        self,
        kind: str,
        key: str,
        tell: Callable[[str], None] = lambda text: None,
        stop: Callable[[], bool] = lambda: False,
        title: str = "",
    ) -> contextlib.AbstractContextManager[NodeLock]:
        """Let one process at a time make a node; see `kaizen.store.locks.hold`."""
        return hold(self.lock_file(kind, key), tell, stop, title)

    def is_locked(self, kind: str, key: str) -> bool:
        """Whether some process is making the node at this moment."""
        return is_held(self.lock_file(kind, key))

    @contextlib.contextmanager
    def building(self, kind: str, key: str) -> Iterator[Path]:
        """Yield an empty folder beside the node's place; removed afterwards unless `commit` moved
        it.

        To be used with the node's lock held: what killed builders left behind is removed first.
        """
        for leftover in (self.root / kind).glob(f".{key}.*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        folder = self.root / kind / f".{key}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
        with explain_write_errors(folder):
            folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(
        self, spec: dict[str, Any], building: Path, environment: dict[str, Any], run: dict[str, Any]
    ) -> None:
        """Turn a folder made by `building` into the finished node: hash, record, fsync, read-only,
        rename.
        """
        kind, key = spec["kind"], spec["key"]
        with explain_write_errors(self.folder(kind, key)):
            files = {}
            for path in sorted(p for p in building.rglob("*") if p.is_file()):
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
                files[path.relative_to(building).as_posix()] = {
                    "sha256": sha256_file(path),
                    "size": path.stat().st_size,
                }
            record = {
                name: spec[name]
                for name in ("kind", "key", "code", "params", "identities", "inputs")
            }
            write_json(building / RECORD, record | {"environment": environment, "files": files})
            write_json(
                building / RUN_RECORD, run | {"title": spec["title"], "local": spec["local"]}
            )
            self._install(kind, key, building)

    def _install(self, kind: str, key: str, building: Path) -> None:
        """Rename a complete folder into its place, unless the node is there already."""
        for path in building.rglob("*"):
            if path.is_file():
                path.chmod(0o444)
            else:
                fsync_folder(path)
        fsync_folder(building)
        place = self.folder(kind, key)
        place.parent.mkdir(parents=True, exist_ok=True)
        if self.has(kind, key):
            return
        if place.exists() and any(place.iterdir()):
            self.set_aside(kind, key)
        try:
            os.replace(building, place)
        except OSError:
            # Where locks do not reach across hosts, another process may have been first: its bytes
            # are the same.
            if not self.has(kind, key):
                raise
        fsync_folder(place.parent)

    def set_aside(self, kind: str, key: str) -> Path:
        """Move a node out of the way, so that it is made again; returns where it went."""
        aside = self.root / ".damaged" / f"{kind}-{key}-{secrets.token_hex(4)}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.folder(kind, key), aside)
        return aside

    def read_record(self, kind: str, key: str) -> dict[str, Any]:
        """A finished node's record; raises KaizenError when it is missing, torn or another
        node's.
        """
        path = self.record(kind, key)
        try:
            record = read_json(path)
        except KaizenError as error:
            if not isinstance(error.__cause__, ValueError):
                raise
            record = None  # torn: no JSON, or no text at all
        if not is_record(record, kind, key):
            aside = self.set_aside(kind, key)
            raise KaizenError(
                f"{path} is not the record of node {kind} {key}; set aside as {aside}; run the "
                "same command to make it again"
            )
        return record

    def open_file(self, kind: str, key: str, name: str) -> Path:
        """The path of a node's file once its hash is checked against the record.

        Raises KaizenError that names the file when it is missing or differs; the node is then set
        aside, so that the next run makes it again.
        """
        entry = self.read_record(kind, key)["files"].get(name)
        path = self.folder(kind, key) / name
        if entry is None:
            raise KaizenError(
                f"node {kind} {key} has no file {name}; it was made by another version: delete "
                f"{path.parent}"
            )
        problem = mismatch(path, entry)
        if problem:
            aside = self.set_aside(kind, key)
            raise KaizenError(
                f"{path} {problem}; its node was set aside as {aside}; run the same command "
                "to make it again"
            )
        return path

    def check(self, kind: str, key: str) -> None:
        """Read a finished node whole; raises KaizenError, as `open_file`, and sets it aside where
        it is damaged.
        """
        for name in self.read_record(kind, key)["files"]:
            self.open_file(kind, key, name)

    def note_use(self, kind: str, key: str) -> None:
        """Remember that a node was used now, for garbage collection; nothing else looks at its
        folder's time.
        """
        with contextlib.suppress(OSError):
            os.utime(self.folder(kind, key))

    def follow_sharing(self) -> None:
        """Where the store's folder is writable for its group, let all that this process makes be so
        too.

        That makes `chgrp lab <store>; chmod 2775 <store>` all that it takes to share a store
        between users.
        """
        if self.root.is_dir() and self.root.stat().st_mode & stat.S_IWGRP:
            os.umask(os.umask(0o002) & ~0o070)

    def read_run(self, kind: str, key: str) -> dict[str, Any] | None:
        """How a finished node was made (its run.json); None where that is not known."""
        try:
            run = read_json(self.folder(kind, key) / RUN_RECORD)
        except KaizenError:
            return None
        return run if isinstance(run, dict) else None

    def put_link(
        self, record: dict[str, Any], sources: dict[str, Path], run: dict[str, Any] | None = None
    ) -> None:
        """Put a node into the store from verified files elsewhere (name -> path), by hard link or
        copy.

        ``run`` tells how it was made, where that is known.
        """
        kind, key = record["kind"], record["key"]
        with (
            self.lock(kind, key),
            self.building(kind, key) as building,
            explain_write_errors(building),
        ):
            for name, source in sources.items():
                link_or_copy(source, building / name)
            if run is not None:
                write_json(building / RUN_RECORD, run)
            self._install(kind, key, building)

    def entries(self) -> Iterator[tuple[str, str]]:
        """All finished nodes as (kind, key)."""
        for kind in KINDS:
            folder = self.root / kind
            # Not a glob over the records, which may fail on a folder that another process is
            # renaming.
            for key in sorted(os.listdir(folder)) if folder.is_dir() else []:
                if not key.startswith(".") and self.has(kind, key):
                    yield kind, key


def mismatch(path: Path, entry: dict[str, Any]) -> str:
    """What is wrong with a file whose record says size and sha256; empty when nothing is."""
    try:
        size = path.stat().st_size
    except OSError:
        return "is missing"
    if size != entry["size"]:
        return f"has {size} bytes, not the recorded {entry['size']}"
    return "" if sha256_file(path) == entry["sha256"] else "does not match its recorded hash"


def is_record(record: Any, kind: str, key: str) -> bool:
    """Whether ``record`` is what `Store.commit` wrote of this node: complete, and its content leads
    to the key.
    """
    try:
        named = (record["kind"], record["key"], record_key(record)) == (kind, key, key)
        entries = record["files"].values()
        complete = all(
            isinstance(entry, dict) and {"sha256", "size"} <= entry.keys() for entry in entries
        )
        return named and complete and isinstance(record["inputs"], dict)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def record_key(record: dict[str, Any]) -> str:
    """The key that a record's own content leads to: a record that was tampered with gives
    another.
    """
    from kaizen.plan.nodes import node_key

    return node_key(record["kind"], record["params"], record["code"], record["identities"])


def link_or_copy(source: Path, target: Path) -> None:
    """Put a read-only file at ``target``, atomically: a hard link where ``source`` is read-only,
    else a copy.

    A writable source (a file that DVC checked out as a copy) must not share its inode with the
    store: an edit of it would write into a finished node.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    source = source.resolve()
    try:
        try:
            if stat.S_IMODE(source.stat().st_mode) & 0o222:
                raise PermissionError
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
            temporary.chmod(0o444)
        os.replace(temporary, target)
    finally:
        # rename() of two links to one inode does nothing and leaves the temporary name behind.
        temporary.unlink(missing_ok=True)
