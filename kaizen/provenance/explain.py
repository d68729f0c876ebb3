"""`kaizen explain`: all that is known of where a file, a node or a number comes from, as plain
values for JSON.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection
from pathlib import Path
from typing import Any

from kaizen.compute.cpu import other_cpu
from kaizen.data.names import (
    CHECKPOINT,
    CONFIG_FILE,
    FACTS_FILE,
    HISTORY_FILE,
    PREPROCESSING_FILE,
    TASKS_FILE,
)
from kaizen.errors import KaizenError
from kaizen.files import canonical_json, sha256_text
from kaizen.params.typed import as_json
from kaizen.plan.fingerprint import ROOT, files_of, fingerprint_with, installed_version
from kaizen.provenance.again import how_to_make_again
from kaizen.provenance.git import changed_files, top_of
from kaizen.provenance.known import Known, KnownNode
from kaizen.provenance.lineage import Lineage
from kaizen.provenance.number import explain_number
from kaizen.provenance.origin import Origin
from kaizen.provenance.subject import Subject, find_subject
from kaizen.store.node_id import Kind
from kaizen.store.records import RECORD, FileEntry

_KINDS = {
    Kind.SHARDS: "task shards",
    Kind.REPLAY: "replay shard",
    Kind.STEP: "training step",
    Kind.HEAD: "analytic heads of a run",
    Kind.EVALUATION: "evaluation of a run",
    Kind.REFERENCE: "evaluation of specialists and of a random network",
    Kind.SUMMARY: "summary of all runs",
}
_FILES = {
    CHECKPOINT: "model",
    HISTORY_FILE: "loss terms of every epoch",
    FACTS_FILE: "what the step was trained on",
    CONFIG_FILE: "description of the model",
    RECORD: "record",
    TASKS_FILE: "list of the tasks",
    "metrics.json": "metrics",
    "report.md": "report",
}


def explain(
    asked: str, known: Known, here: Origin, planned: Collection[str] | None
) -> dict[str, Any]:
    """What ``asked`` is and where it comes from.

    ``here`` is this checkout; ``planned`` are the keys of the current plan, None where it cannot be
    made. Raises KaizenError where ``asked`` is nothing that Kaizen made, or its record is lost.
    """
    subject = find_subject(asked, known)
    node = known.node(subject.node)
    if node is None:
        raise KaizenError(
            f"{asked} belongs to {subject.node}, whose record (node.json) is missing or was "
            "altered; `dvc checkout` or `snakemake --cores all` puts the right one in its place"
        )
    line = Lineage(node, known)
    in_plan = None if planned is None else node.id.key in planned
    present = (
        here.of(_modules(line)) if all(_same_code(each) for each in line.nodes.values()) else None
    )
    if present and not in_plan:
        present = dataclasses.replace(present, params_committed=False)
    return {
        "asked": asked,
        "what": _what(subject),
        "title": node.title,
        **node.id.to_json(),
        "in_current_plan": in_plan,
        "published": known.places(node.id.key),
        "files": _files(subject, node, known),
        "number": explain_number(subject, node, known),
        "origin": as_json(node.origin),
        "made": _made(node),
        "parameters": dict(node.record.params),
        "data": _data(line),
        "code": _code(node),
        "environment": dict(node.record.environment),
        "other_cpu": other_cpu(node.record.environment) or None,
        "parents": line.tree,
        "wall_time": line.wall_time(),
        "again": how_to_make_again(node, line.nodes, line.lost, present),
    }


def _what(subject: Subject) -> str:
    kind = _KINDS[subject.node.kind]
    if not subject.is_file:
        return kind
    (name,) = subject.files.values()
    path = Path(name)
    if path.parts[0] == "figures":
        word = "data of a figure" if path.suffix == ".csv" else "figure"
    elif path.suffix == ".md" and path.parts[0] in ("cards", "models"):
        word = "card"
    elif path.name == PREPROCESSING_FILE:
        word = "description of a model's input"
    else:
        word = _FILES.get(
            name, "shard" if subject.node.kind in (Kind.SHARDS, Kind.REPLAY) else "table"
        )
    return f"{'number in the ' if subject.number else ''}{word} of the {kind}"


def _files(subject: Subject, node: KnownNode, known: Known) -> list[dict[str, Any]]:
    """Each file that was asked about: its hash as recorded, and whether the file on disk has it."""
    found = []
    for path, name in sorted(subject.files.items()):
        inside = path.is_relative_to(known.root)
        shown = path.relative_to(known.root).as_posix() if inside else str(path)
        # The record does not hold its own hash; the manifest does.
        entry = node.record.files.get(name)
        if entry is None and shown in known.files:
            entry = known.files[shown].content
        if entry is None and name == RECORD:
            entry = FileEntry.of(path)
        problem = entry.mismatch(path) if entry else "is not a file of this node"
        facts = entry.to_json() if entry else {}
        found.append({"path": shown, "problem": problem or None, **facts})
    return found


def _made(node: KnownNode) -> dict[str, Any] | None:
    """When, where and for how long it was made; None where that is not known."""
    if not node.run_record:
        return None
    names = ("host", "processes", "slurm_job", "images_per_second")
    began = node.run_record.get("began")
    moment = (
        datetime.datetime.fromtimestamp(began, datetime.UTC)
        if isinstance(began, int | float)
        else None
    )
    made = {
        "began": moment.isoformat(timespec="seconds") if moment else None,
        "seconds": node.seconds,
    }
    return made | {name: node.run_record[name] for name in names if name in node.run_record}


def _data(line: Lineage) -> list[dict[str, Any]]:
    """The raw data of a lineage; also of shards that are gone, as far as is known."""
    found = []
    for shards in line.nodes.values():
        if shards.id.kind is Kind.SHARDS:
            gone = sorted(str(lost) for lost, other in line.instead.items() if other == shards.id)
            found.append(data_identity(shards) | {"shards": str(shards.id), "instead_of": gone})
    for lost, identities in line.gone.items():
        known = {"sha256": sha256_text(canonical_json(identities)), "checksums": identities}
        unknown: dict[str, Any] = {"source": None, "path": None, "dvc": None, "instead_of": []}
        found.append({**unknown, **known, "shards": None if lost is None else str(lost)})
    return found


def data_identity(shards: KnownNode) -> dict[str, Any]:
    """What the raw data was: its source and place, one hash over its checksums, and the hash that
    DVC had for it.
    """
    checksums = dict(shards.record.identities)
    return {
        "source": _source(shards),
        "path": shards.local.path if shards.local else None,
        "sha256": sha256_text(canonical_json(checksums)),
        "checksums": checksums,
        "dvc": shards.run_record.get("dvc"),
    }


def _source(shards: KnownNode) -> str:
    """Where the images came from; the record may be another version's."""
    dataset = shards.record.params.get("dataset")
    return str(dataset.get("source")) if isinstance(dataset, dict) else "unknown"


