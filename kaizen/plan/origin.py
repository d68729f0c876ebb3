"""Where something was planned. It goes with a job and into its run.json, and is in no key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kaizen.params.typed import UNSET, Unset

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class OriginFacts:
    """The checkout and the command that something was planned by; None: not known.

    ``commit``; ``changed``, the sources that differed from it, and ``depends``, those of them that
    the code of the node needs; ``params_committed``, whether the commit's params.yaml asks for this
    plan; ``command``; ``experiment``, DVC's name for it, where it was one of DVC's experiments.
    """

    commit: str | None = None
    changed: list[str] | None = None
    depends: list[str] | None = None
    params_committed: bool | None = None
    command: str | None = None
    experiment: str | Unset = UNSET

    def has_code(self) -> bool:
        """Whether a commit is known that has all the code that was used."""
        return self.commit is not None and self.depends == []


def read_origin(value: Mapping[str, Any]) -> OriginFacts:
    """Where something was planned, from JSON, as far as what it says is well-formed; a commit is a
    hash and nothing else.
    """
    commit, experiment = value.get("commit"), value.get("experiment")
    params_committed, command = value.get("params_committed"), value.get("command")
    return OriginFacts(
        commit=commit if isinstance(commit, str) and _COMMIT.fullmatch(commit) else None,
        changed=_texts(value.get("changed")),
        depends=_texts(value.get("depends")),
        params_committed=params_committed if isinstance(params_committed, bool) else None,
        command=command if isinstance(command, str) else None,
        experiment=experiment if isinstance(experiment, str) else UNSET,
    )


def _texts(value: object) -> list[str] | None:
    """A list of texts; None where it is anything else."""
    right = isinstance(value, list) and all(isinstance(text, str) for text in value)
    return value if isinstance(value, list) and right else None
