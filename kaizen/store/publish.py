"""The published tree: the current plan's files at readable paths, with a manifest; and the way
back.

Publishing links files from the store into `data/` and `results/`, which DVC versions. Taking back
puts nodes into a store that lacks them, from the published tree of this checkout or from DVC's
cache through dvc.lock: a fresh clone after `dvc pull` has finished nodes without a store.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import canonical_json, explain_write_errors, read_json, sha256_text, write_json
from kaizen.plan.nodes import Node, Plan, size_word
from kaizen.store.store import RECORD, Store, is_record, link_or_copy, mismatch

MANIFEST = "results/manifest.json"
# How each node was made. Apart from the manifest, as it differs from run to run.
PROVENANCE = "results/provenance.json"

# Folders that publishing owns: a file in them that the plan does not name is removed.
MANAGED = ("data/shards", "data/replay", "results/models", "results/evaluations", "results/summary")
METRICS = "results/metrics.json"


def published_paths(plan: Plan) -> dict[str, Node]:
    """Readable folder -> the node whose files are published there."""
    folders: dict[str, Node] = {"data/shards": plan.shards, "results/summary": plan.summary}
    for run in plan.runs:
        for task, step in enumerate(run.steps):
            folders[f"results/models/{run.name}/step-{task:02d}"] = step
        folders[f"results/evaluations/{run.name}"] = run.evaluation
        for task, replay in enumerate(run.replays, start=1):
            size = size_word(run.replay_unit, run.replay_size or 0)
            folder = f"data/replay/{replay.params['policy']}-{size}"
            if any(role.startswith("step-") for role in replay.inputs):
                # Made with the models of this run's steps.
                folder += f"/{run.name}"
            folders[f"{folder}/step-{task:02d}"] = replay
    for reference in plan.references:
        for task, step in enumerate(reference.steps):
            folders[f"results/models/{reference.name}/task-{task:02d}"] = step
        folders[f"results/evaluations/{reference.name}"] = reference.evaluation
    return folders


def publish(plan: Plan, store: Store, root: Path) -> list[str]:
    """Link all files of the plan's nodes to their readable paths under ``root`` and write the
    manifest last.

    Beside it stands how each node was made. Deterministic: the same nodes give the same bytes.
    Returns the paths published. Raises KaizenError when a node is missing or its files do not match
    their record.
    """
    with explain_write_errors(root / MANIFEST):
        (root / MANIFEST).unlink(missing_ok=True)
    manifest = _manifest(plan, store)
    files: dict[str, dict[str, Any]] = manifest["files"]
    for entry in {(entry["key"], entry["file"]): entry for entry in files.values()}.values():
        if entry["file"] != RECORD:
            store.open_file(entry["kind"], entry["key"], entry["file"])
        else:
            store.note_use(entry["kind"], entry["key"])
    for path, entry in files.items():
        _link(store.folder(entry["kind"], entry["key"]) / entry["file"], root / path, entry["size"])
    _remove_others(root, set(files))
    runs = {node.key: store.read_run(node.kind, node.key) for node in plan.nodes.values()}
    write_json(
        root / PROVENANCE, {"nodes": {key: run for key, run in runs.items() if run is not None}}
    )
    write_json(root / MANIFEST, manifest)
    return sorted(files)


def _manifest(plan: Plan, store: Store) -> dict[str, Any]:
    """What the manifest of a plan must hold, by the records of its nodes; raises KaizenError when
    one is missing.
    """
    entries: dict[str, dict[str, Any]] = {}
    also = _second_places(plan)
    for folder, node in published_paths(plan).items():
        for name, entry in _recorded_files(store, node).items():
            for path in filter(
                None, (f"{folder}/{name}", also.get(name) if node is plan.summary else None)
            ):
                entries[path] = {"kind": node.kind, "key": node.key, "file": name} | entry
    return {"plan": plan.key, "files": entries}


def _second_places(plan: Plan) -> dict[str, str]:
    """Files of the summary -> where else people and tools look for them: cards beside what they
    describe.
    """
    cards = {f"cards/{run.name}.md": f"results/models/{run.name}/README.md" for run in plan.runs}
    return {"metrics.json": METRICS, "cards/data.md": "data/shards/README.md"} | cards


def _recorded_files(store: Store, node: Node) -> dict[str, dict[str, Any]]:
    """A node's files with size and hash, its record among them."""
    record = store.read_record(node.kind, node.key)
    text = store.record(node.kind, node.key).read_text(encoding="utf-8")
    return dict(record["files"]) | {
        RECORD: {"sha256": sha256_text(text), "size": len(text.encode())}
    }


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


def is_published(plan: Plan, store: Store, root: Path) -> bool:
    """Whether the manifest under ``root`` is that of this plan's nodes, and every file present in
    its recorded size.
    """
    try:
        manifest = read_json(root / MANIFEST)
        if manifest != _manifest(plan, store) or not (root / PROVENANCE).is_file():
            return False
        return all(
            (root / path).stat().st_size == entry["size"]
            for path, entry in manifest["files"].items()
        )
    except (KaizenError, OSError):
        return False


@dataclass(frozen=True)
class PublishedFile:
    """Where a published file can be read, and what it must hold."""

    path: Path
    entry: dict[str, Any]


@dataclass(frozen=True)
class PublishedTree:
    """The files of a published tree, and how its nodes were made (key -> the content of
    run.json).
    """

    files: Sequence[PublishedFile] = ()
    runs: Mapping[str, dict[str, Any]] = field(default_factory=dict)


