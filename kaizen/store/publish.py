"""Publishing: the current plan's files at readable paths, with a manifest.

Links files from the store into `data/` and `results/`, which DVC versions. Of what lies there, only
files that an earlier manifest names are ever removed. `kaizen.store.take_back` is the way back.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import explain_write_errors, is_temporary, read_json, write_json
from kaizen.store.layout import (
    MANAGED,
    MANIFEST,
    PROVENANCE,
    Layout,
    check_folders,
    is_published_path,
)
from kaizen.store.links import link_or_copy
from kaizen.store.locks import hold
from kaizen.store.manifest import (
    PublishedEntry,
    expected_manifest,
    manifest_entries,
    manifest_json,
)
from kaizen.store.records import RECORD
from kaizen.store.store import Store
from kaizen.store.unchanged import all_unchanged

# The paths that were published, while there is no manifest that names them: a killed publication
# leaves it, and the next one knows what to remove.
UNFINISHED = ".kaizen/publishing.json"
# One publication at a time in a checkout.
LOCK = ".kaizen/locks/published-tree"
# Where a file goes that lies at a published path and was never published.
SET_ASIDE = ".kaizen/set-aside"
_MOST_REPORTED = 10


def publish(
    layout: Layout,
    store: Store,
    root: Path,
    report: Callable[[str], None] = lambda text: None,
) -> list[str]:
    """Link all files of the plan's nodes to their readable paths under ``root`` and write the
    manifest last.

    `results/provenance.json` says how each node was made. Deterministic: the same nodes give the
    same bytes. What was never published is left where it is, and goes to ``report`` as one line
    each. Returns the paths published.
    Raises KaizenError when a node is missing or its files do not match their record, and where a
    managed folder is a link. Waits while another publication works in ``root``.
    """
    check_folders(root)
    with hold(root / LOCK, report, title="publishing", doing="publishing here"):
        earlier = _published_before(root)
        write_json(root / UNFINISHED, {"files": sorted(earlier)})
        with explain_write_errors(root / MANIFEST):
            (root / MANIFEST).unlink(missing_ok=True)
        entries = expected_manifest(layout, store)
        for path in entries:
            if not is_published_path(path):
                raise KaizenError(
                    f"{path} is not a path that files are published at; nothing was published"
                )
        _check_files(entries, store)
        write_json(root / UNFINISHED, {"files": sorted(earlier | entries.keys())})
        for path, entry in entries.items():
            source = store.folder(entry.node) / entry.name
            _make_folder(root, Path(path).parent, earlier, report)
            if path not in earlier:
                _clear(root, path, entry, report)
            _link(source, root / path, entry.content.size)
        _remove_former(root, earlier, set(entries))
        _report_others(root, set(entries), report)
        write_json(root / PROVENANCE, _provenance(layout, store))
        write_json(root / MANIFEST, manifest_json(layout.plan, entries))
        (root / UNFINISHED).unlink()
    return sorted(entries)


def _published_before(root: Path) -> set[str]:
    """The paths that the manifest names, and those of a publication that was killed."""
    paths: set[str] = set()
    if (root / MANIFEST).is_file():
        with contextlib.suppress(KaizenError):
            paths |= manifest_entries(read_json(root / MANIFEST)).keys()
    if (root / UNFINISHED).is_file():
        with contextlib.suppress(KaizenError, TypeError, KeyError):
            named = read_json(root / UNFINISHED)["files"]
            paths |= {path for path in named if isinstance(path, str)}
    return {path for path in paths if is_published_path(path)}


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


def _make_folder(
    root: Path, folder: Path, earlier: set[str], report: Callable[[str], None]
) -> None:
    """Make a folder below a managed one; a link in its place would lead elsewhere and goes, and so
    does a file that was published there.
    """
    place = root
    for part in folder.parts:
        place = place / part
        name = place.relative_to(root).as_posix()
        with explain_write_errors(place):
            if place.is_symlink():
                report(f"{name} was a link to {os.readlink(place)}; a folder takes its place")
                place.unlink()
            elif name in earlier and place.is_file():
                place.unlink()
            place.mkdir(exist_ok=True, parents=True)


def _clear(root: Path, path: str, entry: PublishedEntry, report: Callable[[str], None]) -> None:
    """Move away what others put at a path that is to be published at."""
    place = root / path
    if place.is_symlink() or not place.is_file() or not entry.content.mismatch(place):
        return
    aside = root / SET_ASIDE / f"{secrets.token_hex(4)}-{place.name}"
    with explain_write_errors(aside):
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.replace(place, aside)
    report(f"{path} was not published before and is now at {aside.relative_to(root)}")


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


def _remove_former(root: Path, earlier: set[str], wanted: set[str]) -> None:
    """Remove what earlier publications put at paths that are not wanted any more, the folders that
    this leaves empty, and what killed publications left half written.
    """
    for managed in MANAGED:
        (root / managed).mkdir(parents=True, exist_ok=True)
    for path in sorted(earlier - wanted):
        place = root / path
        if _leads_through_a_link(root, path):
            continue
        with explain_write_errors(place):
            if place.is_symlink() or place.is_file():
                place.unlink()
            _remove_empty_folders(root, place)
    names: dict[Path, set[str]] = {}
    for path in (*wanted, MANIFEST, PROVENANCE):
        names.setdefault((root / path).parent, set()).add(Path(path).name)
    for folder, files in names.items():
        _remove_leftovers(folder, files)


def _remove_empty_folders(root: Path, place: Path) -> None:
    """Remove the folders above a file that was removed, as far as nothing is left in them."""
    for folder in place.parents:
        inside = folder.relative_to(root).as_posix()
        if inside in MANAGED or not is_published_path(inside):
            break
        _remove_leftovers(folder, {place.name})
        if not folder.is_dir():
            continue
        if any(folder.iterdir()):
            break
        folder.rmdir()


def _leads_through_a_link(root: Path, path: str) -> bool:
    return any((root / folder).is_symlink() for folder in list(Path(path).parents)[:-1])


def _remove_leftovers(folder: Path, names: set[str]) -> None:
    """Remove the temporary files of ``names`` in a folder; with the tree's lock held nobody writes
    them.
    """
    if not folder.is_dir():
        return
    for found in os.listdir(folder):
        if found.endswith(".tmp") and any(is_temporary(found, name) for name in names):
            (folder / found).unlink(missing_ok=True)


def _report_others(root: Path, wanted: set[str], report: Callable[[str], None]) -> None:
    """Report what is in the managed folders and is not the plan's."""
    others = sorted(path for path in _files_in_managed(root) if path not in wanted)
    for path in others[:_MOST_REPORTED]:
        report(f"{path} was not published by Kaizen and is left there")
    if len(others) > _MOST_REPORTED:
        report(f"… and {len(others) - _MOST_REPORTED} more files")


