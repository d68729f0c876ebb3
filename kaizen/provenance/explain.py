"""`kaizen explain`: all that is known of where a file, a node or a number comes from, as plain
values for JSON.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import canonical_json, sha256_file, sha256_text
from kaizen.plan.fingerprint import ROOT, files_of, fingerprint_with, installed_version
from kaizen.provenance.again import how_to_make_again
from kaizen.provenance.git import git, top_of
from kaizen.provenance.known import Known, KnownNode
from kaizen.provenance.number import explain_number
from kaizen.provenance.origin import Origin
from kaizen.provenance.subject import Subject, find_subject
from kaizen.store.store import mismatch

_KINDS = {
    "shards": "task shards",
    "replay": "replay shard",
    "step": "training step",
    "evaluation": "evaluation of a run",
    "reference": "evaluation of specialists and of a random network",
    "summary": "summary of all runs",
}
_FILES = {
    "model.safetensors": "model",
    "history.parquet": "loss terms of every epoch",
    "step.json": "what the step was trained on",
    "node.json": "record",
    "tasks.json": "list of the tasks",
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
    node = known.node(subject.kind, subject.key)
    if node is None:
        raise KaizenError(
            f"{asked} belongs to {subject.kind}/{subject.key}, whose record (node.json) is missing "
            "or was altered; "
            "`dvc checkout` or `snakemake --cores all` puts the right one in its place"
        )
    line = Lineage(node, known)
    in_plan = None if planned is None else node.key in planned
    present = (
        here.of(_modules(line)) if all(_same_code(each) for each in line.nodes.values()) else None
    )
    if present and not in_plan:
        present["params_committed"] = False
    return {
        "asked": asked,
        "what": _what(subject),
        "title": node.title,
        "kind": node.kind,
        "key": node.key,
        "in_current_plan": in_plan,
        "published": known.places(node.key),
        "files": _files(subject, node, known),
        "number": explain_number(subject, node, known),
        "origin": node.origin or None,
        "made": _made(node),
        "parameters": node.record["params"],
        "data": [
            data_identity(shards) for shards in line.nodes.values() if shards.kind == "shards"
        ],
        "code": _code(node),
        "environment": node.record.get("environment", {}),
        "parents": line.tree,
        "wall_time": line.wall_time(),
        "again": how_to_make_again(node, line.nodes, line.lost, present),
    }


def _what(subject: Subject) -> str:
    kind = _KINDS[subject.kind]
    if not subject.is_file:
        return kind
    (name,) = subject.files.values()
    path = Path(name)
    if path.parts[0] == "figures":
        word = "data of a figure" if path.suffix == ".csv" else "figure"
    elif path.parts[0] == "cards":
        word = "card"
    else:
        word = _FILES.get(name, "shard" if subject.kind in ("shards", "replay") else "table")
    return f"{'number in the ' if subject.number else ''}{word} of the {kind}"


def _files(subject: Subject, node: KnownNode, known: Known) -> list[dict[str, Any]]:
    """Each file that was asked about: its hash as recorded, and whether the file on disk has it."""
    found = []
    for path, name in sorted(subject.files.items()):
        inside = path.is_relative_to(known.root)
        shown = path.relative_to(known.root).as_posix() if inside else str(path)
        # The record does not hold its own hash; the manifest does.
        entry = node.record["files"].get(name) or known.files.get(shown)
        if entry is None and name == "node.json":
            entry = {"sha256": sha256_file(path), "size": path.stat().st_size}
        problem = mismatch(path, entry) if entry else "is no file of this node"
        sizes = {field: entry[field] for field in ("sha256", "size")} if entry else {}
        found.append({"path": shown, "problem": problem or None, **sizes})
    return found


def _made(node: KnownNode) -> dict[str, Any] | None:
    """When, where and for how long it was made; None where that is not known."""
    if not node.run:
        return None
    names = ("host", "processes", "slurm_job", "images_per_second")
    began = node.run.get("began")
    moment = (
        datetime.datetime.fromtimestamp(began, datetime.UTC)
        if isinstance(began, int | float)
        else None
    )
    made = {
        "began": moment.isoformat(timespec="seconds") if moment else None,
        "seconds": node.seconds,
    }
    return made | {name: node.run[name] for name in names if name in node.run}


def data_identity(shards: KnownNode) -> dict[str, Any]:
    """What the raw data was: its source and place, one hash over its checksums, and the hash that
    DVC had for it.
    """
    checksums = shards.record["identities"]
    place = shards.local.get("dataset", {})
    return {
        "source": shards.record["params"]["dataset"]["source"],
        "path": place.get("path") if isinstance(place, dict) else None,
        "sha256": sha256_text(canonical_json(checksums)),
        "checksums": checksums,
        "dvc": shards.run.get("dvc"),
    }


# -- code --------------------------------------------------------------------------------------


def _code_now(node: KnownNode, installed: bool) -> str | None:
    """The fingerprint of the present code of a node, with installed or with recorded packages; None
    if unknown.
    """
    code, then = node.local.get("code"), node.local.get("versions")
    if not isinstance(code, dict) or not isinstance(then, dict):
        return None
    try:
        return fingerprint_with(
            code["modules"], {p: installed_version(p) for p in then} if installed else then
        )
    except ModuleNotFoundError:
        return "a module is gone"


def _same_code(node: KnownNode) -> bool:
    """Whether the present code and packages are those that the node's key stands for."""
    return _code_now(node, installed=True) == node.record["code"]


