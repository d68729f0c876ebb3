"""Which machine and process this is, and whether another process still runs."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import read_json, sha256_text, write_json

_WORKFLOWS = Path(".kaizen/workflows")


@dataclass(frozen=True)
class Process:
    """A process of one machine. ``started`` tells it from a later one of the same number."""

    machine: str
    pid: int
    started: str

    def may_run(self) -> bool:
        """Whether it runs; True where it is another machine's, which cannot be looked at."""
        return self.machine != this_machine() or started(self.pid) == self.started != ""

    def is_this(self) -> bool:
        """Whether it is this process."""
        return self == this_process()

    def ask_to_stop(self) -> bool:
        """Send SIGTERM, if it is this user's and runs on this machine; returns whether it was."""
        if self.machine != this_machine() or self.pid <= 1 or self.is_this():
            return False
        with contextlib.suppress(OSError, OverflowError):
            # The descriptor stands for the process that is looked at, whatever becomes of its
            # number.
            descriptor = os.pidfd_open(self.pid)
            try:
                owner = os.stat(f"/proc/{self.pid}").st_uid
                if owner == os.geteuid() and started(self.pid) == self.started != "":
                    signal.pidfd_send_signal(descriptor, signal.SIGTERM)
                    return True
            finally:
                os.close(descriptor)
        return False


def this_process() -> Process:
    """This process."""
    return Process(this_machine(), os.getpid(), started(os.getpid()))


@functools.cache
def this_machine() -> str:
    """What stands for this machine, or this container of it: what two processes of one such string
    see at a path is the same, and their process numbers are of one list.

    Host names do not tell containers apart; so the namespaces count, too.
    """
    facts = [socket.gethostname()]
    for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        with contextlib.suppress(OSError):
            facts.append(Path(path).read_text(encoding="utf-8", errors="replace").strip())
            break
    for name in ("mnt", "pid"):
        with contextlib.suppress(OSError):
            facts.append(os.readlink(f"/proc/self/ns/{name}"))
    return sha256_text("\n".join(facts))[:32]


def started(pid: int) -> str:
    """When a process of this host started, in the kernel's ticks (numbers are reused); empty when
    it is no more.
    """
    try:
        # The name, in brackets, may hold anything.
        fields = Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()
        # A zombie is dead, though nobody has asked how it ended.
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError, ValueError):
        return ""


def record_workflow(checkout: Path) -> None:
    """Record that this process is a snakemake that may start jobs in ``checkout``; forget those
    that are gone.
    """
    living_workflows(checkout)
    with contextlib.suppress(KaizenError):
        me, host = this_process(), socket.gethostname()
        name = f"{host}-{me.machine[:8]}-{me.pid}.json"
        facts = {"host": host, "machine": me.machine, "pid": me.pid, "started": me.started}
        write_json(checkout / _WORKFLOWS / name, facts)


def living_workflows(checkout: Path) -> list[str]:
    """The snakemakes that work in ``checkout``: those of other machines cannot be looked at and
    count as alive, and so do those whose record cannot be read. Raises OSError where the records
    may not be seen.
    """
    living, folder = [], workflows_folder(checkout)
    # Not a glob, which finds nothing in a folder that may not be read.
    for name in sorted(os.listdir(folder)) if folder.exists() else []:
        path = folder / name
        if path.suffix != ".json" or name.startswith("."):
            continue
        found = _read_workflow(path)
        if found is None:
            living.append(f"one whose record {path} cannot be read")
        elif found[1].may_run():
            living.append(f"process {found[1].pid} on {found[0]}")
        else:
            path.unlink(missing_ok=True)
    return living


def _read_workflow(path: Path) -> tuple[str, Process] | None:
    """Host and process of a record; None where it is none."""
    try:
        found: Any = read_json(path)
        host, pid, ticks = found["host"], found["pid"], found["started"]
        here = this_machine() if host == socket.gethostname() else ""
        machine = found.get("machine", here)  # earlier versions knew the host's name only
        if all(isinstance(text, str) for text in (host, ticks, machine)) and type(pid) is int:
            return host, Process(machine, pid, ticks)
    except (KaizenError, KeyError, TypeError, AttributeError):
        pass
    return None


def workflows_folder(checkout: Path) -> Path:
    """Where the snakemakes of a checkout are recorded."""
    return checkout / _WORKFLOWS
