"""What can be named in the parameters, and where it lives; one line per method.

Nothing is imported until `load` is called, so the plan may read this without torch.
"""

from __future__ import annotations

import importlib

SSL_METHODS = {
    "simclr": "kaizen.ssl.simclr:SimCLR",
}

FEATURE_DISTILLERS = {
    "contrastive": "kaizen.distill.contrastive:ContrastiveDistiller",
}


def module_of(target: str) -> str:
    """Return the module of a target such as "kaizen.ssl.simclr:SimCLR"."""
    return target.partition(":")[0]


def load(target: str) -> type:
    """Import the class that a target such as "kaizen.ssl.simclr:SimCLR" names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
