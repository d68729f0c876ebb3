"""Which nodes a plan has, and where in a checkout their files are published."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kaizen.errors import KaizenError
from kaizen.store.node_id import NodeId

MANIFEST = "results/manifest.json"
# How each node was made. Apart from the manifest, as it differs from run to run.
PROVENANCE = "results/provenance.json"
METRICS = "results/metrics.json"
# The page about all of it, written when the tree is published (`kaizen.page`).
REPORT_PAGE = "results/report.html"
# The same for archives: an RO-Crate's metadata.
CRATE = "results/ro-crate-metadata.json"
# What results depend on and DVC does not see; see dvc.yaml.
INPUTS = "data/inputs.json"

# Folders that publishing writes into.
MANAGED = (
    "data/shards",
    "data/replay",
    "results/models",
    "results/heads",
    "results/evaluations",
    "results/summary",
)


@dataclass(frozen=True)
class Layout:
    """A plan as the store knows it.

    ``folders``: readable folder -> the node whose files are published there. ``second_places``:
    further path -> a node, and the name of its file that is published there too. ``nodes`` are all
    nodes of the plan, in an order in which they can be made.
    """

    plan: str
    nodes: tuple[NodeId, ...]
    folders: Mapping[str, NodeId]
    second_places: Mapping[str, tuple[NodeId, str]]


def is_published_path(path: str) -> bool:
    """Whether publishing can have put a file at ``path``, relative to the checkout: it is in a
    managed folder and written plainly, without "..".
    """
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        return False
    return path == METRICS or any(path.startswith(f"{folder}/") for folder in MANAGED)


def check_folders(root: Path) -> None:
    """Raise KaizenError where a folder that publishing writes into is a link: what lies there may
    be another checkout's, or no result at all.
    """
    for managed in MANAGED:
        top, _, _ = managed.partition("/")
        for folder in (root / top, root / managed):
            if folder.is_symlink():
                raise KaizenError(
                    f"{folder} is a link to {os.readlink(folder)}: results are published there, "
                    "and those of former plans removed; put a folder of its own in its place (for "
                    "room on another disk set KAIZEN_STORE, where the files themselves lie)"
                )


def check_store(store: Path) -> None:
    """Raise KaizenError where a file stands at ``store`` or in the place of a folder above it."""
    for place in (store, *store.parents):
        if place.is_dir():
            return
        if place.exists():
            raise KaizenError(
                f"the store cannot be {store}: {place} is a file where a folder is needed; name "
                "another folder (KAIZEN_STORE, or --store), or move it away"
            )


def check_places(root: Path, store: Path, raw: Path | None) -> None:
    """Raise KaizenError where the folders of ``root`` that publishing writes into, the store and
    the raw data (None: it has no files) lie in each other, by whatever links and mounts.
    """
    check_store(store)
    check_folders(root)
    managed = [root / folder for folder in MANAGED]
    others = [(store, "KAIZEN_STORE", "the store")]
    if raw is not None:
        others.append((raw, "dataset.path", "the raw data"))
    for path, name, what in others:
        for folder in managed:
            if _overlap(path, folder):
                raise KaizenError(
                    f"{name}: {path} ({what}) and {folder}, where results are published, lie in "
                    "each other; move it out of there (raw data to data/raw, say), or set another "
                    "folder"
                )
    if raw is not None and _overlap(raw, store):
        raise KaizenError(
            f"dataset.path: {raw} (the raw data) and {store} (the store) lie in each other; "
            "move one of them, or set KAIZEN_STORE to another folder"
        )


def _overlap(one: Path, two: Path) -> bool:
    """Whether one of two paths, present or not, is the other or lies in it."""
    names = [Path(os.path.abspath(path)) for path in (one, two)]
    if names[0].is_relative_to(names[1]) or names[1].is_relative_to(names[0]):
        return True
    (first, above_first), (second, above_second) = _identities(one), _identities(two)
    return second in above_first or first in above_second


def _identities(path: Path) -> tuple[object, set[object]]:
    """What tells a path from all others (device and inode; of one that is not there, its real
    path), and the same of all that it lies in, itself included.
    """
    real = Path(os.path.realpath(path))
    found: list[object] = []
    for place in (real, *real.parents):
        identity: object = str(place)
        with contextlib.suppress(OSError):
            status = place.stat()
            identity = (status.st_dev, status.st_ino)
        found.append(identity)
    return found[0], set(found)
