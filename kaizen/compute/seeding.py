"""Reproducible initialisation without touching the global random state."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Modules built inside on the CPU get their default initialisation from ``seed`` alone.

    PyTorch's default initialisers draw from the global CPU generator and take no other. Its state
    is put back on leaving, also after an exception; GPU generators are never touched. Not
    thread-safe, as that generator is the process's.
    """
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also reseed every GPU's generator.
        torch.default_generator.manual_seed(seed)
        yield
