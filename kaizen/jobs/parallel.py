"""Several nodes at a time on this machine, without Snakemake: `kaizen run -j N`.

A server process imports what jobs need, torch among it, and computes nothing; each node is made in
a process that is forked from it, which saves the seconds of these imports. Nothing that does not
survive a fork is ever in the server: it starts no thread and touches no GPU. Where jobs compute on
a GPU each gets a fresh process. What a job does is what `kaizen run` does in its one process, and
so are its bytes.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from pathlib import Path
from types import FrameType
from typing import Any

from kaizen.errors import Interrupted, KaizenError, NodeFailed
from kaizen.files import canonical_json, parse_json
from kaizen.jobs.foresight import sees_gpu
from kaizen.jobs.launch import ERRORS, error_facts
from kaizen.jobs.make import run_job
from kaizen.jobs.stop import StopRequest
from kaizen.plan.job import Job, read_job
from kaizen.plan.specs import EvaluationSpec, ReplaySpec, Spec, StepSpec
from kaizen.store.node_id import NodeId
from kaizen.store.store import Store
from kaizen.training.reporter import reporter

# More processes would take the machine down before they gained anything.
MOST = 256
_STOPPING = (signal.SIGTERM, signal.SIGINT)
# What the server imports; what is not installed is left to the job that needs it.
PRELOADED = ("kaizen.jobs.parallel", "kaizen.jobs.preloaded")
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class _Running:
    """A job that is being made: its process, and where it reports how it ended."""

    job: Job[Any]
    process: Any
    ended: connection.Connection


def log_of(job: Job[Any]) -> Path:
    """Where a job's log lies, in the checkout."""
    return Path("logs") / job.id.kind / f"{job.id.key}.log"


def run_side_by_side(
    jobs: Sequence[Job[Any]], store: Store, count: int, quiet: bool = False
) -> None:
    """Make those of ``jobs`` that the store lacks, up to ``count`` at a time; they come in an order
    in which they can be made. They report to their logs, and to stderr unless ``quiet``.

    SIGTERM and SIGINT are passed on, so that steps save. After a failure what runs is finished, and
    nothing new begun. Raises what the first job that failed did, Interrupted where it was stopped.
    """
    finished = store.finished(job.id for job in jobs)
    waiting = most_urgent_first([job for job in jobs if job.id not in finished])
    context: Any = multiprocessing.get_context(
        "spawn" if use_a_gpu(job.spec for job in waiting) else "forkserver"
    )
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(list(PRELOADED))
    # It unblocks the signals where it starts its own process, so not within `_start`.
    resource_tracker.ensure_running()
    running: list[_Running] = []
    errors: list[BaseException] = []
    with _signals_to(running) as stopped:
        while True:
            blocked = {job.id for job in waiting} | {one.job.id for one in running}
            ready = [job for job in waiting if blocked.isdisjoint(job.inputs.values())]
            for job in ready[: count - len(running)]:
                if not errors and not stopped():
                    waiting.remove(job)
                    _start(context, job, store, running, quiet)
            if not running:
                break
            _collect(running, errors)
    if errors:
        raise errors[0]
    if stopped():
        raise Interrupted("stopped between two nodes; the same command goes on")


def most_urgent_first(jobs: Sequence[Job[Any]]) -> list[Job[Any]]:
    """The jobs, first those that the longest chains of others wait for; equal ones as they come.

    That keeps all processes busy to the end, where a run's steps have to follow each other.
    """
    height = heights(jobs)
    return sorted(jobs, key=lambda job: -height[job.id])


def heights(jobs: Sequence[Job[Any]]) -> dict[NodeId, int]:
    """How many others follow each of ``jobs``, one after the other, on the longest chain of them;
    the jobs come in an order in which they can be made.
    """
    height = {job.id: 0 for job in jobs}
    for job in reversed(jobs):
        for parent in job.inputs.values():
            if parent in height:
                height[parent] = max(height[parent], height[job.id] + 1)
    return height


