"""What the C library does with memory that is given back to it."""

from __future__ import annotations

import ctypes
import functools

# The parameters of mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
# glibc takes no larger threshold for mappings of their own.
_LARGEST_MAPPING = 32 << 20
_KEPT = 1 << 30
# Of the heap, as much as is asked for in huge pages: in parts that the heap itself serves.
_HUGE_PARTS, _HUGE_PART, _HUGE_PAGE = 16, 31 << 20, 2 << 20
_MADV_HUGEPAGE = 14


@functools.cache
def keep_freed_memory() -> bool:
    """Let glibc keep freed memory up to 1 GiB instead of giving it back to the system at once.

    A training step frees and asks for the same tensors in every batch. Where each was a mapping of
    its own, the system cleared its pages again every time: at batch 256 of a small network 32,000
    page faults a step (docs/performance.md). Does nothing where the C library is another; returns
    whether it did.
    """
    try:
        libc = ctypes.CDLL(None)
        mallopt = libc.mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    values = (
        (_M_MMAP_THRESHOLD, _LARGEST_MAPPING),
        (_M_TRIM_THRESHOLD, _KEPT),
        (_M_TOP_PAD, 64 << 20),
    )
    if not all([mallopt(name, value) == 1 for name, value in values]):
        return False
    _ask_for_huge_pages(libc)
    return True


def _ask_for_huge_pages(libc: ctypes.CDLL) -> None:
    """Let the heap grow by half a gibibyte of addresses, and ask Linux to back them with huge pages
    once they are used; without effect where the system has none to give.

    Going through a step's tensors, of megabytes each, a processor otherwise looks up the place of
    every 4 KiB.
    """
    libc.malloc.argtypes, libc.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
    libc.free.argtypes, libc.free.restype = (ctypes.c_void_p,), None
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    parts = [libc.malloc(_HUGE_PART) for _ in range(_HUGE_PARTS)]
    found = sorted(part for part in parts if part)
    # Nothing is said of what lies between parts that are not side by side.
    if found and found[-1] - found[0] < _HUGE_PARTS * (_HUGE_PART + _HUGE_PAGE):
        begin = -(-found[0] // _HUGE_PAGE) * _HUGE_PAGE
        end = (found[-1] + _HUGE_PART) // _HUGE_PAGE * _HUGE_PAGE
        libc.madvise(begin, end - begin, _MADV_HUGEPAGE)
    for part in parts:
        libc.free(part)
