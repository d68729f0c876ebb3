"""Giving up an arrival's images, which must not be kept: the raw ones and its training shard go;
what was learnt from them, its test shard and the replay rows stay.
"""

from __future__ import annotations

import dataclasses
import fcntl
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kaizen.data.arrivals import STREAM_FILE, Arrival, ArrivalStream, read_stream, write_stream
from kaizen.data.names import TASKS_FILE, shard_file
from kaizen.errors import KaizenError
from kaizen.files import read_json, write_json
from kaizen.jobs.make import run_job
from kaizen.jobs.raw_data import arrival_dataset
from kaizen.jobs.raw_removal import raw_files, refuse_lasting, remove, write_down
from kaizen.jobs.workflow import Workflow
from kaizen.params import Params
from kaizen.params.registry import STREAM
from kaizen.plan.build import build_plan
from kaizen.plan.fingerprint import code_fingerprint
from kaizen.plan.nodes import Node, Plan
from kaizen.plan.specs import ReplaySpec, Spec
from kaizen.plan.stream_nodes import lacks, reads_training
from kaizen.provenance.origin import process_facts
from kaizen.store.garbage import Garbage, delete
from kaizen.store.node_id import Kind, NodeId
from kaizen.store.records import read_record
from kaizen.store.registrations import registrations, store_gate
from kaizen.store.store import Store
from kaizen.store.users import user_of
from kaizen.training.reporter import Reporter


@dataclass(frozen=True)
class Retirement:
    """What giving up an arrival means: the workflow that is left, replay shards that must be made
    before (``ahead``), and what goes: raw ``files`` of ``folder``, nodes (``gone``), the arrival's
    shards first, and its shards by other parameters or code (``others``).
    """

    task: int
    left: Workflow
    ahead: list[Node[Spec]]
    folder: Path
    files: list[Path]
    gone: list[Node[Spec]]
    others: list[NodeId]

    def removed(self) -> list[str]:
        """What goes, as lines for a person."""
        store = self.left.store
        lines = []
        if self.files:
            size = sum(path.lstat().st_size for path in self.files)
            folder = self.left.plan.facts.arrivals[self.task].path
            lines.append(f"{len(self.files)} files ({size / 1e6:.1f} MB) of {folder}")
        for node in self.gone:
            if store.has(node.id):
                lines.append(f"{node.title} ({store.folder(node.id)}) and where it is published")
        for other in self.others:
            lines.append(f"its shards by other parameters or code ({store.folder(other)})")
        return lines


def plan_retirement(params: Params, root: Path, name: str, replay: bool) -> Retirement:
    """Find what giving up the arrival ``name`` removes, with ``replay`` its rows in replay shards
    too; changes nothing.

    Raises KaizenError where there is no such arrival, all of it is gone already, or something that
    learns from it is not finished, or where images cannot be removed.
    """
    if params.dataset.source != STREAM:
        raise KaizenError(
            f"dataset.source: {params.dataset.source} is no stream that grows, so it has no "
            "arrival to retire; set dataset.source: stream"
        )
    workflow = Workflow.from_params(params, root)
    workflow.prepare_store()
    facts = workflow.plan.facts
    names = [arrival.name for arrival in facts.arrivals]
    if name not in names:
        known = ", ".join(names) or "none"
        raise KaizenError(f"no arrival is called {name!r}; {STREAM_FILE} has: {known}")
    task, now = names.index(name), len(names)
    arrival = facts.arrivals[task]
    rows_gone = (arrival.replay_retired or now) if replay else arrival.replay_retired

    def planned(retired: int | None, replay_retired: int | None, ahead: bool) -> Plan:
        changed = dataclasses.replace(arrival, retired=retired, replay_retired=replay_retired)
        arrivals = (*facts.arrivals[:task], changed, *facts.arrivals[task + 1 :])
        return build_plan(
            params, dataclasses.replace(facts, arrivals=arrivals), code_fingerprint, ahead=ahead
        )

    after = planned(arrival.retired or now, rows_gone, ahead=False)
    # With the training shard still there: what must be made from it before, and what goes.
    ahead = planned(None, rows_gone, ahead=True)
    before = planned(None, None, ahead=True)
    store = workflow.store
    missing = [
        node for key, node in ahead.nodes.items() if key in after.nodes and not store.has(node.id)
    ]
    made_before = [
        node for node in missing if isinstance(node.spec, ReplaySpec) and node.spec.task == now
    ]
    to_make = {node.key for node in made_before}
    open_nodes = [
        node for key, node in after.nodes.items() if key not in to_make and not store.has(node.id)
    ]
    needing = [node for node in open_nodes if reads_training(node, task) or lacks(node)]
    # The memory before may be one that goes, if it is still there.
    for node in made_before:
        parent = lacks(node)
        if parent is not None and not (parent.given_up and store.has(parent.id)):
            needing.append(node)
    for node in needing:
        raise KaizenError(
            f"arrival {name!r} is still needed: {node.title} is not finished; run `snakemake "
            "--cores all` first"
        )
    gone = [
        node
        for key, node in before.nodes.items()
        if key not in after.nodes
        and (node.kind is Kind.SHARDS or (node.kind is Kind.REPLAY and rows_gone is not None))
    ]
    if not store.has(after.shards[task].id) and not store.has(before.shards[task].id):
        raise KaizenError(f"arrival {name!r} has no shards yet; run `snakemake --cores all` first")
    left = dataclasses.replace(workflow, plan=after)
    left.__dict__.pop("layout", None)
    files = raw_files(params.dataset, arrival, facts.classes, root)
    refuse_lasting(files)
    folder = Path(arrival_dataset(params.dataset, arrival, root).path or "")
    others = _other_shards(store, arrival, {node.id for node in gone})
    found = Retirement(task, left, made_before, folder, files, gone, others)
    if arrival.retired is not None and arrival.replay_retired == rows_gone and not found.removed():
        raise KaizenError(f"arrival {name!r} was retired before; nothing of it is left to remove")
    return found


