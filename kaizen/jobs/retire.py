"""Giving up an arrival's images, which must not be kept: the raw ones and its training shard go;
what was learnt from them, its test shard and the replay rows stay.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kaizen.data.arrivals import STREAM_FILE, ArrivalStream, read_stream, write_stream
from kaizen.data.names import TASKS_FILE, shard_file
from kaizen.data.sources.arrival import Arrival
from kaizen.data.sources.base import PARTS
from kaizen.data.sources.labels_file import LABELS_FILE
from kaizen.errors import KaizenError
from kaizen.files import explain_write_errors, read_json, write_json
from kaizen.jobs.make import run_job
from kaizen.jobs.raw_data import arrival_dataset
from kaizen.jobs.workflow import Workflow
from kaizen.params import DatasetParams, Params
from kaizen.plan.build import build_plan
from kaizen.plan.fingerprint import code_fingerprint
from kaizen.plan.nodes import Node
from kaizen.plan.specs import ShardsSpec, Spec
from kaizen.plan.stream_nodes import reads_training
from kaizen.provenance.origin import process_facts
from kaizen.store.garbage import Garbage, delete
from kaizen.store.node_id import Kind
from kaizen.store.store import Store
from kaizen.store.users import registrations, store_gate, user_of
from kaizen.training.reporter import Reporter


@dataclass(frozen=True)
class Retirement:
    """What giving up an arrival means: ``removed`` and ``kept`` are lines for a person; ``shards``
    is the node that goes, ``ahead`` are replay shards that must be made before.
    """

    task: int
    shards: Node[ShardsSpec]
    ahead: list[Node[Spec]]
    files: list[Path]
    removed: list[str]
    kept: list[str]


def plan_retirement(params: Params, root: Path, name: str) -> tuple[Workflow, Retirement]:
    """Find what giving up the arrival ``name`` removes; changes nothing.

    Raises KaizenError where there is no such arrival, it was given up before, or something that
    learns from it is not finished.
    """
    workflow = Workflow.from_params(params, root)
    workflow.prepare_store()
    arrivals = workflow.plan.facts.arrivals
    names = [arrival.name for arrival in arrivals]
    if name not in names:
        known = ", ".join(names) or "none"
        raise KaizenError(f"no arrival is called {name!r}; {STREAM_FILE} has: {known}")
    task = names.index(name)
    if arrivals[task].retired is not None:
        raise KaizenError(f"arrival {name!r} was retired before")
    shards = workflow.plan.shards[task]
    for node in workflow.missing():
        if node is shards or reads_training(node, task):
            raise KaizenError(
                f"arrival {name!r} is still needed: {node.title} is not finished; run `snakemake "
                "--cores all` first"
            )
    planned = workflow.plan
    ahead: list[Node[Spec]] = []
    if task == len(arrivals) - 1:
        # The memory of the step to come, which its training shard decides.
        plan = build_plan(params, planned.facts, code_fingerprint, ahead=True)
        ahead = [node for key, node in plan.nodes.items() if key not in planned.nodes]
    dataset = arrival_dataset(params.dataset, arrivals[task], root)
    files = _raw_files(dataset)
    size = sum(path.stat().st_size for path in files)
    train = workflow.store.folder(shards.id) / shard_file(task, "train")
    removed = [f"{len(files)} files ({size / 1e6:.1f} MB) of {dataset.path}"] if files else []
    removed.append(f"{train} ({train.stat().st_size / 1e6:.1f} MB) and where it is published")
    kept = ["its test shard, the models that learnt from it, and its rows in replay shards"]
    return workflow, Retirement(task, shards, ahead, files, removed, kept)


def retire(
    workflow: Workflow, retirement: Retirement, reporter: Callable[[str], Reporter]
) -> tuple[Workflow, list[str]]:
    """Do it; returns the workflow that is left, to be published, and lines on what could not go.

    Killed anywhere, the same command goes on: what is needed later is made first, the stream's file
    says so next, and removing comes last.
    """
    root, store, params = workflow.root, workflow.store, workflow.params
    for node in retirement.ahead:
        run_job(workflow.job(node), store, reporter(node.title))
    stream = read_stream(root) or ArrivalStream("")
    arrivals = list(stream.arrivals)
    arrivals[retirement.task] = dataclasses.replace(
        arrivals[retirement.task], retired=len(arrivals)
    )
    facts = dataclasses.replace(workflow.plan.facts, arrivals=tuple(arrivals))
    plan = build_plan(params, facts, code_fingerprint)
    left = dataclasses.replace(workflow, plan=plan)
    left.__dict__.pop("layout", None)
    _keep_test_shard(left, retirement)
    write_stream(root, dataclasses.replace(stream, arrivals=tuple(arrivals)))
    told = _remove_raw(retirement.files)
    left.register()
    told += _remove_shards(left, store, retirement)
    # Cards say what was given up; then the tree can be published without the shard.
    for node in left.missing():
        if node.kind is Kind.SUMMARY:
            run_job(left.job(node), store, reporter(node.title))
    return left, told


def _raw_files(dataset: DatasetParams) -> list[Path]:
    """The images of an arrival that are there, and its list of labels; nothing else."""
    if dataset.path is None or not Path(dataset.path).exists():
        return []
    source = Arrival(dataset)
    files = [source.root / row.path for part in PARTS for row in source.rows(part)]
    labels = source.root / LABELS_FILE
    return [*files, *([labels] if labels.is_file() else [])]


def _keep_test_shard(workflow: Workflow, retirement: Retirement) -> None:
    """Make the node that holds the arrival's test shard alone, from the one that holds both."""
    store, task = workflow.store, retirement.task
    node = workflow.plan.shards[task]
    began = time.time()
    with store.lock(node.id, title=node.title):
        if store.has(node.id):
            return
        test = shard_file(task, "test")
        tasks = read_json(store.open_file(retirement.shards.id, TASKS_FILE))
        for entry in tasks["tasks"]:
            entry.pop("train", None)
        environment = dict(store.read_record(retirement.shards.id).environment)
        with store.building(node.id) as building:
            shutil.copyfile(store.open_file(retirement.shards.id, test), building / test)
            write_json(building / TASKS_FILE, tasks)
            made = {"began": began, "seconds": time.time() - began} | process_facts()
            store.commit(workflow.job(node).to_json(), building, environment, made)


