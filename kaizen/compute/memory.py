"""What the C library does with memory that is given back to it."""

from __future__ import annotations

import ctypes
import functools

# The parameters of mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
# glibc takes no larger threshold for mappings of their own.
_LARGEST_MAPPING = 32 << 20
_KEPT = 1 << 30


@functools.cache
def keep_freed_memory() -> bool:
    """Let glibc keep freed memory up to 1 GiB instead of giving it back to the system at once.

    A training step frees and asks for the same tensors in every batch. Where each was a mapping of
    its own, the system cleared its pages again every time: at batch 256 of a small network 32,000
    page faults a step (docs/performance.md). Does nothing where the C library is another; returns
    whether it did.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    values = (
        (_M_MMAP_THRESHOLD, _LARGEST_MAPPING),
        (_M_TRIM_THRESHOLD, _KEPT),
        (_M_TOP_PAD, 64 << 20),
    )
    return all([mallopt(name, value) == 1 for name, value in values])
