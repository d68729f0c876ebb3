"""A warm process for Snakemake's jobs on this machine: it has imported what they need, torch among
it, and each is made in a process that is forked from it. That saves 1.5 s a job.

The Snakefile starts it, and it ends with that Snakemake. A job asks it by a socket that only this
user may open (`kaizen.jobs.ask`), and does the work itself where it gets no answer; so nothing
depends on it. It computes nothing, starts no thread and touches no GPU: what does not survive a
fork is never in it.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import selectors
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import read_json, write_json
from kaizen.jobs.ask import KINDS, VARIABLE, facts_of_imports
from kaizen.jobs.launch import die_with_parent
from kaizen.jobs.parallel import use_a_gpu
from kaizen.params.typed import from_dict
from kaizen.plan.nodes import Node
from kaizen.plan.specs import Spec
from kaizen.store.processes import Process, this_process

# The folder of a warm process, among the temporary files: its socket, and whose it is.
_PREFIX, _SOCKET, _OWNER = "kaizen-warm-", "socket", "owner.json"
_LONGEST_OWNER = 4096
_LONGEST_REQUEST = 8 << 20
_SECONDS_TO_SEND = 10.0
Run = Callable[[Sequence[str]], int]


def start(missing: Sequence[Node[Spec]], threads: int) -> None:
    """Start the warm process for the jobs of this Snakemake, which are to make the ``missing``
    nodes and compute in so many threads each; tells them of it by the environment.

    Does nothing where it would not help: for a single job, with a GPU, on another system.
    """
    jobs = [node for node in missing if node.kind in KINDS]
    if sys.platform != "linux" or len(jobs) < 2 or use_a_gpu(node.spec for node in jobs):
        return
    # Not in the checkout: the path of a socket has 107 characters at most.
    try:
        remove_left(Path(tempfile.gettempdir()))
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        write_json(folder / _OWNER, asdict(this_process()))
    except (OSError, KaizenError):
        # Read-only or full: the jobs do their work themselves.
        return
    # As Snakemake sets them for a job.
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    process = subprocess.Popen(
        [sys.executable, "-m", "kaizen", "warm", str(folder / _SOCKET)],
        # In Python's UTF-8 mode at once, which it would start itself again for.
        env=os.environ | dict.fromkeys(names, str(threads)) | {"PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A terminal's Ctrl-C goes to the jobs that ask, which pass it on.
        start_new_session=True,
    )
    atexit.register(_end, process)
    os.environ[VARIABLE] = str(folder / _SOCKET)


def remove_left(temporary: Path) -> None:
    """Remove the folders in ``temporary`` that a Snakemake of this user and machine left there when
    it was killed. What may be another's, or still be used, stays.
    """
    for folder in temporary.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, KaizenError, TypeError, AttributeError):
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            names = set(os.listdir(folder))
            owner = from_dict(Process, read_json(folder / _OWNER, _LONGEST_OWNER), _OWNER)
            if names <= {_OWNER, _SOCKET} and not owner.may_run():
                # The owner last: what remains after a fault is known by it the next time.
                for name in sorted(names, reverse=True):
                    (folder / name).unlink()
                folder.rmdir()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the warm process; what is forked from it goes on."""
    process.kill()
    process.wait()


@dataclass
class _Job:
    """A job under way: its process's number, and who waits for its end."""

    pid: int
    asker: socket.socket


def serve(place: Path, run: Run) -> None:
    """Answer at the socket ``place`` until the Snakemake that started this process ends; ``run``
    makes a node from the arguments of `kaizen`, and returns the exit code.
    """
    die_with_parent()
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(str(place))
        # From now on jobs wait for the imports.
        listener.listen(128)
        import kaizen.jobs.preloaded  # noqa: F401

        if not _may_fork():
            return
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    _take(listener, selector, run)
                else:
                    selector.unregister(key.fileobj)
                    _tell_end(key.data, key.fd)


def _may_fork() -> bool:
    """Whether no library has started a thread that a forked process would miss; jemalloc, which
    Arrow allocates by, sees to its own.
    """
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return len([name for name in names if name != "jemalloc_bg_thd"]) == 1


def _take(listener: socket.socket, selector: selectors.BaseSelector, run: Run) -> None:
    """Take one request, or decline it by hanging up."""
    asker, _ = listener.accept()
    fds: list[int] = []
    try:
        asker.settimeout(_SECONDS_TO_SEND)
        request = _read(asker, fds)
        if request is None or request["imports"] != facts_of_imports():
            asker.close()
            return
        pid = os.fork()
        if not pid:
            listener.close()
            _forget_others(selector)
            asker.close()
            _make(request, fds, run)
        process = os.pidfd_open(pid)
        selector.register(process, selectors.EVENT_READ, _Job(pid, asker))
        with contextlib.suppress(OSError):
            socket.send_fds(asker, [b"y"], [process])
    except (OSError, ValueError, KeyError, TypeError):
        asker.close()
    finally:
        for fd in fds:
            os.close(fd)


def _read(asker: socket.socket, fds: list[int]) -> dict[str, Any] | None:
    """A request, and into ``fds`` the asker's input and outputs; None for what is none, or another
    user's.
    """
    credentials = asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", credentials)[1] != os.getuid():
        return None
    head, received, _, _ = socket.recv_fds(asker, 8, 3)
    fds += received
    length = int.from_bytes(head, "big")
    if len(head) != 8 or len(fds) != 3 or length > _LONGEST_REQUEST:
        return None
    parts = bytearray()
    while len(parts) < length:
        part = asker.recv(min(1 << 16, length - len(parts)))
        if not part:
            return None
        parts += part
    request = json.loads(parts)
    return request if isinstance(request, dict) else None


def _forget_others(selector: selectors.BaseSelector) -> None:
    """In the forked process: let go of what belongs to other jobs."""
    for key in list(selector.get_map().values()):
        if key.data is not None:
            os.close(key.fd)
            key.data.asker.close()
    selector.close()


def _make(request: Mapping[str, Any], fds: Sequence[int], run: Run) -> None:
    """In the forked process: become the job that asked, and do its work. Never returns."""
    code = 1
    try:
        os.setsid()
        for target, fd in enumerate(fds):
            os.dup2(fd, target)
            os.close(fd)
        os.umask(request["umask"])
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        # Those of the warm process hold text back.
        sys.stdout, sys.stderr = _text_to(1), _text_to(2)
        code = run(request["arguments"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    # Not `sys.exit`: what the warm process registered for its own end is not this one's.
    os._exit(code)


def _text_to(fd: int) -> io.TextIOWrapper:
    """What writes text to a file descriptor, line by line."""
    buffered = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
    return io.TextIOWrapper(buffered, "utf-8", errors="replace", line_buffering=True)


def _tell_end(job: _Job, process: int) -> None:
    """Tell who asked what a job ended with, as a shell has it: 128 and the signal's number."""
    code = os.waitstatus_to_exitcode(os.waitpid(job.pid, 0)[1])
    os.close(process)
    with job.asker, contextlib.suppress(OSError):
        job.asker.sendall(str(code if code >= 0 else 128 - code).encode())
