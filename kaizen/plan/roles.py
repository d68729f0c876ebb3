"""The names under which a node knows its inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

SHARDS = "shards"
PRIOR = "prior"
REPLAY = "replay"
# The replay shard of the step before, from which the next one goes on.
MEMORY = "memory"
# The analytic heads of a run, or of one step: on a stream that grows, and the statistics that a
# step replays pseudo-features of.
HEAD = "head"

_STEP = "step-"

T = TypeVar("T")


def shards_role(task: int) -> str:
    """The shards of one task, where each task has a node of its own, as in "shards-03"."""
    return f"{SHARDS}-{task:02d}"


def shards_of(inputs: Mapping[str, T], task: int) -> T:
    """The input that holds the shards of ``task``: its own, or those of all tasks."""
    own = shards_role(task)
    return inputs[own] if own in inputs else inputs[SHARDS]


def step_role(task: int) -> str:
    """The model of a run right after it learnt a task, as in "step-00"."""
    return f"{_STEP}{task:02d}"


def replay_role(step: int) -> str:
    """The replay shard of a step, where a node reads several, as in "replay-03"."""
    return f"{REPLAY}-{step:02d}"


def step_roles(roles: Iterable[str]) -> list[str]:
    """Those of ``roles`` that are models of a run's steps, in the order of the steps."""
    return sorted(role for role in roles if role.startswith(_STEP))