def use_a_gpu(specs: Iterable[Spec]) -> bool:
    """Whether some of the nodes may be computed on a GPU of this machine."""
    compute = (s.compute for s in specs if isinstance(s, StepSpec | ReplaySpec | EvaluationSpec))
    return sees_gpu() and any(one is not None and one.device != "cpu" for one in compute)


def _start(context: Any, job: Job[Any], store: Store, running: list[_Running], quiet: bool) -> None:
    """Start a job's process, and add it to those that signals are passed on to."""
    ended, end = context.Pipe(duplex=False)
    text = canonical_json(job.to_json())
    arguments = (text, str(store.root), end, quiet)
    process = context.Process(target=_make, args=arguments, name=str(job.id))
    # Blocked here, a signal comes once the process is among those that it is passed on to. Server
    # and process begin so too: it is delivered to the process as soon as that listens, and never to
    # the server.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        process.start()
        running.append(_Running(job, process, ended))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        end.close()


def _collect(running: list[_Running], errors: list[BaseException]) -> None:
    """Wait until a job ends, or a moment, and take away those that ended."""
    connection.wait([one.process.sentinel for one in running], timeout=_SECONDS_BETWEEN_LOOKS)
    for one in [one for one in running if one.process.exitcode is not None]:
        running.remove(one)
        one.process.join()
        if error := _error_of(one):
            errors.append(error)
        one.ended.close()


def _error_of(one: _Running) -> BaseException | None:
    """What a job that ended was ended by; None where it made its node."""
    code = one.process.exitcode
    with contextlib.suppress(EOFError, OSError):
        if one.ended.poll():
            name, arguments = parse_json(one.ended.recv_bytes().decode())
            return ERRORS[name](*arguments)
    if code == 0:
        return None
    if code < 0:
        return NodeFailed(
            f"{one.job.title}: its process was killed by signal {-code}; for lack of memory? the "
            f"same command goes on; {log_of(one.job)} has what it reported"
        )
    return NodeFailed(f"{one.job.title}: its process ended with exit code {code}, see above")


@contextlib.contextmanager
def _signals_to(running: list[_Running]) -> Iterator[Callable[[], bool]]:
    """Pass SIGTERM and SIGINT on to what runs; yields whether one came.

    A job gets SIGTERM for the first one, and SIGINT for Ctrl-C pressed again, which does not wait
    for a step to save (`kaizen.jobs.stop`).
    """
    came = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal came
        passed = signal.SIGINT if came and number == signal.SIGINT else signal.SIGTERM
        if came and passed == signal.SIGTERM:
            return
        came = True
        for one in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.process.pid, passed)

    before = {number: signal.signal(number, handle) for number in _STOPPING}
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _send(end: connection.Connection, facts: Sequence[Any]) -> None:
    """Tell the parent what a job was ended by, where there still is one."""
    with contextlib.suppress(OSError):
        end.send_bytes(json.dumps(facts).encode())


def _make(text: str, root: str, end: connection.Connection, quiet: bool) -> None:
    """In a process of its own: make the node whose specification is ``text``; ends the process."""
    # A terminal's Ctrl-C comes to the parent alone, which passes it on.
    os.setsid()
    request = StopRequest()
    parent = multiprocessing.parent_process()

    def stop() -> bool:
        # Nobody waits for this node any more where the parent was killed.
        return request() or (parent is not None and not parent.is_alive())

    code = 1
    try:
        job: Job[Any] = read_job(json.loads(text), "the job")
        request.now_making(job.id.kind)
        request.listen()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        with reporter(job.title, log_of(job), None if quiet else sys.stderr) as progress:
            try:
                made = run_job(job, Store(Path(root)), progress, stop)
                progress.note("done" if made else "was done already")
            except KaizenError as error:
                progress.note(str(error))
                raise
        code = 0
    except (KaizenError, OSError, MemoryError) as error:
        code = getattr(error, "exit_code", 2 if isinstance(error, OSError) else 1)
        _send(end, error_facts(error))
    except KeyboardInterrupt:
        code = 130
        _send(end, ["KeyboardInterrupt", []])
    except Exception:
        traceback.print_exc()
    sys.stderr.flush()
    end.close()
    # Not `sys.exit`: what the server registered for its own end is not this process's.
    os._exit(code)
