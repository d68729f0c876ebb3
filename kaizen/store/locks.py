"""Locks of nodes: one process at a time makes a node, and whoever waits learns who holds it.

A lock is a file, `<store>/.locks/<kind>-<key>`, that its holder has locked with flock, so that it
is free again however the holder ends. The file names the holder. It is also the fence: a process
may write a node's resume state and the node itself only as long as the file carries its token. A
requeued job writes its own token before it has the lock; its older twin, which a dead node's daemon
left behind, then stops at its next batch and writes nothing more. The same holds where flock does
not reach across hosts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import getpass
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kaizen.errors import Interrupted, KaizenError, Superseded
from kaizen.files import explain_write_errors, parse_json, printable, read_text
from kaizen.store.processes import Process, this_process
from kaizen.store.scheduler import ClusterJob, is_over, this_job

_POLL_SECONDS = 0.5
# A holder looks at its token no more often than this between two writes.
_GLANCE_SECONDS = 1.0
# A waiting process asks the scheduler so often whether the holder's job is over.
_ASK_SECONDS = 60.0
_LONGEST_HOLDER = 64 * 1024


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: one line of JSON in the lock's file."""

    token: str
    host: str
    pid: int
    user: str
    since: float
    folder: str
    title: str = ""
    job: ClusterJob | None = None
    machine: str = ""
    started: str = ""

    @property
    def process(self) -> Process:
        """Its process."""
        return Process(self.machine, self.pid, self.started)

    def __str__(self) -> str:
        job = f", {self.job.scheduler} job {self.job.number}" if self.job else ""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} of {self.user} on {self.host}{job}, since {since}"


def read_holder(path: Path) -> Holder | None:
    """The holder that a lock's file names; None where it names none."""
    try:
        found = parse_json(read_text(path, _LONGEST_HOLDER))
        job = found.pop("job")
        holder = Holder(**found, job=ClusterJob(**job) if job else None)
        texts = [holder.token, holder.host, holder.user, holder.folder, holder.title]
        texts += [holder.machine, holder.started]
        texts += [holder.job.scheduler, holder.job.number] if holder.job else []
        if not all(isinstance(text, str) and printable(text) == text for text in texts):
            return None
        if type(holder.pid) is not int or holder.pid < 1:
            return None
        time.localtime(holder.since)
        return holder
    except (KaizenError, ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
        return None


class NodeLock:
    """A lock that this process holds."""

    def __init__(self, path: Path, token: str) -> None:
        """See `hold`."""
        self.path, self.token = path, token
        self._looked = time.monotonic()

    def confirm(self) -> None:
        """Before a write: raise Superseded where another process has taken over."""
        holder = read_holder(self.path)
        if holder is None or holder.token != self.token:
            who = str(holder) if holder else f"somebody who removed {self.path}"
            raise Superseded(f"taken over by {who}; this process stops and writes nothing more")
        self._looked = time.monotonic()

    def glance(self) -> None:
        """As `confirm`, but at most once a second: for every batch."""
        if time.monotonic() - self._looked >= _GLANCE_SECONDS:
            self.confirm()


class Watch:
    """What a job asks while it works: whether it should stop, and whether the node is still its own
    to write.
    """

    def __init__(
        self, stop: Callable[[], bool] = lambda: False, lock: NodeLock | None = None
    ) -> None:
        """Ask ``stop``, and ``lock`` where one is held."""
        self._stop, self._lock = stop, lock

    def __call__(self) -> bool:
        """Whether a stop was asked for; raises Superseded where another process has taken over.
        Cheap.
        """
        if self._lock is not None:
            self._lock.glance()
        return self._stop()

    def confirm(self) -> None:
        """Before a write: raise Superseded where another process has taken over."""
        if self._lock is not None:
            self._lock.confirm()


@contextlib.contextmanager
def hold(
    path: Path,
    report: Callable[[str], None] = lambda text: None,
    stop: Callable[[], bool] = lambda: False,
    title: str = "",
    doing: str = "making the same node",
) -> Iterator[NodeLock]:
    """Hold the lock at ``path``; waits for a holder that is alive, after reporting who it is and
    what can be done.

    In messages ``title`` names the work to others, and ``doing`` says what they wait for.

    Fences a holder that the scheduler has given up: an earlier start of this very job, which was
    requeued, or a job that is over. Raises KaizenError where the file cannot be written,
    Interrupted once ``stop()`` is true while waiting.
    """
    job = this_job()
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    token, host, me = secrets.token_hex(8), socket.gethostname(), this_process()
    own = Holder(
        token,
        host,
        me.pid,
        printable(user_name()),
        time.time(),
        printable(os.getcwd()),
        printable(title),
        job,
        me.machine,
        me.started,
    )
    # The last holder that was announced, and when its scheduler was last asked.
    last_announced, asked_scheduler_at = "", 0.0
    while (descriptor := _try(path)) is None:
        holder = read_holder(path)
        if holder is not None and holder.token != own.token:
            is_new = holder.token != last_announced
            if is_new or time.monotonic() - asked_scheduler_at > _ASK_SECONDS:
                asked_scheduler_at = time.monotonic()
                if _may_take_over(holder, job):
                    report(f"takes over from {holder}, which its scheduler has given up")
                    _write(path, own)
                elif is_new:
                    report(_waiting_for(holder, path, doing))
                last_announced = holder.token
        if stop():
            raise Interrupted(
                "stopped while another process makes the same node; the same command goes on"
            )
        time.sleep(_POLL_SECONDS)
    try:
        _write(path, own)
        yield NodeLock(path, own.token)
    finally:
        with contextlib.suppress(OSError):
            if (holder := read_holder(path)) and holder.token == own.token:
                os.truncate(path, 0)
        os.close(descriptor)


def _may_take_over(holder: Holder, job: ClusterJob | None) -> bool:
    """Whether the scheduler has given a holder up: it is an earlier start of this very ``job``, or
    its own job is over.
    """
    return holder.job is not None and (holder.job == job or is_over(holder.job))


def _waiting_for(holder: Holder, path: Path, doing: str) -> str:
    return (
        f"waits for {holder}, which is {doing}; `kaizen jobs` lists all such. If it "
        f"is gone (a host that died, a file system without locks), remove {path}"
    )


def _try(path: Path) -> int | None:
    """Lock the file if it is free: its descriptor, else None."""
    with explain_write_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Removed meanwhile, it locks nothing any more.
        if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _write(path: Path, holder: Holder) -> None:
    """Name the holder, in place, as the file is what is locked; one write, so that no reader sees
    half of it.
    """
    text = json.dumps(dataclasses.asdict(holder)).encode()
    with explain_write_errors(path):
        descriptor = os.open(path, os.O_WRONLY)
        try:
            # Shorter than an earlier one, the rest is blanks: JSON does not mind, and the file is
            # never empty.
            os.pwrite(descriptor, text.ljust(os.fstat(descriptor).st_size), 0)
        finally:
            os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock at this moment."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove_if_free(path: Path) -> None:
    """Remove a lock's file unless some process holds it; who opened it meanwhile will open a new
    one.
    """
    descriptor = _try(path)
    if descriptor is not None:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def user_name() -> str:
    """Who runs this process; the number where it has no name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
