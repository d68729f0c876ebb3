"""Functions compiled for this processor by numba, when they are first called.

For passes over memory that torch has no single operator for. numba is a wheel and needs no
compiler. Its machine code lies beside the bytecode, in ``__pycache__`` or in the user's cache, and
is only used for the same source (by its hash), numba and processor. Where numba is absent, who
would call such a function computes with torch instead: ask `can_compile`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from kaizen.errors import KaizenError

_LOADING = threading.Lock()


@functools.cache
def can_compile() -> bool:
    """Whether numba is installed, and compiles; it is not imported."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        return False
    return importlib.util.find_spec("numba") is not None


def compiler() -> str:
    """numba's version, or none."""
    return importlib.metadata.version("numba") if can_compile() else "none"


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of numbers and numpy arrays, compiled at its first call for the types of each.

    It may use a product and a sum in one rounding, runs without Python's lock, and checks no index.
    """
    # A division by zero gives infinity, as everywhere else.
    kernel = _numba().njit(nogil=True, error_model="numpy", fastmath={"contract"})(function)
    return _kept(kernel)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` as a part of the compiled functions of its file that call it."""
    result: Callable[..., Any] = _numba().njit(inline="always", error_model="numpy")(function)
    return result


def prepare() -> None:
    """Load numba with all that it needs for the first function; nothing where it is absent."""
    if can_compile():
        _numba()


@functools.cache
def memory_at() -> Callable[..., Any]:
    """For compiled functions: (address, shape, dtype) to the array that lies there.

    Making arrays of tensors, of which the step of a small network has hundreds, takes longer than
    going through them.
    """
    types, carray = _numba().types, _numba().carray
    from numba.extending import intrinsic

    def pointer(typing_context: Any, address: Any) -> Any:
        def convert(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

        return types.voidptr(address), convert

    pointer_of: Any = intrinsic(pointer)

    def array_at(address: Any, shape: Any, dtype: Any) -> Any:
        return carray(pointer_of(address), shape, dtype)

    return inlined(array_at)


def _numba() -> Any:
    # Threads may ask for it at the same time.
    with _LOADING:
        return _loaded()


@functools.cache
def _loaded() -> Any:
    # Not at the top: it takes half a second, and jobs of most kinds need none of it.
    with _absent("scipy"):
        try:
            import numba
        except ImportError as error:
            raise KaizenError(
                f"numba cannot be imported ({error}); install versions that fit each other (pip "
                "install -c constraints.txt numba numpy), or uninstall numba: torch then computes"
            ) from error
        module: Any = numba
        # With the first function it loads all that functions may use. Of scipy that is the linear
        # algebra, another quarter of a second, for what no function here uses.
        _kept(module.njit(_nothing))()
    return module


def _kept(kernel: Any) -> Callable[..., Any]:
    """A function whose machine code is kept between processes, where there is a place to write."""
    # Where there is no place to write, or another numba keeps it otherwise, every process compiles
    # anew.
    with contextlib.suppress(RuntimeError, AttributeError, ImportError, TypeError):
        from kaizen.compute.machine_code import KeptCode

        # As its own `enable_caching` does.
        kernel._cache = KeptCode(kernel.py_func)
    result: Callable[..., Any] = kernel
    return result


def _nothing() -> None:
    return


@contextlib.contextmanager
def _absent(package: str) -> Iterator[None]:
    """Meanwhile, a ``package`` that was not imported yet cannot be."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # Python's way to say so
    try:
        yield
    finally:
        del sys.modules[package]
