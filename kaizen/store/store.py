"""The store: finished nodes at paths that hold their keys.

    <store>/<kind>/<key>/node.json      the record: parameters, inputs, hash of every file
                         run.json       how it was made: commit, times, host; differs by run
                         …              the node's files, read-only
    <store>/.work/<kind>-<key>/         undeclared working state: a step's resume state
    <store>/.locks/<kind>-<key>         held while a node is being made (locks.py)

A node appears whole, by one rename, or not at all. Nothing is ever written in place, as the
published tree and DVC's cache may be links to the same files.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import explain_write_errors, fsync_folder, read_json, write_json
from kaizen.store.links import link_or_copy
from kaizen.store.locks import NodeLock, hold, is_held
from kaizen.store.node_id import Kind, NodeId, is_key
from kaizen.store.records import (
    RECORD,
    RUN_RECORD,
    SHARDS_OF_RUN,
    FileEntry,
    Record,
    parse_record,
    parse_run_record,
)


@dataclass(frozen=True)
class Store:
    """Finished nodes under ``root``."""

    root: Path

    def folder(self, node: NodeId) -> Path:
        """Where a node's files are, or will be."""
        return self.root / node.kind / node.key

    def record_path(self, node: NodeId) -> Path:
        """The file whose existence says that the node is finished."""
        return self.folder(node) / RECORD

    def has(self, node: NodeId) -> bool:
        """Whether the node is finished."""
        return self.record_path(node).is_file()

    def finished(self, nodes: Iterable[NodeId]) -> set[NodeId]:
        """Those of ``nodes`` that are finished, as `has` says of each; of many at once, as it lists
        a kind's folder instead of looking for every node.
        """
        there: dict[Kind, set[str]] = {}
        found = set()
        for node in nodes:
            if node.kind not in there:
                there[node.kind] = names_in(self.root / node.kind)
            if node.key in there[node.kind] and self.has(node):
                found.add(node)
        return found

    def being_made(self, nodes: Iterable[NodeId]) -> set[NodeId]:
        """Those of ``nodes`` that some process is making at this moment, as `is_locked` says."""
        files = names_in(self.root / ".locks")
        return {node for node in nodes if node.file_name in files and self.is_locked(node)}

    def work_folder(self, node: NodeId) -> Path:
        """Where a node may keep state while it is being made; survives a failed job."""
        return self.root / ".work" / node.file_name

    def lock_file(self, node: NodeId) -> Path:
        """The file whose lock a process holds while it makes the node."""
        return self.root / ".locks" / node.file_name

    def lock(
        self,
        node: NodeId,
        report: Callable[[str], None] = lambda text: None,
        stop: Callable[[], bool] = lambda: False,
        title: str = "",
    ) -> contextlib.AbstractContextManager[NodeLock]:
        """Let one process at a time make a node; see `kaizen.store.locks.hold`."""
        return hold(self.lock_file(node), report, stop, title)

    def is_locked(self, node: NodeId) -> bool:
        """Whether some process is making the node at this moment."""
        return is_held(self.lock_file(node))

    @contextlib.contextmanager
    def building(self, node: NodeId) -> Iterator[Path]:
        """Yield an empty folder next to the node's place; removed afterwards unless `commit` moved
        it.

        To be used with the node's lock held: what killed builders left behind is removed first.
        """
        for leftover in (self.root / node.kind).glob(f".{node.key}.*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        name = f".{node.key}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
        folder = self.root / node.kind / name
        with explain_write_errors(folder):
            folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(
        self,
        job: Mapping[str, Any],
        building: Path,
        environment: Mapping[str, Any],
        run_record: Mapping[str, Any],
    ) -> None:
        """Turn a folder made by `building` into the finished node: hash, record, fsync, read-only,
        rename.

        ``job`` is its specification as JSON (`kaizen.plan.job.Job.to_json`). Which shards it read
        stands in run.json: others with the same content in all that it read make the same node.
        """
        node = NodeId.read(job["kind"], job["key"])
        with explain_write_errors(self.folder(node)):
            files = {}
            for path in sorted(p for p in building.rglob("*") if p.is_file()):
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
                files[path.relative_to(building).as_posix()] = FileEntry.of(path)
            inputs = {role: NodeId.of(**parent) for role, parent in job["inputs"].items()}
            record = Record(
                node,
                job["code"],
                job["params"],
                job["identities"],
                {role: node for role, node in inputs.items() if node.kind is not Kind.SHARDS},
                environment,
                files,
            )
            write_json(building / RECORD, record.to_json())
            made = {**run_record, "title": job["title"], "local": job["local"]}
            read = {role: node.key for role, node in inputs.items() if node.kind is Kind.SHARDS}
            made |= {SHARDS_OF_RUN: read} if read else {}
            write_json(building / RUN_RECORD, made)
            self._install(node, building)

    def _install(self, node: NodeId, building: Path) -> None:
        """Rename a complete folder into its place, unless the node is there already."""
        for path in building.rglob("*"):
            if path.is_file():
                path.chmod(0o444)
            else:
                fsync_folder(path)
        fsync_folder(building)
        place = self.folder(node)
        place.parent.mkdir(parents=True, exist_ok=True)
        if self.has(node):
            return
        if place.exists() and any(place.iterdir()):
            self.set_aside(node)
        try:
            os.replace(building, place)
        except OSError:
            # Where locks do not reach across hosts, another process may have been first: its bytes
            # are the same.
            if not self.has(node):
                raise
        fsync_folder(place.parent)

    def set_aside(self, node: NodeId) -> Path:
        """Move a node out of the way, so that it is made again; returns where it went."""
        aside = self.root / ".damaged" / f"{node.file_name}-{secrets.token_hex(4)}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.folder(node), aside)
        return aside

    def read_record(self, node: NodeId) -> Record:
        """A finished node's record.

        Raises KaizenError when it is missing, torn or another node's; a damaged node is set aside.
        """
        path = self.record_path(node)
        try:
            value = read_json(path)
        except KaizenError as error:
            if not isinstance(error.__cause__, ValueError):
                raise
            value = None  # torn: no JSON, or no text at all
        record = parse_record(value, node)
        if record is None:
            aside = self.set_aside(node)
            raise KaizenError(
                f"{path} is not the record of node {node}; set aside as {aside}; run the same "
                "command to make it again"
            )
        return record

    def open_file(self, node: NodeId, name: str) -> Path:
        """The path of a node's file once its hash is checked against the record.

        Raises KaizenError that names the file when it is missing or differs; the node is then set
        aside, so that the next run makes it again.
        """
        entry = self.read_record(node).files.get(name)
        path = self.folder(node) / name
        if entry is None:
            raise KaizenError(
                f"node {node} has no file {name}; it was made by another version: delete "
                f"{path.parent}"
            )
        problem = entry.mismatch(path)
        if problem:
            aside = self.set_aside(node)
            raise KaizenError(
                f"{path} {problem}; its node was set aside as {aside}; run the same command to "
                "make it again"
            )
        return path

    def check(self, node: NodeId) -> None:
        """Read a finished node whole; raises KaizenError, as `open_file`, and sets it aside where
        it is damaged.
        """
        for name in self.read_record(node).files:
            self.open_file(node, name)

    def note_use(self, node: NodeId) -> None:
        """Remember that a node was used now, for garbage collection; nothing else looks at its
        folder's time.
        """
        with contextlib.suppress(OSError):
            os.utime(self.folder(node))

    def follow_sharing(self) -> None:
        """Where the store's folder is writable for its group, let all that this process makes be
        so too.

        That makes `chgrp lab <store>; chmod 2775 <store>` all that it takes to share a store
        between users.
        """
        if self.root.is_dir() and self.root.stat().st_mode & stat.S_IWGRP:
            os.umask(os.umask(0o002) & ~0o070)

    def read_run_record(self, node: NodeId) -> dict[str, Any] | None:
        """How a finished node was made (its run.json); None where that is not known."""
        try:
            return parse_run_record(read_json(self.folder(node) / RUN_RECORD))
        except KaizenError:
            return None

    def put_link(
        self,
        node: NodeId,
        sources: Mapping[str, Path],
        run_record: Mapping[str, Any] | None = None,
    ) -> None:
        """Put a node into the store from verified files elsewhere (name -> path), by hard link or
        copy.

        ``run_record`` says how it was made, where that is known.
        """
        with self.lock(node), self.building(node) as building, explain_write_errors(building):
            for name, source in sources.items():
                link_or_copy(source, building / name)
            if run_record is not None:
                write_json(building / RUN_RECORD, run_record)
            self._install(node, building)

    def entries(self) -> Iterator[NodeId]:
        """All finished nodes."""
        for kind in Kind:
            folder = self.root / kind
            # Not a glob over the records, which may fail on a folder that another process is
            # renaming.
            for key in sorted(os.listdir(folder)) if folder.is_dir() else []:
                node = NodeId(kind, key)
                if is_key(key) and self.has(node):
                    yield node


def names_in(folder: Path) -> set[str]:
    """What is in a folder; nothing where there is none."""
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()
