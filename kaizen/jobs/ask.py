"""A job of Snakemake asks the warm process of its own Snakemake to do its work: `kaizen.jobs.warm`.

Runs before anything else is imported: what it saves are the seconds that imports take. Imports
nothing but Python's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

import kaizen

# Where the Snakefile tells its jobs of the warm process: the path of a socket.
VARIABLE = "KAIZEN_WARM"
# What is read once, as torch and numpy are imported: for jobs that have it otherwise the warm
# process is the wrong one.
READ_AT_IMPORT = (
    "ATEN_CPU_CAPABILITY",
    "CUDA_VISIBLE_DEVICES",
    "DNNL_MAX_CPU_ISA",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "LD_PRELOAD",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_NUM_THREADS",
    "PYTHONPATH",
)
# These import torch; the others are as quick by themselves.
KINDS = ("step", "head", "evaluation", "reference")
_LONGEST_REPLY = 4096


def facts_of_imports() -> dict[str, str]:
    """What has to be equal in the process that asks and in the one that answers."""
    return {
        "python": os.path.realpath(sys.executable),
        "environment": sys.prefix,
        "code": os.path.realpath(kaizen.__file__),
        **{name: os.environ.get(name, "") for name in READ_AT_IMPORT},
    }


def ask(arguments: Sequence[str], environment: Mapping[str, str]) -> int | None:
    """Have the node made that ``arguments`` of `kaizen` (``node --spec …``) name, in a process that
    is forked from the warm one; returns its exit code.

    It writes to this process's output, and hears the signals that this one gets. None where there
    is no warm process, or it does not take the job: then nothing was done.
    """
    place = environment.get(VARIABLE)
    if not place or not _worth_it(arguments):
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(place)
        except OSError:
            return None
        return _answered(connection, arguments, environment)


def _worth_it(arguments: Sequence[str]) -> bool:
    """Whether the arguments are those of a job that imports torch."""
    if list(arguments[:1]) != ["node"] or "--spec" not in arguments[:-1]:
        return False
    spec = arguments[arguments.index("--spec") + 1]
    return spec.startswith("@") and os.path.basename(spec).partition("-")[0] in KINDS


def _answered(
    connection: socket.socket, arguments: Sequence[str], environment: Mapping[str, str]
) -> int | None:
    """Send the request, pass signals on, and wait for the end."""
    umask = os.umask(0)
    os.umask(umask)
    request = {
        "umask": umask,
        "arguments": list(arguments),
        "folder": os.getcwd(),
        "environment": dict(environment),
        "imports": facts_of_imports(),
    }
    early: list[int] = []
    child: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if child:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(child[0], number)
        else:
            early.append(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        text = json.dumps(request, ensure_ascii=True).encode()
        socket.send_fds(connection, [len(text).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(text)
        # The process itself, and not its number, which may be another one's later.
        reply, fds, _, _ = socket.recv_fds(connection, 1, 1)
        if reply != b"y" or len(fds) != 1:
            _declined(early, before)
            return None
        child += fds
        for number in early:
            pass_on(number, None)
        end = connection.recv(_LONGEST_REPLY)
        # The warm process is gone, its children are not: nobody can say how this one ends.
        code = int(end) if end else _wait(fds[0], arguments)
        os.close(fds[0])
        return code
    except (OSError, ValueError):
        if child:
            return _wait(child[0], arguments)
        _declined(early, before)
        return None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _declined(early: Sequence[int], before: Mapping[signal.Signals, Any]) -> None:
    """Nothing was begun; a signal that came meanwhile is this process's own."""
    for number in early:
        signal.signal(number, before[signal.Signals(number)])
        signal.raise_signal(number)


def _wait(process: int, arguments: Sequence[str]) -> int:
    """Wait for the end of a process that is no child of this one; 0 where it left the receipt that
    it was asked for, else 1: what it ended with is not known.
    """
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.poll()
    asked = "--receipt" in arguments[:-1]
    return int(not (asked and os.path.exists(arguments[arguments.index("--receipt") + 1])))
