"""Functions compiled for this processor by numba, when they are first called.

For passes over memory that torch has no single operator for. numba is a wheel and needs no
compiler. Its machine code lies beside the bytecode, in ``__pycache__`` or in the user's cache, and
is only used for the same source (by its hash), numba and processor. Where numba is absent, who
would call such a function computes with torch instead: ask `can_compile`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Callable
from typing import Any


@functools.cache
def can_compile() -> bool:
    """Whether numba is installed; it is not imported."""
    return importlib.util.find_spec("numba") is not None


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of numbers and numpy arrays, compiled at its first call for the types of each.

    It may use a product and a sum in one rounding, runs without Python's lock, and checks no index.
    """
    import numba

    # A division by zero gives infinity, as everywhere else.
    kernel = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})(function)
    # Where there is no place to write, every process compiles anew.
    with contextlib.suppress(RuntimeError):
        kernel.enable_caching()
    result: Callable[..., Any] = kernel
    return result


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` as a part of the compiled functions of its file that call it."""
    import numba

    result: Callable[..., Any] = numba.njit(inline="always", error_model="numpy")(function)
    return result