def _modules(line: Lineage) -> set[str]:
    """The entry modules of all nodes of a lineage."""
    return {module for node in line.nodes.values() for module in node.local["code"]["modules"]}


def _code(node: KnownNode) -> dict[str, Any]:
    """The fingerprint, whether the present code has it, and what differs."""
    fingerprint = node.record["code"]
    now, with_old = _code_now(node, installed=True), _code_now(node, installed=False)
    then = node.local.get("versions") or {}
    code: dict[str, Any] = {
        "fingerprint": fingerprint,
        "same_now": None if now is None else now == fingerprint,
        "sources_same_now": None if with_old is None else with_old == fingerprint,
        "versions": then,
        "versions_now": {package: installed_version(package) for package in then},
    }
    if code["sources_same_now"] is False:
        code["changed_since"] = _changed_since(node)
    return code


def _changed_since(node: KnownNode) -> list[str] | None:
    """The sources of a node that differ from its commit; None where git cannot tell."""
    commit, top = node.origin.get("commit"), top_of(ROOT.parent)
    if not isinstance(commit, str) or top is None:
        return None
    names = git(ROOT.parent, "diff", "--name-only", "--relative", "-z", commit, "--", "kaizen")
    try:
        needed = files_of(node.local["code"]["modules"])
    except (KeyError, ModuleNotFoundError):
        return None
    return None if names is None else sorted(set(names.split("\0")) & needed)


# -- lineage -----------------------------------------------------------------------------------


class Lineage:
    """A node and all that it was made from, parents before their children."""

    def __init__(self, node: KnownNode, known: Known) -> None:
        """Follow the inputs of the records down to the data."""
        self.nodes: dict[str, KnownNode] = {}
        self.lost: list[str] = []
        self._known = known
        self._shown: set[str] = set()
        self.tree = self._parents(node)
        self.nodes[node.key] = node

    def _parents(self, node: KnownNode) -> list[dict[str, Any]]:
        """The tree below a node; the parents of one that was met before are not repeated."""
        return [self._entry(role, kind, key) for role, kind, key in _inputs(node)]

    def _entry(self, role: str, kind: str, key: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"role": role, "kind": kind, "key": key}
        parent = self._known.node(kind, key)
        if parent is None:
            self.lost += [] if key in self._shown else [f"{kind}/{key}"]
            self._shown.add(key)
            return entry | {
                "title": f"{kind} {key[:12]}",
                "seconds": None,
                "known": False,
                "parents": [],
            }
        again = key in self._shown
        self._shown.add(key)
        entry |= {
            "title": parent.title,
            "seconds": parent.seconds,
            "known": True,
            "repeated": again,
        }
        entry["parents"] = [] if again else self._parents(parent)
        self.nodes[key] = parent
        return entry

    def wall_time(self) -> dict[str, Any]:
        """The wall time of all nodes together, and of how many it is not known."""
        times = [node.seconds for node in self.nodes.values()]
        unknown = sum(time is None for time in times) + len(self.lost)
        return {
            "seconds": sum(time or 0.0 for time in times),
            "nodes": len(times) + len(self.lost),
            "unknown": unknown,
        }


def _inputs(node: KnownNode) -> Iterator[tuple[str, str, str]]:
    """A record's inputs, those that others are made from (the shards) last."""
    inputs = [(role, entry["kind"], entry["key"]) for role, entry in node.record["inputs"].items()]
    yield from sorted(inputs, key=lambda found: (found[1] == "shards", found[0]))
