"""Plan files, which `kaizen plan --json` and `kaizen explain --write-plan` write and
`kaizen run --plan` reads: the nodes of a plan with all that their jobs need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import read_json
from kaizen.params.typed import as_json, type_name
from kaizen.plan.job import FIELDS, Job, read_job
from kaizen.plan.nodes import plan_key
from kaizen.plan.origin import read_origin
from kaizen.store.node_id import NodeId

_FIX = "write one with `kaizen plan --json > FILE`"
_NAMES = {"plan", "store", "nodes"}
# Beside a job's specification, whether its node was finished where the file was written.
_NODE_NAMES = {*FIELDS, "done"}


def read_plan(path: Path) -> list[Job[Any]]:
    """The jobs of a plan file, as it lists them.

    Raises KaizenError naming the file, the node and the key where it is absent, or not what
    Kaizen writes: also where a name is unknown, or its nodes are not those of its ``plan``.
    """
    plan = read_json(path, fix=_FIX)
    if not isinstance(plan, Mapping) or not isinstance(plan.get("nodes"), list):
        raise KaizenError(f"{path} is not a plan; {_FIX}")
    if unknown := plan.keys() - _NAMES:
        raise KaizenError(f"{path} is not a plan: {min(unknown)[:40]!r} is unknown; {_FIX}")
    for name in ("plan", "store"):
        if name in plan and not isinstance(plan[name], str):
            raise KaizenError(f"{path}: {name} is {type_name(plan[name])}, not a text; {_FIX}")
    if not plan["nodes"]:
        raise KaizenError(f"{path}: nodes is empty, so there is nothing to make; {_FIX}")
    jobs = [_job(value, f"{path}: node {number}") for number, value in enumerate(plan["nodes"])]
    nodes: dict[NodeId, int] = {}
    for number, job in enumerate(jobs):
        if (first := nodes.setdefault(job.id, number)) != number:
            raise KaizenError(f"{path}: nodes {first} and {number} are both {job.id}; {_FIX}")
    if "plan" in plan and plan["plan"] != plan_key(job.id.key for job in jobs):
        raise KaizenError(
            f"{path}: its nodes are not those of plan {plan['plan'][:40]!r}; {_FIX}, or remove "
            "plan from it where some are left out on purpose"
        )
    return jobs


def _job(value: Any, source: str) -> Job[Any]:
    """A node of a plan file: as `read_job`, and all that is said must be such as Kaizen writes."""
    job = read_job(value, source)
    fix = "take it from this version's `kaizen plan --json`"
    if unknown := value.keys() - _NODE_NAMES:
        raise KaizenError(f"{source}: {min(unknown)[:40]!r} is unknown; {fix}")
    if not isinstance(value.get("done", False), bool):
        raise KaizenError(f"{source}: done must be true or false; {fix}")
    if not job.local.code.modules:
        raise KaizenError(f"{source}: local.code does not say which code it needs; {fix}")
    origin = value["local"].get("origin")
    if origin is not None and as_json(read_origin(origin)) != origin:
        raise KaizenError(f"{source}: local.origin is not what a plan says of its commit; {fix}")
    return job


def in_order(
    jobs: Sequence[Job[Any]], is_finished: Callable[[NodeId], bool], source: str
) -> list[Job[Any]]:
    """The jobs in an order in which they can be made, otherwise as they are given.

    Raises KaizenError, naming ``source``, where one that is not finished needs a node that is
    neither among them nor finished, or where they need each other.
    """
    by_id = {job.id: job for job in jobs}
    for job in jobs:
        for role, parent in job.inputs.items():
            if parent not in by_id and not is_finished(parent) and not is_finished(job.id):
                raise KaizenError(
                    f"{source}: {role} of {job.id} ({job.title}) is {parent}, which is neither in "
                    f"the plan nor in the store; {_FIX}, or name the store that has it"
                )
    ordered: dict[NodeId, Job[Any]] = {}
    opened: set[NodeId] = set()
    # Not by recursion: a stream may have more steps than Python allows calls in each other.
    waiting = list(reversed(jobs))
    while waiting:
        job = waiting[-1]
        before = [by_id[node] for node in job.inputs.values() if node in by_id]
        before = [other for other in before if other.id not in ordered]
        if not before or job.id in ordered:
            ordered.setdefault(job.id, job)
            waiting.pop()
        elif job.id in opened:
            raise KaizenError(f"{source}: {job.id} ({job.title}) needs itself; {_FIX}")
        else:
            opened.add(job.id)
            waiting.extend(reversed(before))
    return list(ordered.values())