def take_back(plan: Plan, store: Store, root: Path) -> list[Node]:
    """Put nodes of the plan that the store lacks into it from published trees; returns those taken.

    Every file is checked against the manifest and against its node's record, and the record against
    the key; what does not match is left alone, so that the node is made again.
    """
    # A node that is being made is left to its maker, who may take hours.
    missing = {
        node.key: node
        for node in plan.nodes.values()
        if not store.has(node.kind, node.key) and not store.is_locked(node.kind, node.key)
    }
    if not missing:
        return []
    taken: list[Node] = []
    for tree in (_workspace_tree(root), _dvc_cache_tree(root)):
        copies: dict[str, dict[str, list[PublishedFile]]] = {}
        for file in tree.files:
            key = file.entry.get("key")
            if key in missing:
                copies.setdefault(key, {}).setdefault(file.entry["file"], []).append(file)
        for key, files in copies.items():
            if _take_node(missing[key], files, store, tree.runs.get(key)):
                taken.append(missing.pop(key))
    return taken


def _take_node(
    node: Node, copies: dict[str, list[PublishedFile]], store: Store, run: dict[str, Any] | None
) -> bool:
    """Put one node into the store if every file that its record names is there and right."""
    sources: dict[str, Path] = {}
    for name, files in copies.items():
        good = next((file.path for file in files if not mismatch(file.path, file.entry)), None)
        if good is None:
            return False
        sources[name] = good
    if RECORD not in sources:
        return False
    try:
        record = read_json(sources[RECORD])
    except KaizenError:
        return False
    right = is_record(record, node.kind, node.key) and set(record["files"]) | {RECORD} == set(
        sources
    )
    right = right and not any(
        mismatch(sources[name], entry) for name, entry in record["files"].items()
    )
    right = right and all(_stays_inside(name) for name in sources)
    if right:
        store.put_link(record, sources, run)
    return right


def _stays_inside(name: str) -> bool:
    """Whether a file of this name lies in the folder that it is put into."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def manifest_files(manifest: Any) -> dict[str, dict[str, Any]]:
    """The entries of a manifest that are complete; none when it is not one."""
    files = manifest.get("files") if isinstance(manifest, dict) else None
    entries = files.items() if isinstance(files, dict) else ()
    return {
        path: entry for path, entry in entries if isinstance(entry, dict) and _is_complete(entry)
    }


def _is_complete(entry: dict[str, Any]) -> bool:
    return "size" in entry and all(
        isinstance(entry.get(name), str) for name in ("kind", "key", "file", "sha256")
    )


def published_runs(path: Path) -> dict[str, dict[str, Any]]:
    """How nodes were made, by key, as `publish` wrote it to ``path``; nothing where the file is
    missing or broken.
    """
    try:
        nodes = read_json(path)["nodes"]
        canonical_json(nodes)  # refuses NaN, which reading lets pass
        return {key: run for key, run in nodes.items() if isinstance(run, dict)}
    except (KaizenError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def _workspace_tree(root: Path) -> PublishedTree:
    """The files that the manifest in this checkout names, at their paths."""
    if not (root / MANIFEST).is_file():
        return PublishedTree()
    try:
        manifest = read_json(root / MANIFEST)
    except KaizenError:
        return PublishedTree()
    files = [PublishedFile(root / path, entry) for path, entry in manifest_files(manifest).items()]
    return PublishedTree(files, published_runs(root / PROVENANCE))


def _dvc_cache_tree(root: Path) -> PublishedTree:
    """The same files in DVC's cache, found through dvc.lock.

    `dvc repro` removes a stage's outputs before it runs the stage; what an unchanged node needs is
    then in the cache only.
    """
    objects = _dvc_outputs(root)
    if MANIFEST not in objects:
        return PublishedTree()
    try:
        manifest = read_json(objects[MANIFEST])
    except KaizenError:
        return PublishedTree()
    entries = manifest_files(manifest)
    files = [
        PublishedFile(objects[path], entry) for path, entry in entries.items() if path in objects
    ]
    return PublishedTree(
        files, published_runs(objects[PROVENANCE]) if PROVENANCE in objects else {}
    )


def _dvc_outputs(root: Path) -> dict[str, Path]:
    """Published path -> object in DVC's local cache, for all outputs of dvc.lock that are in the
    cache.
    """
    import yaml

    from kaizen.store.store import main_checkout

    cache = _dvc_cache(main_checkout(root))
    objects: dict[str, Path] = {}
    try:
        lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
        for output in [out for stage in lock["stages"].values() for out in stage.get("outs", [])]:
            md5, path = str(output.get("md5", "")), str(output.get("path", ""))
            place = cache / md5[:2] / md5[2:]
            if not md5.endswith(".dir"):
                objects[path] = place
            elif place.is_file():
                for member in read_json(place):
                    objects[f"{path}/{member['relpath']}"] = (
                        cache / member["md5"][:2] / member["md5"][2:]
                    )
    except (OSError, KaizenError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {path: place for path, place in objects.items() if place.is_file()}


def _dvc_cache(root: Path) -> Path:
    """DVC's local cache of files: cache.dir of .dvc/config(.local), else .dvc/cache."""
    import configparser

    folder = root / ".dvc" / "cache"
    for name in ("config", "config.local"):
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        try:
            parser.read(root / ".dvc" / name, encoding="utf-8")
        except configparser.Error:
            continue
        if parser.has_option("cache", "dir"):
            folder = (root / ".dvc" / parser.get("cache", "dir")).resolve()
    return folder / "files" / "md5"
