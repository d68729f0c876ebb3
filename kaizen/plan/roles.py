"""The names under which a node knows its inputs."""

from __future__ import annotations

from collections.abc import Iterable

SHARDS = "shards"
PRIOR = "prior"
REPLAY = "replay"

_STEP = "step-"


def step_role(task: int) -> str:
    """The model of a run right after it learnt a task, as in "step-00"."""
    return f"{_STEP}{task:02d}"


def step_roles(roles: Iterable[str]) -> list[str]:
    """Those of ``roles`` that are models of a run's steps, in the order of the steps."""
    return sorted(role for role in roles if role.startswith(_STEP))
