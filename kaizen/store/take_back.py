"""Finished nodes without a store: from the published tree of this checkout, or from DVC's cache.

After `dvc pull`, a fresh clone has all nodes of the tree that it pulled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import read_json
from kaizen.store.dvc_cache import dvc_outputs
from kaizen.store.layout import MANIFEST, PROVENANCE
from kaizen.store.manifest import manifest_entries, published_run_records
from kaizen.store.node_id import NodeId
from kaizen.store.records import RECORD, FileEntry, parse_record
from kaizen.store.store import Store


@dataclass(frozen=True)
class PublishedFile:
    """Where a file of a node can be read, and what it must hold."""

    node: NodeId
    name: str
    path: Path
    content: FileEntry


@dataclass(frozen=True)
class PublishedTree:
    """The files of a published tree, and how its nodes were made: key -> run record."""

    files: Sequence[PublishedFile] = ()
    run_records: Mapping[str, dict[str, Any]] = field(default_factory=dict)


def take_back(
    nodes: Iterable[NodeId], store: Store, root: Path, really: bool = True
) -> list[NodeId]:
    """Put those of ``nodes`` that the store lacks into it from published trees; returns those
    taken. Where not ``really``, those that would be: nothing is written then.

    Every file is checked against the manifest and against its node's record, and the record against
    the key; what does not match is left alone, so that the node is made again.
    """
    # A node that is being made is left to its maker, who may take hours.
    wanted = list(nodes)
    missing = set(wanted) - store.finished(wanted)
    missing -= store.being_made(missing)
    if not missing:
        return []
    taken: list[NodeId] = []
    # `dvc repro` removes a stage's outputs before it runs the stage; what an unchanged node needs
    # is then in DVC's cache only, where dvc.lock finds it.
    for tree in (_tree(root.joinpath), _tree(dvc_outputs(root).get)):
        copies: dict[NodeId, dict[str, list[PublishedFile]]] = {}
        for file in tree.files:
            if file.node in missing:
                copies.setdefault(file.node, {}).setdefault(file.name, []).append(file)
        for node, files in copies.items():
            found = _whole_copy(node, files)
            if found is not None:
                if really:
                    store.put_link(node, found, tree.run_records.get(node.key))
                missing.discard(node)
                taken.append(node)
    return taken


def _whole_copy(
    node: NodeId, copies: Mapping[str, Sequence[PublishedFile]]
) -> dict[str, Path] | None:
    """Where each file of a node can be read (name -> path), if every file that its record names is
    there and right.
    """
    found: dict[str, PublishedFile] = {}
    for name, files in copies.items():
        good = next((file for file in files if not file.content.mismatch(file.path)), None)
        if good is None:
            return None
        found[name] = good
    if RECORD not in found:
        return None
    try:
        record = parse_record(read_json(found[RECORD].path), node)
    except KaizenError:
        return None
    if record is None or {*record.files, RECORD} != found.keys():
        return None
    # Every file was hashed above, and has what the manifest says of it.
    if any(found[name].content != entry for name, entry in record.files.items()):
        return None
    return {name: file.path for name, file in found.items()}


def _tree(place: Callable[[str], Path | None]) -> PublishedTree:
    """The tree whose files ``place`` finds by their published paths; empty without a manifest."""
    manifest, provenance = place(MANIFEST), place(PROVENANCE)
    if manifest is None:
        return PublishedTree()
    try:
        entries = manifest_entries(read_json(manifest))
    except KaizenError:
        return PublishedTree()
    files = [
        PublishedFile(entry.node, entry.name, at, entry.content)
        for path, entry in entries.items()
        if (at := place(path)) is not None
    ]
    return PublishedTree(files, published_run_records(provenance) if provenance else {})
