"""How to make a node again: the command, exact or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from kaizen.errors import KaizenError
from kaizen.plan.job import Job
from kaizen.plan.origin import OriginFacts
from kaizen.plan.specs import read_spec
from kaizen.provenance.known import KnownNode
from kaizen.store.node_id import Kind

PLAN_FILE = "again.json"


def how_to_make_again(
    node: KnownNode,
    lineage: Mapping[str, KnownNode],
    lost: Sequence[str],
    present: OriginFacts | None,
) -> dict[str, Any]:
    """``commands``, one after the other, and a ``note`` for people.

    In a clone with an empty store the commands make the same bytes, given the same raw data,
    packages and kind of machine. Where a commit's params.yaml asks for the node, Snakemake makes
    it; otherwise a plan of it and of all that it was made from is written here (``lineage``,
    parents first) and run there. ``present`` is what the present checkout is (see `Origin.of`),
    None where its code is another than that at the time. There are no commands where the code at
    the time cannot be had again: it was not committed, and the present code is another.
    """
    name = str(node.id)
    origins = [origin for origin in (node.origin, present) if origin and origin.has_code()]
    for origin in origins:
        if origin.params_committed and not origin.changed:
            one = "" if node.id.kind is Kind.SUMMARY else f" --config node={name}"
            return {
                "commands": [f"git checkout {origin.commit} && snakemake --cores all{one}"],
                "note": None,
            }
    if lost or not all(_can_plan(each) for each in lineage.values()):
        return {
            "commands": [],
            "note": "how some of what it was made from was made is not known here (`dvc pull`?)",
        }
    write = f"kaizen explain {name} --write-plan {PLAN_FILE}"
    run = f"kaizen run --plan {PLAN_FILE}"
    if origins:
        note = f"{PLAN_FILE} holds its parameters, as no params.yaml of that commit does"
        return {"commands": [write, f"git checkout {origins[0].commit} && {run}"], "note": note}
    depends = node.origin.depends if node.origin else None
    if present is not None:
        why = "is not committed" if depends else "is in no commit that is known"
        return {
            "commands": [write, run],
            "note": f"with the present code, which is that of the time but {why}",
        }
    changed = ""
    if node.origin and depends:
        changed = f" ({', '.join(depends)} differed from commit {node.origin.commit})"
    return {
        "commands": [],
        "note": f"the code at the time was not committed{changed}, and the present code is another",
    }


def make_plan(lineage: Mapping[str, KnownNode], lost: Sequence[str]) -> dict[str, Any]:
    """The plan of a node and of all that it was made from (parents first), for `kaizen run --plan`.

    Raises KaizenError where something of it is not known.
    """
    lost = [*lost, *(str(node.id) for node in lineage.values() if not _can_plan(node))]
    if lost:
        raise KaizenError(
            f"how {lost[0]} was made is not known here, so no plan can be written; `dvc pull` may "
            "help"
        )
    jobs = []
    for node in lineage.values():
        record, local = node.record, node.local
        if local is not None:
            spec = read_spec(record.id.kind, record.params, f"the record of {record.id}")
            job: Job[Any] = Job(
                record.id,
                node.title,
                record.code_hash,
                spec,
                node.inputs,
                dict(record.identities),
                dataclasses.replace(local, origin=None),
            )
            jobs.append(job.to_json())
    return {"nodes": jobs}


def _can_plan(node: KnownNode) -> bool:
    """Whether all is known that its job needs."""
    local = node.local
    right = local is not None and local.versions is not None and bool(local.code.modules)
    return right and (bool(node.shards) or node.id.kind is Kind.SHARDS)
