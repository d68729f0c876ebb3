"""How wrong the estimates of `kaizen watch` are, replayed on a grid that is finished.

    python -m bench.estimates [--overlay FILE] [--jobs N]
    python -m bench.estimates --store FOLDER [--jobs N]

In the checkout of the grid, with its store; or of a store that holds the nodes of one grid, made by
whatever version whose parameters can still be read. The run is gone through again by the times
that its nodes recorded: whenever a node had finished, what is left is estimated from those that
had, and compared with what it took. The epochs under way are not known afterwards, so a node that
was being made counts with what others took: `kaizen watch` itself knows more. Then, of every node,
what would have been said when it began. Changes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from kaizen.data.names import TASKS_FILE
from kaizen.errors import KaizenError
from kaizen.files import read_json, tell
from kaizen.jobs.estimate import Left, duration, time_left
from kaizen.jobs.times import Times, sample_of, workload_of
from kaizen.jobs.workflow import Workflow
from kaizen.plan.job import Job, Local
from kaizen.plan.memory import images_of_tasks
from kaizen.plan.specs import read_spec
from kaizen.store.node_id import Kind, NodeId
from kaizen.store.records import SHARDS_OF_RUN, read_record
from kaizen.store.store import Store


@dataclass(frozen=True)
class Past:
    """A node that was made: its job, its run record, when it began and ended."""

    job: Job[Any]
    made: dict[str, Any]
    began: float
    ended: float


def past_of(workflow: Workflow) -> list[Past]:
    """The plan's nodes as they were made, in the order of the plan; raises KaizenError where some
    are not, or do not say when.
    """
    found = []
    for node in workflow.plan.nodes.values():
        made = workflow.store.read_run_record(node.id) or {}
        if "began" not in made or "seconds" not in made:
            raise KaizenError(f"{node.title} is not finished, or does not say when; run it first")
        began = float(made["began"])
        found.append(Past(node.job(), made, began, began + float(made["seconds"])))
    return found


def past_of_store(store: Store) -> tuple[list[Past], list[int] | None]:
    """The finished nodes of a store, in an order in which they can be made, and the training images
    of each task where its shards say them; raises KaizenError where there are none.
    """
    found: dict[NodeId, Past] = {}
    for node in store.entries():
        made = store.read_run_record(node) or {}
        with contextlib.suppress(KaizenError):
            record = read_record(store.record_path(node))
            if record is None or "began" not in made or "seconds" not in made:
                continue
            spec = read_spec(node.kind, record.params, "a record")
            shards = made.get(SHARDS_OF_RUN, {}).items()
            inputs = {role: NodeId.of(Kind.SHARDS, key) for role, key in shards}
            inputs |= record.inputs
            job: Job[Any] = Job(node, str(made.get("title")), "", spec, inputs, {}, Local())
            began = float(made["began"])
            found[node] = Past(job, made, began, began + float(made["seconds"]))
    if not found:
        raise KaizenError(f"--store: {store.root} has no finished node that says when it was made")
    images = None
    shards_of = [node for node in found if node.kind is Kind.SHARDS]
    if len(shards_of) == 1:
        tasks = read_json(store.folder(shards_of[0]) / TASKS_FILE)["tasks"]
        images = [task["train"]["rows"] for task in tasks]
    return sorted(found.values(), key=lambda one: one.ended), images


def most_at_once(past: Sequence[Past]) -> int:
    """How many nodes were made at a time, at most."""
    changes = sorted([(one.began, 1) for one in past] + [(one.ended, -1) for one in past])
    return max(itertools.accumulate(change for _, change in changes))


def is_within(seconds: float, error: float, took: float) -> bool:
    """Whether a time lies in the range that was said."""
    return seconds / (1 + error) <= took <= seconds * (1 + error)


def known_at(past: Sequence[Past], images: Sequence[int] | None) -> Times:
    """What nodes that had finished teach."""
    times = Times()
    for one in past:
        if sample := sample_of(workload_of(one.job, images), one.made):
            times.add_own(one.job, sample)
    return times


def left_at(
    moment: float, past: Sequence[Past], images: Sequence[int] | None, at_once: int
) -> Left:
    """What would have been said at a moment."""
    times = known_at([one for one in past if one.ended <= moment], images)
    seconds: dict[Any, float | None] = {}
    running = []
    for one in past:
        if one.ended <= moment:
            continue
        estimate = times.estimate(workload_of(one.job, images))
        if one.began <= moment:
            running.append(one.job.id)
            if estimate is not None:
                estimate = max(0.0, estimate - (moment - one.began))
        seconds[one.job.id] = estimate
    jobs = [one.job for one in past if one.job.id in seconds]
    return time_left(jobs, seconds, times, at_once, running)


def main(arguments: Sequence[str]) -> int:
    """Print two tables: what was said as the grid was made, and each kind's error."""
    parser = argparse.ArgumentParser(prog="python -m bench.estimates", description=__doc__)
    parser.add_argument("--overlay", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--store", type=Path, metavar="FOLDER")
    parser.add_argument("--jobs", type=int, metavar="N", help="nodes that were made at a time")
    options = parser.parse_args(arguments)
    try:
        if options.store:
            past, images = past_of_store(Store(options.store))
        else:
            workflow = Workflow.from_files(Path("params.yaml"), options.overlay, Path.cwd())
            past, images = past_of(workflow), images_of_tasks(workflow.plan)
    except KaizenError as error:
        tell(error)
        return error.exit_code
    at_once = options.jobs or most_at_once(past)
    ends = sorted(one.ended for one in past)
    print(f"{len(past)} nodes in {duration(ends[-1] - min(one.began for one in past))}\n")
    _print_whole(past, ends, images, at_once)
    _print_kinds(past, images)
    return 0


def _print_whole(
    past: Sequence[Past], ends: Sequence[float], images: Sequence[int] | None, at_once: int
) -> None:
    print("| nodes done | said | it took | off by |\n|---:|---|---:|---:|")
    shown = {max(0, len(ends) * tenth // 10 - 1) for tenth in range(1, 10)}
    said = within = 0
    for place, end in enumerate(ends[:-1]):
        left, took = left_at(end, past, images, at_once), ends[-1] - end
        given = left.is_given and left.seconds and took
        off = f"{100 * (left.seconds / took - 1):+.0f} %" if given else "–"
        if given and left.error is not None:
            said += 1
            within += is_within(left.seconds, left.error, took)
        if place in shown:
            print(f"| {place + 1} | {left} | {duration(took)} | {off} |")
    print(f"\nAfter each node: {within} of {said} ranges hold what it took.\n")


def _print_kinds(past: Sequence[Past], images: Sequence[int] | None) -> None:
    print("| kind | nodes | median time | in the range said when it began |\n|---|---:|---:|---:|")
    for kind in Kind:
        of_kind = [one for one in past if one.job.id.kind is kind]
        said = within = 0
        for one in of_kind:
            times = known_at([other for other in past if other.ended <= one.began], images)
            estimate = times.estimate(workload_of(one.job, images))
            if estimate is not None:
                said += 1
                within += is_within(estimate, times.error(kind), one.ended - one.began)
        if of_kind:
            time = duration(median(one.ended - one.began for one in of_kind))
            print(
                f"| {kind} | {len(of_kind)} | {time} | {f'{within} of {said}' if said else '–'} |"
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
