"""Publishing: the current plan's files at readable paths, with a manifest.

Links files from the store into `data/` and `results/`, which DVC versions.
`kaizen.store.take_back` is the way back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kaizen.errors import KaizenError
from kaizen.files import explain_write_errors, read_json, write_json
from kaizen.store.layout import MANAGED, MANIFEST, PROVENANCE, Layout
from kaizen.store.links import link_or_copy
from kaizen.store.manifest import PublishedEntry, expected_manifest, manifest_json
from kaizen.store.records import RECORD
from kaizen.store.store import Store


def publish(layout: Layout, store: Store, root: Path) -> list[str]:
    """Link all files of the plan's nodes to their readable paths under ``root`` and write the
    manifest last.

    Beside it stands how each node was made. Deterministic: the same nodes give the same bytes.
    Returns the paths published. Raises KaizenError when a node is missing or its files do not match
    their record.
    """
    with explain_write_errors(root / MANIFEST):
        (root / MANIFEST).unlink(missing_ok=True)
    entries = expected_manifest(layout, store)
    _check_files(entries, store)
    for path, entry in entries.items():
        _link(store.folder(entry.node) / entry.name, root / path, entry.content.size)
    _remove_others(root, set(entries))
    run_records = {node.key: store.read_run_record(node) for node in layout.nodes}
    known = {key: record for key, record in run_records.items() if record is not None}
    write_json(root / PROVENANCE, {"nodes": known})
    write_json(root / MANIFEST, manifest_json(layout.plan, entries))
    return sorted(entries)


def _check_files(entries: Mapping[str, PublishedEntry], store: Store) -> None:
    """Check each file of the store once, though it may be published at several paths."""
    checked = set()
    for entry in entries.values():
        if (entry.node, entry.name) in checked:
            continue
        checked.add((entry.node, entry.name))
        if entry.name == RECORD:
            store.note_use(entry.node)
        else:
            store.open_file(entry.node, entry.name)


def _link(source: Path, target: Path, size: int) -> None:
    with explain_write_errors(target):
        if target.exists() and not target.is_symlink() and os.path.samefile(source, target):
            return
        link_or_copy(source, target)
        if target.stat().st_size != size:
            raise KaizenError(
                f"{target} could not be published whole; see that the disk is not full and run "
                "again"
            )


def _remove_others(root: Path, wanted: set[str]) -> None:
    """Remove files of the managed folders that are not wanted, and folders left empty; keep the
    managed ones.

    Beside them go the leftovers of killed publications.
    """
    for leftover in (root / MANIFEST).parent.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
    for managed in MANAGED:
        base = root / managed
        with explain_write_errors(base):
            base.mkdir(parents=True, exist_ok=True)
            for path in sorted(base.rglob("*"), reverse=True):
                if path.is_dir() and not path.is_symlink():
                    if not any(path.iterdir()):
                        path.rmdir()
                elif path.relative_to(root).as_posix() not in wanted:
                    path.unlink()


def is_published(layout: Layout, store: Store, root: Path) -> bool:
    """Whether the manifest under ``root`` is that of this plan's nodes, and every file present in
    its recorded size.
    """
    try:
        entries = expected_manifest(layout, store)
        if read_json(root / MANIFEST) != manifest_json(layout.plan, entries):
            return False
        if not (root / PROVENANCE).is_file():
            return False
        return all((root / p).stat().st_size == e.content.size for p, e in entries.items())
    except (KaizenError, OSError):
        return False
