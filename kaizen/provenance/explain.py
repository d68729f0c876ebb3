"""`kaizen explain`: all that is known of where a file, a node or a number comes from, as plain
values for JSON.
"""

from __future__ import annotations

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
from kaizen.provenance.again import how_to_make_again
from kaizen.provenance.known import Known, KnownNode
from kaizen.provenance.lineage import Lineage
from kaizen.provenance.number import explain_number
from kaizen.provenance.origin import Origin
from kaizen.provenance.present import Present
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
    in_plan = None if planned is None else node.id.key in planned
    return {"asked": asked, **explain_subject(subject, node, known, Present(here), in_plan)}


def explain_subject(
    subject: Subject, node: KnownNode, known: Known, present: Present, in_plan: bool | None
) -> dict[str, Any]:
    """What `explain` says of a subject of ``node``, but for what was asked; ``present`` serves for
    many.
    """
    line = Lineage(node, known)
    return {
        "what": _what(subject),
        "title": node.title,
        **node.id.to_json(),
        "in_current_plan": in_plan,
        "published": known.places(node.id.key),
        "files": _files(subject, node, known),
        "number": explain_number(subject, node, known),
        "origin": as_json(node.origin),
        "made": made_at(node),
        "parameters": dict(node.record.params),
        "data": _data(line),
        "code": present.code(node),
        "environment": dict(node.record.environment),
        "other_cpu": other_cpu(node.record.environment) or None,
        "parents": line.tree,
        "wall_time": line.wall_time(),
        "again": how_to_make_again(node, line.nodes, line.lost, present.origin(line, in_plan)),
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


def made_at(node: KnownNode) -> dict[str, Any] | None:
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
