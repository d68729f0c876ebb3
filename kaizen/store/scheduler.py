"""What a process knows of the cluster job that it is part of, and what the scheduler says of
jobs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kaizen.store.node_id import Kind

_QUERY_SECONDS = 20

# Scheduler -> the variable in which a job finds its number.
_JOB_VARIABLES = {"slurm": "SLURM_JOB_ID", "pbs": "PBS_JOBID", "lsf": "LSB_JOBID", "sge": "JOB_ID"}

# A job whose number the scheduler knows in one of these states has a process.
_RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED"}

_TARGET = re.compile(rf"\b({'|'.join(Kind)}|publish):(?:key|mark)=([0-9a-f-]+)")


@dataclass(frozen=True)
class ClusterJob:
    """A job of a scheduler."""

    scheduler: str
    number: str


@dataclass(frozen=True)
class QueuedJob:
    """A SLURM job of a workflow, and what it is to make, as "step/<key>" or "publish/<mark>"."""

    number: str
    state: str
    targets: tuple[str, ...]


def this_job(environment: Mapping[str, str] = os.environ) -> ClusterJob | None:
    """The cluster job that this process is part of; None outside a cluster."""
    for scheduler, variable in _JOB_VARIABLES.items():
        if number := environment.get(variable):
            return ClusterJob(scheduler, number)
    return None


def this_slurm_job() -> str | None:
    """The number of the SLURM job that this process is part of; None elsewhere."""
    job = this_job()
    return job.number if job is not None and job.scheduler == "slurm" else None


def is_over(job: ClusterJob) -> bool:
    """Whether the scheduler says that ``job`` runs no more; False where that cannot be found
    out.
    """
    if job.scheduler != "slurm":
        return False
    states = _ask("squeue", "--noheader", "--jobs", job.number, "--states", "all", "--format", "%T")
    return states is not None and not _RUNNING & set(states)


def slurm_jobs(checkout: Path) -> list[QueuedJob]:
    """My SLURM jobs that a snakemake in ``checkout`` submitted and that have not ended; none
    without SLURM.
    """
    found = []
    for line in _ask("squeue", "--me", "--noheader", "--format", "%i|%T|%Z") or []:
        number, state, folder = line.split("|", 2)
        script = (
            _ask("scontrol", "write", "batch_script", number, "-")
            if Path(folder) == checkout
            else None
        )
        # The targets are in the script: a job of a group names no keys anywhere else.
        if script and "snakemake" in "".join(script):
            targets = (f"{rule}/{mark}" for rule, mark in _TARGET.findall("\n".join(script)))
            found.append(QueuedJob(number, state, tuple(dict.fromkeys(targets))))
    return found


def cancel_slurm_jobs(jobs: Sequence[QueuedJob]) -> None:
    """Cancel jobs: those that run get SIGTERM and save, then end."""
    if jobs:
        _ask("scancel", *(job.number for job in jobs))


def _ask(*command: str) -> list[str] | None:
    """The lines that one of SLURM's commands prints; none of a job that it has forgotten; None
    without an answer.
    """
    if not shutil.which(command[0]):
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_QUERY_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return [] if "Invalid job id" in done.stderr else None
    return [line for line in done.stdout.splitlines() if line.strip()]
