"""Faults that are prepared in the process of a command, before it begins; see
`warm.Warm.kaizen`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What changes the file system, as Python tells its audit hooks.
_CHANGES = frozenset(
    {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.link", "os.symlink"}
)
_WRITES = os.O_WRONLY | os.O_RDWR


def _changes(event: str, arguments: tuple[Any, ...]) -> bool:
    return event in _CHANGES or (
        event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & _WRITES)
    )


def kill_at_change(number: int) -> None:
    """SIGKILL just before the ``number``-th change of the file system, counted from 0."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if _changes(event, arguments):
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(hook)


def count_changes(file: str) -> None:
    """Write the number of changes of the file system so far into ``file``, at each of them."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if _changes(event, arguments):
            seen += 1
            os.pwrite(descriptor, str(seen).encode(), 0)

    sys.addaudithook(hook)


def fill_disk(event: str, path: str, disk: str) -> None:
    """Leave no space on the file system ``disk`` from the first ``event`` (of Python's audit
    events) on that ends, or in the last argument that is a path, with ``path``.
    """
    done = False

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal done
        if name != event or done:
            return
        named = [
            os.fsdecode(value)
            for value in arguments
            if isinstance(value, str | bytes | os.PathLike)
        ]
        if any(path in value for value in named):
            done = True
            fill(Path(disk))

    sys.addaudithook(hook)


def fill(disk: Path) -> None:
    """Write a file until there is no space."""
    descriptor = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for size in (1 << 16, 1 << 12, 1):
        try:
            while os.write(descriptor, bytes(size)):
                pass
        except OSError:
            continue
    os.close(descriptor)


def not_finite(where: str, value: str, batch: int) -> None:
    """Put ``value`` ("nan", "inf") into a loss term, a gradient or a buffer, at the ``batch``-th
    time, from 0.

    ``where``: a term's name, "gradient of <parameter>" or "buffer <name>".
    """
    from kaizen.distill.base import FeatureDistiller
    from kaizen.ssl.base import SSLMethod
    from kaizen.training import loop, objective
    from kaizen.training.optim import SGD

    calls = 0

    def now() -> bool:
        nonlocal calls
        calls += 1
        return calls == batch + 1

    def spoil(owner: object, name: str, change: Callable[[Any], Any]) -> None:
        """Change what the function or method ``name`` of ``owner`` returns, when it is time."""
        function = getattr(owner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            result = function(*arguments, **named)
            return change(result) if now() else result

        setattr(owner, name, call)

    def before(owner: object, name: str, change: Callable[[Any], None]) -> None:
        """Change the object of the method ``name`` of ``owner`` before it runs, when it is time."""
        method = getattr(owner, name)

        def call(self: Any, *arguments: Any) -> Any:
            if now():
                change(self)
            return method(self, *arguments)

        setattr(owner, name, call)

    def times(loss: Any) -> Any:
        return loss * float(value)

    def set_gradient(optimizer: Any) -> None:
        parameters = {
            f"{group.name}.{name}": parameter
            for group in optimizer.groups
            for name, parameter in group.parameters
        }
        parameter = parameters[where.removeprefix("gradient of ")]
        parameter.grad.view(-1)[0] = float(value)

    def set_buffer(step: Any) -> None:
        buffers = dict(step.student.named_buffers())
        buffers[where.removeprefix("buffer ")].view(-1)[0] = float(value)

    if where == "L_FE_CT":
        spoil(SSLMethod, "__call__", lambda output: output._replace(loss=times(output.loss)))
    elif where == "L_FE_KD":
        spoil(FeatureDistiller, "__call__", times)
    elif where == "L_C_CT":
        spoil(objective, "cross_entropy_sum", times)
    elif where == "L_C_KD":
        spoil(objective, "soft_label_distillation", times)
    elif where.startswith("gradient of "):
        before(SGD, "step", set_gradient)
    else:
        before(loop.Step, "update", set_buffer)


def limit_memory(megabytes: int) -> None:
    """Let the process have so much more address space than it has now."""
    import ctypes
    import resource

    # The warm process keeps freed memory (kaizen/compute/memory.py), which would count as had.
    library = ctypes.CDLL(None)
    library.mallopt(-2, 0)
    library.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + megabytes * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