def _files_in_managed(root: Path) -> Iterator[str]:
    """Files and links in the managed folders; links are not followed."""
    for managed in MANAGED:
        for folder, folders, files in os.walk(root / managed):
            links = [name for name in folders if (Path(folder) / name).is_symlink()]
            for name in (*links, *files):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _provenance(layout: Layout, store: Store) -> dict[str, Any]:
    """How each node was made, where that is known."""
    run_records = {node.key: store.read_run_record(node) for node in layout.nodes}
    return {"nodes": {key: record for key, record in run_records.items() if record is not None}}


def is_published(layout: Layout, store: Store, root: Path) -> bool:
    """Whether the manifest under ``root`` is that of this plan's nodes, and every file holds what
    it says.
    """
    try:
        entries = expected_manifest(layout, store)
        if read_json(root / MANIFEST) != manifest_json(layout.plan, entries):
            return False
        if read_json(root / PROVENANCE) != _provenance(layout, store):
            return False
        return all_unchanged(root, entries)
    except (KaizenError, OSError):
        return False


def write_marker(path: Path, plan: str) -> None:
    """Write what `kaizen.jobs.workflow.Workflow.publication` asks for, and remove the earlier ones
    beside it.
    """
    for old in path.parent.glob("*.json"):
        if re.fullmatch(r"[0-9a-f]{8,64}-\d+-\d+", old.stem):
            old.unlink(missing_ok=True)
    write_json(path, {"plan": plan})