def _remove_raw(files: list[Path]) -> list[str]:
    """Remove the images, and the folders that this leaves empty; others' files stay."""
    folders = {path.parent for path in files}
    for path in files:
        with explain_write_errors(path):
            path.unlink(missing_ok=True)
    for folder in sorted(folders, key=lambda each: len(each.parts), reverse=True):
        with contextlib.suppress(OSError):
            for place in (folder, *folder.parents):
                place.rmdir()
    return [f"{folder} is not empty and was left" for folder in sorted(folders) if folder.exists()]


def _remove_shards(workflow: Workflow, store: Store, retirement: Retirement) -> list[str]:
    """Remove the node with the training shard, unless another checkout needs it."""
    node = retirement.shards.id
    here = user_of(store, workflow.root, workflow.plan.key, workflow.layout.nodes)
    with store_gate(store, fcntl.LOCK_EX):
        found = registrations(store, here)
        others = [
            user.checkout
            for _, user, _ in found.living
            if node in user.nodes and not user.is_of(here)
        ]
        if others or found.unreadable:
            who = ", ".join(map(str, others)) or "a checkout whose registration cannot be read"
            return [
                f"{store.folder(node)} is left: {who} needs it; retire the arrival there too, then "
                "`kaizen gc --delete`"
            ]
        delete([Garbage(store.folder(node), 0, 0.0)])
    return []
