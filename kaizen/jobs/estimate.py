"""What is left to do and how long it may take, from the times of what is done."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

from kaizen.store.node_id import Kind

if TYPE_CHECKING:
    from kaizen.jobs.workflow import Workflow


def describe_work(workflow: Workflow) -> str:
    """One line: the missing nodes by kind, and their time one after the other, where every kind
    has finished before.
    """
    missing = workflow.missing()
    if not missing:
        return "nothing is left to run"
    counts = Counter(node.kind for node in missing)
    jobs = ", ".join(f"{counts[kind]} {kind}" for kind in Kind if counts[kind])
    times: dict[Kind, list[float]] = {}
    for node in workflow.plan.nodes.values():
        if workflow.done(node):
            record = workflow.store.read_run_record(node.id) or {}
            if isinstance(record.get("seconds"), int | float):
                times.setdefault(node.kind, []).append(float(record["seconds"]))
    known = [kind for kind in counts if kind in times]
    if not known:
        return f"to run: {jobs}; how long that takes is not known before something has run"
    seconds = sum(counts[kind] * median(times[kind]) for kind in known)
    unknown = ", ".join(kind for kind in counts if kind not in times)
    but = f" (without {unknown}, of which none has run yet)" if unknown else ""
    return f"to run: {jobs}; about {_duration(seconds)} one after the other{but}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
