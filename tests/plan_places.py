"""Places of nodes in a plan, and which of them a change reaches."""

from __future__ import annotations

import dataclasses
from fnmatch import fnmatchcase

from conftest import FACTS

from kaizen.plan.nodes import Plan


def places(plan: Plan) -> dict[str, str]:
    """The place of every node in a plan with one method, size and seed -> its key."""
    found = {"shards": plan.shards[0].key, "summary": plan.summary.key}
    for run in plan.runs:
        found |= {
            f"step/{run.point.variant}/{task}": step.key for task, step in enumerate(run.steps)
        }
        found |= {f"replay/{task}": replay.key for task, replay in enumerate(run.replays, start=1)}
        found |= {f"head/{run.point.variant}": head.key for head in run.heads}
        found[f"evaluation/{run.point.variant}"] = run.evaluations[0].key
    for reference in plan.references:
        found |= {f"specialist/{task}": step.key for task, step in enumerate(reference.steps)}
        found["reference"] = reference.evaluation.key
    return found


def changed(before: Plan, after: Plan) -> set[str]:
    """Places whose node differs, or is in one plan only."""
    one, two = places(before), places(after)
    return {place for place in one.keys() | two.keys() if one.get(place) != two.get(place)}


def matching(plan: Plan, patterns: list[str]) -> set[str]:
    """Places that any of the patterns fits; each pattern has to fit one."""
    fitting = {
        pattern: {place for place in places(plan) if fnmatchcase(place, pattern)}
        for pattern in patterns
    }
    assert all(fitting.values()), fitting
    return set().union(*fitting.values())


DOMAIN_FACTS = dataclasses.replace(
    FACTS,
    domains=("clipart", "real", "sketch"),
    train_domains=("train c", "train r", "train s"),
    test_domains=("test c", "test r", "test s"),
)


def steps_of(plan: Plan) -> list[list[str]]:
    """The steps' keys of every run."""
    return [[step.key for step in run.steps] for run in plan.runs]
