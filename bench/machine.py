"""What the figures were measured on: the machine, the packages, and the rates it reaches."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from kaizen.compute.cpu import cpu_facts

_PACKAGES = ("torch", "torchvision", "numpy", "pillow", "pyarrow", "lightly", "kornia")


def describe() -> dict[str, Any]:
    """The machine and the packages that take part."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        # What others kept running meanwhile: of 1, 5 and 15 minutes.
        "load": [round(value, 1) for value in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": cpu_facts(),
        "instructions": _instructions(),
        "packages": versions,
        "peak": {str(dtype).removeprefix("torch."): peak(dtype) for dtype in _TYPES},
    }


_TYPES = (torch.float32, torch.bfloat16)


def peak(dtype: torch.dtype, side: int = 1024, repetitions: int = 60) -> float:
    """GFLOP/s of one thread's matrix product [side, side] @ [side, side], by the fastest."""
    first, second = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
    best = float("inf")
    for _ in range(repetitions):
        began = time.perf_counter()
        first @ second
        best = min(best, time.perf_counter() - began)
    return round(2e-9 * side**3 / best, 1)


def _instructions() -> list[str]:
    """Those that decide the speed of matrix products, as Linux names them."""
    wanted = {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16"}
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return sorted(wanted & set(flags.split()))


def peak_memory_mb() -> float:
    """The most memory that this process has had at a time, in MB of 10^6 bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
