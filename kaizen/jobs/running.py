"""What is being made at this moment, by whom, and how to stop what nobody waits for.

A snakemake that was killed with SIGKILL leaves its jobs behind: they go on, here or on the cluster,
and finish their nodes; but nothing that depends on them follows. Started again, the workflow waits
for them by the nodes' locks; or `kaizen jobs --cancel` ends them first, and the steps among them
save their state.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from kaizen.errors import KaizenError
from kaizen.files import read_json, write_json
from kaizen.store.locks import Holder, is_held, read_holder
from kaizen.store.node_id import NodeId
from kaizen.store.scheduler import QueuedJob, cancel_slurm_jobs, slurm_jobs
from kaizen.store.store import Store

_WORKFLOWS = Path(".kaizen/workflows")


@dataclass(frozen=True)
class Making:
    """A node that a process is making."""

    node: NodeId
    holder: Holder

    def __str__(self) -> str:
        return f"{self.holder.title} ({self.node}): {self.holder}"


def nodes_being_made(store: Store) -> list[Making]:
    """The nodes whose locks are held, on any host that shares the store and its locks."""
    found = []
    for path in sorted((store.root / ".locks").glob("*-*")):
        node, holder = NodeId.from_file_name(path.name), read_holder(path)
        if node is not None and holder is not None and is_held(path):
            found.append(Making(node, holder))
    return found


def record_workflow(checkout: Path) -> None:
    """Record that this process is a snakemake that may start jobs in ``checkout``; forget those
    that are gone.
    """
    living_workflows(checkout)
    with contextlib.suppress(KaizenError):
        me = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}
        write_json(checkout / _WORKFLOWS / f"{me['host']}-{me['pid']}.json", me)


def living_workflows(checkout: Path) -> list[str]:
    """The snakemakes that work in ``checkout``: those of other hosts cannot be looked at and count
    as alive.
    """
    living = []
    for path in sorted((checkout / _WORKFLOWS).glob("*.json")):
        try:
            found = read_json(path)
            host, pid, started = found["host"], found["pid"], found["started"]
        except (KaizenError, KeyError, TypeError):
            continue
        if host == socket.gethostname() and _started(pid) != started:
            path.unlink(missing_ok=True)
        else:
            living.append(f"process {pid} on {host}")
    return living


def cancel(store: Store, checkout: Path) -> tuple[list[QueuedJob], list[Making]]:
    """End the jobs that a snakemake in ``checkout`` left behind: on SLURM, and as processes of this
    host.

    Returns both. Raises KaizenError while a snakemake works there, whose jobs they may be.
    """
    living = living_workflows(checkout)
    if living:
        raise KaizenError(
            f"a snakemake works in {checkout} ({', '.join(living)}): stop it with Ctrl-C, which "
            "ends its jobs; if it "
            f"is on another host and gone, remove its file under {checkout / _WORKFLOWS}"
        )
    jobs = slurm_jobs(checkout)
    here = socket.gethostname()
    local = [
        making
        for making in nodes_being_made(store)
        if making.holder.host == here
        and not making.holder.job
        and making.holder.folder == str(checkout)
    ]
    cancel_slurm_jobs(jobs)
    for making in local:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(making.holder.pid, signal.SIGTERM)
    return jobs, local


def _started(pid: int) -> str:
    """When a process of this host started, in the kernel's ticks (numbers are reused); empty when
    it is no more.
    """
    try:
        # The name, in brackets, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # A zombie is dead, though nobody has asked how it ended.
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""
