"""What making a node reports besides the node's files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Made:
    """``environment`` is part of the node's record: packages, device, precision.

    The rest differs from run to run and goes to its run record: ``training_seconds`` without
    loading, ``images_per_second``, ``processes`` that shared the work, and ``dvc``, the file and
    MD5 by which DVC tracks the raw data.
    """

    environment: dict[str, Any] = field(default_factory=dict)
    training_seconds: float | None = None
    images_per_second: float | None = None
    processes: int | None = None
    dvc: dict[str, str] | None = None

    def run_facts(self) -> dict[str, Any]:
        """What the run record says, without what is not known."""
        facts = {name: value for name, value in vars(self).items() if name != "environment"}
        return {name: value for name, value in facts.items() if value is not None}
