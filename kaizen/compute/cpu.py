"""What the CPU decides of the bits of a result: its model, and the variables that choose its
instructions. Without torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# They make torch, oneDNN and numba compute by other instructions, with other bits of the same sums.
INSTRUCTIONS = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "NUMBA_CPU_FEATURES",
    "NUMBA_CPU_NAME",
    "NUMBA_DISABLE_JIT",
    "NUMBA_LOOP_VECTORIZE",
    "NUMBA_OPT",
    "NUMBA_SLP_VECTORIZE",
    "ONEDNN_MAX_CPU_ISA",
)
_MODEL = "cpu_model"
_CPUINFO = Path("/proc/cpuinfo")


def cpu_facts(cpuinfo: Path = _CPUINFO) -> dict[str, str]:
    """The CPU's model, where Linux reports it, and the variables that are set."""
    facts = {name: os.environ[name] for name in INSTRUCTIONS if os.environ.get(name)}
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return facts
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    model = next(names, "")
    return facts | {_MODEL: model} if model else facts


def other_cpu(recorded: Mapping[str, Any], cpuinfo: Path = _CPUINFO) -> str:
    """How the CPU that a node was made by differs from this machine's, as "NAME A, here B"; empty
    where it does not.

    ``recorded`` is the environment in the node's record. One that says nothing of the CPU (shards,
    which are the same everywhere, and older records) differs in nothing.
    """
    if "cpu_capability" not in recorded:
        return ""
    here = cpu_facts(cpuinfo)
    both = {name: (recorded.get(name), here.get(name)) for name in (_MODEL, *INSTRUCTIONS)}
    return "; ".join(
        f"{name} {then or 'not set'}, here {now or 'not set'}"
        for name, (then, now) in both.items()
        if then != now
    )
