"""What is being made at this moment, by whom, and how to stop what nobody waits for.

A snakemake that was killed with SIGKILL leaves its jobs behind: they go on, here or on the cluster,
and finish their nodes; but nothing that depends on them follows. Started again, the workflow waits
for them by the nodes' locks; or `kaizen jobs --cancel` ends them first, and the steps among them
save their state.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaizen.errors import KaizenError
from kaizen.files import printable
from kaizen.store.locks import Holder, is_held, read_holder
from kaizen.store.node_id import NodeId
from kaizen.store.processes import living_workflows, workflows_folder
from kaizen.store.scheduler import QueuedJob, cancel_slurm_jobs, slurm_jobs
from kaizen.store.store import Store


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


def cancel(store: Store, checkout: Path) -> tuple[list[QueuedJob], list[Making]]:
    """End the jobs that a snakemake in ``checkout`` left behind: on SLURM, and as processes of this
    host.

    Returns both. Raises KaizenError while a snakemake works there, whose jobs they may be.
    """
    living = living_workflows(checkout)
    if living:
        raise KaizenError(
            f"a snakemake works in {checkout} ({', '.join(living)}): stop it with Ctrl-C, which "
            "ends its jobs; if it is on another host and gone, remove its file under "
            f"{workflows_folder(checkout)}"
        )
    jobs = slurm_jobs(checkout)
    cancel_slurm_jobs(jobs)
    local = [
        making
        for making in nodes_being_made(store)
        if not making.holder.job
        and making.holder.folder == printable(str(checkout))
        and making.holder.process.ask_to_stop()
    ]
    return jobs, local