# -- code --------------------------------------------------------------------------------------


def _code_now(node: KnownNode, installed: bool) -> str | None:
    """The fingerprint of the present code of a node, with installed or with recorded packages; None
    where it is not known, or a module is gone.
    """
    if node.local is None or node.local.versions is None:
        return None
    versions = node.local.versions
    if installed:
        versions = {package: installed_version(package) for package in versions}
    try:
        return fingerprint_with(node.local.code.modules, versions)
    except ModuleNotFoundError:
        return None


def _same_code(node: KnownNode) -> bool:
    """Whether the present code and packages are those that the node's key stands for."""
    return _code_now(node, installed=True) == node.record.code_hash


def _modules(line: Lineage) -> set[str]:
    """The entry modules of all nodes of a lineage."""
    known = (node.local for node in line.nodes.values())
    return {module for local in known if local for module in local.code.modules}


def _code(node: KnownNode) -> dict[str, Any]:
    """The fingerprint, whether the present code has it, and what differs."""
    fingerprint = node.record.code_hash
    now, with_old = _code_now(node, installed=True), _code_now(node, installed=False)
    gone = _modules_that_are_gone(node)
    versions = (node.local.versions if node.local else None) or {}
    code: dict[str, Any] = {
        "fingerprint": fingerprint,
        "same_now": _is_same(now, fingerprint, gone),
        "sources_same_now": _is_same(with_old, fingerprint, gone),
        "versions": versions,
        "versions_now": {package: installed_version(package) for package in versions},
    }
    if code["sources_same_now"] is False:
        code["changed_since"] = _changed_since(node)
    return code


def _is_same(now: str | None, fingerprint: str, gone: bool) -> bool | None:
    """Whether the code has the recorded fingerprint; not where modules are gone, and None where the
    present one is not known.
    """
    if gone:
        return False
    return None if now is None else now == fingerprint


def _modules_that_are_gone(node: KnownNode) -> bool:
    """Whether the code that the node depended on has modules that are no more."""
    try:
        files_of(node.local.code.modules if node.local else ())
    except ModuleNotFoundError:
        return True
    return False


def _changed_since(node: KnownNode) -> list[str] | None:
    """The sources of a node that differ from its commit; None where git does not know."""
    commit, top = node.origin.commit if node.origin else None, top_of(ROOT.parent)
    if commit is None or top is None:
        return None
    folder = ROOT.parent.resolve().relative_to(top.resolve())
    names = changed_files(top, [str(folder / "kaizen")], commit)
    try:
        needed = files_of(node.local.code.modules if node.local else ())
    except ModuleNotFoundError:
        return None
    if names is None:
        return None
    return sorted({Path(name).relative_to(folder).as_posix() for name in names} & needed)
