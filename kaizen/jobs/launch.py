"""A step that several processes share, as the job sees it: `torchrun` starts them, the job listens,
writes and answers.

The job itself computes nothing and imports no torch. It keeps the node's lock, passes on a request
to stop, replays what the first process reports, and commits what it wrote: `kaizen.jobs.worker` is
the other side.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import kaizen
from kaizen.errors import Interrupted, KaizenError, NodeFailed, Superseded
from kaizen.files import canonical_json
from kaizen.jobs.given import spec_file
from kaizen.params.typed import from_dict
from kaizen.plan.job import Job
from kaizen.plan.specs import StepSpec
from kaizen.store.arguments import as_argument
from kaizen.store.made import Made
from kaizen.store.scheduler import this_slurm_job
from kaizen.store.store import Store
from kaizen.training.reporter import EpochEnd, Reporter

# A stopped process may finish its batch and save before torchrun kills it; torchrun's own limit is
# 30 s.
_SECONDS_TO_SAVE = 120
_LAST_LINES = 25
# What a job's own process may end with, by name; anything else is a fault of the code and shows its
# traceback.
ERRORS: dict[str, type[BaseException]] = {
    kind.__name__: kind
    for kind in (
        KaizenError,
        NodeFailed,
        Interrupted,
        Superseded,
        OSError,
        MemoryError,
        KeyboardInterrupt,
    )
}


def error_facts(error: BaseException) -> tuple[str, list[Any]]:
    """The name of an error in `ERRORS`, and the arguments that make it again in another process."""
    kind = next(name for name, kind in reversed(ERRORS.items()) if isinstance(error, kind))
    if isinstance(error, OSError):
        return kind, [error.errno, error.strerror or str(error), error.filename]
    return kind, [str(error)]


def train_in_processes(
    job: Job[StepSpec],
    store: Store,
    building: Path,
    reporter: Reporter,
    stop: Callable[[], bool],
) -> Made:
    """As `kaizen.training.step.run_step`, by ``processes`` processes on each of ``hosts`` hosts,
    named in job's local.

    Raises what the first process raised, else what another did, with its number; NodeFailed where
    one died.
    """
    command = launch_command(job, store.root, building)
    errors: dict[int, BaseException] = {}
    result = None
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        with _started(command, job.spec.train.threads, stderr) as launcher:
            for rank, name, arguments in _messages(launcher, stop):
                if name == "result":
                    result = arguments
                elif name in ERRORS:
                    errors[rank] = _error(name, arguments, rank)
                elif name == "epoch":
                    reporter.epoch(EpochEnd(**arguments[0]))
                else:
                    getattr(reporter, name)(*arguments)
        if errors:
            raise errors[min(errors)]
        if result is None:
            stderr.seek(0)
            for line in stderr.read().splitlines()[-_LAST_LINES:]:
                reporter.note(line)
            raise NodeFailed(
                "a process of those that share the step died (torchrun ended with "
                f"{launcher.returncode}); the lines above are the last that they wrote; killed "
                "for lack of memory? the same command goes on from the last saved state"
            )
    (made,) = result
    return from_dict(Made, made)


def launch_command(job: Job[StepSpec], store: Path, building: Path) -> list[str]:
    """The command that starts the step's processes: `torchrun`, on several hosts once on each, by
    `srun`.

    Raises KaizenError where there are to be several hosts and this is no job of SLURM.
    """
    hosts, processes = job.local.hosts, job.local.processes
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    if hosts == 1:
        command.append("--standalone")
    else:
        slurm_job = this_slurm_job()
        if slurm_job is None:
            raise KaizenError(
                f"runtime.hosts: {hosts} hosts are asked for, but this is not a job of SLURM, "
                "and only SLURM can start processes on others; set it to 1, or run `snakemake "
                "--profile profiles/slurm`"
            )
        endpoint = f"{socket.gethostname()}:{20000 + int(slurm_job) % 20000}"
        cores = processes * job.spec.train.threads
        srun = f"srun --nodes {hosts} --ntasks-per-node 1 --cpus-per-task {cores}".split()
        command = [*srun, "--kill-on-bad-exit=1", *command]
        command += ["--nnodes", str(hosts), "--rdzv-backend", "c10d"]
        command += ["--rdzv-endpoint", endpoint, "--rdzv-id", slurm_job]
    return [
        *command,
        "--module",
        "kaizen.jobs.worker",
        as_argument(canonical_json(job.to_json()), spec_file(store, job.id)),
        str(store),
        str(building),
    ]


def die_with_parent() -> None:
    """Have Linux kill this process when its parent dies: nobody else would end it, and its lock is
    gone.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@contextlib.contextmanager
def _started(command: list[str], threads: int, stderr: IO[str]) -> Iterator[subprocess.Popen[str]]:
    """The running launcher, in a session of its own, so that a terminal's Ctrl-C comes to the job
    alone.
    """
    environment = {
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(_SECONDS_TO_SAVE),
        "OMP_NUM_THREADS": str(threads),
    } | os.environ
    code = str(Path(kaizen.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [code, environment.get("PYTHONPATH")]))
    launcher = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    try:
        yield launcher
        launcher.wait()
    finally:
        launcher.kill()
        launcher.wait()


def _messages(
    launcher: subprocess.Popen[str], stop: Callable[[], bool]
) -> Iterator[tuple[int, str, list[Any]]]:
    """What the workers report, as (rank, name, arguments), until all have ended; asks them to stop
    once ``stop()``.
    """
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def listen() -> None:
        if launcher.stdout is not None:
            # Closed by its only reader, when the last writer has ended.
            with launcher.stdout as output:
                for line in output:
                    lines.put(line)
        lines.put(None)

    threading.Thread(target=listen, daemon=True).start()
    asked = False
    while True:
        if stop() and not asked:
            launcher.terminate()
            asked = True
        try:
            line = lines.get(timeout=0.1)
        except queue.Empty:
            continue
        if line is None:
            return
        rank, name, arguments = json.loads(line)
        yield rank, name, arguments


def _error(name: str, arguments: list[Any], rank: int) -> BaseException:
    """The error that a worker ended with; the first worker speaks for all, any other is named."""
    kind = ERRORS[name]
    if rank and issubclass(kind, KaizenError):
        arguments = [f"process {rank} (from 0): {arguments[0]}"]
    return kind(*arguments)