def retire(retirement: Retirement, reporter: Callable[[str], Reporter]) -> list[str]:
    """Do it; returns lines on what could not go. ``retirement.left`` is then to be published.

    Killed anywhere, the same command goes on: what is needed later is made first, the stream's file
    says so next, and removing comes last.
    """
    left = retirement.left
    for node in retirement.ahead:
        run_job(left.job(node), left.store, reporter(node.title))
    _keep_test_shard(left, retirement)
    stream = read_stream(left.root) or ArrivalStream("")
    arrival = left.plan.facts.arrivals[retirement.task]
    folder, files = retirement.folder, retirement.files
    if files:
        write_down(left.root, arrival, folder, files)
    write_stream(left.root, dataclasses.replace(stream, arrivals=left.plan.facts.arrivals))
    lines = remove(left.root, arrival, folder, files)
    left.register()
    lines += _remove_nodes(left, [*(node.id for node in retirement.gone), *retirement.others])
    # Cards say what was given up; then the tree can be published without the shard.
    missing = left.missing()
    for node in missing:
        if missing == [node] and node.kind is Kind.SUMMARY:
            run_job(left.job(node), left.store, reporter(node.title))
    return lines


def _other_shards(store: Store, arrival: Arrival, planned: set[NodeId]) -> list[NodeId]:
    """The nodes in the store that hold the arrival's training images too, beside those
    ``planned``: made by other parameters, or by an earlier version of the code.
    """
    images = {f"train/{label}": sha for label, sha in arrival.checksums("train").items()}
    found = []
    for node in store.entries():
        if node.kind is not Kind.SHARDS or node in planned:
            continue
        record = read_record(store.record_path(node))
        if record is not None and images.items() <= record.identities.items():
            found.append(node)
    return found


def _keep_test_shard(workflow: Workflow, retirement: Retirement) -> None:
    """Make the node that holds the arrival's test shard alone, from the one that holds both."""
    store, task = workflow.store, retirement.task
    node = workflow.plan.shards[task]
    began = time.time()
    with store.lock(node.id, title=node.title):
        if store.has(node.id):
            return
        test = shard_file(task, "test")
        whole = next(old.id for old in retirement.gone if old.kind is Kind.SHARDS)
        tasks = read_json(store.open_file(whole, TASKS_FILE))
        for entry in tasks["tasks"]:
            entry.pop("train", None)
        environment = dict(store.read_record(whole).environment)
        with store.building(node.id) as building:
            shutil.copyfile(store.open_file(whole, test), building / test)
            write_json(building / TASKS_FILE, tasks)
            made = {"began": began, "seconds": time.time() - began} | process_facts()
            store.commit(workflow.job(node).to_json(), building, environment, made)


def _remove_nodes(workflow: Workflow, nodes: list[NodeId]) -> list[str]:
    """Remove nodes from the store, unless another checkout needs them."""
    store = workflow.store
    here = user_of(store, workflow.root, workflow.plan.key, workflow.layout.nodes)
    lines = []
    with store_gate(store, fcntl.LOCK_EX):
        found = registrations(store, here)
        others = [user for _, user, _ in found.living if not user.is_of(here)]
        for node in nodes:
            needed_by = [str(user.checkout) for user in others if node in user.nodes]
            if needed_by or found.unreadable:
                who = ", ".join(needed_by) or "a checkout whose registration cannot be read"
                lines.append(
                    f"{store.folder(node)} is left: {who} needs it; retire the arrival there too, "
                    "then `kaizen gc --delete`"
                )
            else:
                delete([Garbage(store.folder(node), 0, 0.0)])
    return lines
