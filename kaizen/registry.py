"""What can be named in the parameters, and where it lives; one line per method.

Nothing is imported until `load` is called, so the plan may read this without torch.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

SSL_METHODS = {
    "simclr": "kaizen.ssl.simclr:SimCLR",
}

FEATURE_DISTILLERS = {
    "contrastive": "kaizen.distill.contrastive:ContrastiveDistiller",
}


@dataclass(frozen=True)
class ReplayPolicy:
    """Where a replay policy lives and what it needs: the seed, or features from the run's own steps."""

    target: str
    seeded: bool = False
    features: bool = False


REPLAY_POLICIES = {
    "first_n": ReplayPolicy("kaizen.data.replay.first_n:choose"),
    "balanced_random": ReplayPolicy("kaizen.data.replay.balanced_random:choose", seeded=True),
    "reservoir": ReplayPolicy("kaizen.data.replay.reservoir:choose", seeded=True),
    "herding": ReplayPolicy("kaizen.data.replay.herding:choose", features=True),
}


def module_of(target: str) -> str:
    """Return the module of a target such as "kaizen.ssl.simclr:SimCLR"."""
    return target.partition(":")[0]


def load(target: str) -> Any:
    """Import the class or function that a target such as "kaizen.ssl.simclr:SimCLR" names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
