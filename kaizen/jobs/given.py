"""A job's specification in the store: written for the job, removed once its node is finished.

A file, as a command line may be too short for it, and as Snakemake prints the command of a job that
failed, twice. In the store, as the jobs of a cluster find that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kaizen.files import read_json
from kaizen.plan.job import Job, read_job
from kaizen.store.node_id import NodeId
from kaizen.store.store import Store


def spec_file(store: Path, node: NodeId) -> Path:
    """Where the specification of a node's job lies."""
    return store / ".specs" / f"{node.file_name}.json"


def read_given(store: Store, node: NodeId) -> Job[Any] | None:
    """The job of a node whose specification is in the store; None where that has none.

    Raises KaizenError where it is damaged.
    """
    path = spec_file(store.root, node)
    return read_job(read_json(path), str(path)) if path.exists() else None


def finished_by_another(store: Store, argument: str) -> NodeId | None:
    """The node of ``argument`` ("@" and `spec_file`), where another workflow that shares the store
    made it meanwhile, and so removed the file; None otherwise.
    """
    file = _given(store, argument)
    if file is None or file.exists():
        return None
    node = NodeId.from_file_name(file.stem)
    return node if node is not None and store.has(node) else None


def remove_spec(store: Store, argument: str) -> None:
    """Remove the file that ``argument`` names, if it is one of `spec_file`; others are the
    user's.
    """
    if file := _given(store, argument):
        file.unlink(missing_ok=True)


def _given(store: Store, argument: str) -> Path | None:
    file = Path(argument.removeprefix("@"))
    ours = argument.startswith("@") and file.parent == store.root / ".specs"
    return file if ours else None
