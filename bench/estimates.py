"""How wrong the estimates of `kaizen watch` are, replayed on a grid that is finished.

    python -m bench.estimates [--overlay FILE] [--jobs N]

In the checkout of the grid, with its store. The run is gone through again by the times that its
nodes recorded: whenever another tenth of them had finished, what is left is estimated from those
alone, and compared with what it took. The epochs under way are not known afterwards, so a node that
was being made counts with what others took: `kaizen watch` itself knows more. Changes nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import tell
from kaizen.jobs.estimate import Left, duration, jobs_at_once, time_left
from kaizen.jobs.times import Times, sample_of, workload_of
from kaizen.jobs.workflow import Workflow
from kaizen.plan.job import Job
from kaizen.plan.memory import images_of_tasks
from kaizen.store.node_id import Kind


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


def known_at(past: Sequence[Past], images: Sequence[int] | None) -> Times:
    """What nodes that had finished teach."""
    times = Times()
    for one in past:
        times.add_span(one.made)
        if sample := sample_of(workload_of(one.job, images), one.made):
            times.add(sample)
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
    parser.add_argument("--jobs", type=int, metavar="N", help="nodes that were made at a time")
    options = parser.parse_args(arguments)
    try:
        workflow = Workflow.from_files(Path("params.yaml"), options.overlay, Path.cwd())
        past = past_of(workflow)
    except KaizenError as error:
        tell(error)
        return error.exit_code
    images = images_of_tasks(workflow.plan)
    at_once = options.jobs or jobs_at_once([one.job for one in past])
    ends = sorted(one.ended for one in past)
    print(f"{len(past)} nodes in {duration(ends[-1] - min(one.began for one in past))}\n")
    print("| nodes done | said | it took | off by |\n|---:|---|---:|---:|")
    for tenth in range(1, 10):
        place = max(0, len(ends) * tenth // 10 - 1)
        left, took = left_at(ends[place], past, images, at_once), ends[-1] - ends[place]
        off = f"{100 * (left.seconds / took - 1):+.0f} %" if left.seconds and took else "–"
        print(f"| {place + 1} | {left} | {duration(took)} | {off} |")
    times = known_at(past, images)
    print(
        "\n| kind | nodes | median time | four of five estimated to within |\n|---|---:|---:|---:|"
    )
    for kind in Kind:
        of_kind = [one.ended - one.began for one in past if one.job.id.kind is kind]
        wrong = times.error(kind)
        if of_kind:
            within = "–" if wrong is None else f"{100 * wrong:.0f} %"
            print(f"| {kind} | {len(of_kind)} | {duration(median(of_kind))} | {within} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
