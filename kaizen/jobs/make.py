"""Making one node: lock, check, build, commit."""

from __future__ import annotations

import contextlib
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

from kaizen import __version__
from kaizen.errors import Interrupted, KaizenError, NodeFailed
from kaizen.jobs.makers import MAKERS
from kaizen.plan.job import Job
from kaizen.provenance.origin import check_code, check_loaded, process_facts, with_versions
from kaizen.store.locks import NodeLock, Watch
from kaizen.store.node_id import Kind
from kaizen.store.store import Store
from kaizen.training.boards import open_board
from kaizen.training.reporter import Reporter, readable_name
from kaizen.training.traces import Board, Traces

_LACKS_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "can't start new thread",
)
_LESS_MEMORY = {
    Kind.SHARDS: "lower runtime.ingest_workers or dataset.row_group_mb",
    Kind.REPLAY: "lower dataset.row_group_mb",
    Kind.STEP: "lower train.stream_above_mb or train.batch_size",
    Kind.HEAD: "lower heads.random_features, or set heads.covariance: shared",
    Kind.EVALUATION: "lower evaluation.probe_fraction or evaluation.batch_size",
    Kind.REFERENCE: "lower evaluation.probe_fraction or evaluation.batch_size",
    Kind.SUMMARY: "free memory",
}


def run_job(
    job: Job[Any], store: Store, reporter: Reporter, stop: Callable[[], bool] = lambda: False
) -> bool:
    """Make the node that ``job`` describes unless it is finished; returns whether it was made.

    The node appears whole or not at all. Waits while another process makes it. Raises KaizenError
    (see its subclasses) when it cannot be made.
    """
    job = job.through_json()
    node = job.id
    with store.lock(node, reporter.alarm, stop, job.title) as lock:
        if store.has(node):
            return False
        traces = Traces(reporter, store.work_folder(node), _board_of(job))
        try:
            _build(job, store, traces, stop, lock)
        except Interrupted:
            raise
        except Exception as error:
            traces.failed(error)
            raise
        finally:
            traces.close()
        # The working state of a finished node.
        if (work := store.work_folder(node)).exists():
            shutil.rmtree(work, ignore_errors=True)
    return True


def _board_of(job: Job[Any]) -> Callable[[int], Board] | None:
    """What opens the place where the curves of a job also go; None where there is none."""
    kind = job.local.live
    if kind is None:
        return None
    name = f"{readable_name(job.title)}-{job.id.key[:8]}"
    return lambda first: open_board(kind, name, first)


def _build(
    job: Job[Any], store: Store, traces: Traces, stop: Callable[[], bool], lock: NodeLock
) -> None:
    """Check, build and commit a node whose lock is held."""
    node = job.id
    for role, parent in job.inputs.items():
        if not store.has(parent):
            raise KaizenError(
                f"{role} ({parent}) is not in {store.root}; run `snakemake` to make it"
            )
    check_code(job)
    job = with_versions(job)
    began = time.time()
    with store.building(node) as building:
        with _explain_lack_of_memory(node.kind):
            made = MAKERS[node.kind](job, store, building, traces, Watch(stop, lock))
        environment = made.environment | {
            "python": platform.python_version(),
            "kaizen": __version__,
        }
        times = {"began": began, "seconds": time.time() - began}
        check_loaded(job)
        lock.confirm()
        run_record = times | process_facts() | made.run_facts()
        store.commit(job.to_json(), building, environment, run_record)


@contextlib.contextmanager
def _explain_lack_of_memory(kind: Kind) -> Iterator[None]:
    """Turn every way in which Python, Arrow and torch lack memory into NodeFailed with the fix."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # Torch's own: OutOfMemoryError of a GPU, and a RuntimeError of the CPU's allocator.
        texts = (words in str(error) for words in _LACKS_MEMORY)
        if not isinstance(error, MemoryError) and not any(texts):
            raise
        # What read it named the image (kaizen.data.reading, kaizen.views.decode).
        at = f" (at {error})" if str(error).startswith("the image ") else ""
        raise NodeFailed(
            f"out of memory; {_LESS_MEMORY[kind]}, and run the same command again{at}"
        ) from error
