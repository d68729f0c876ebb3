"""Model and data cards in Markdown (Mitchell et al. 2019, arXiv:1810.03993; Gebru et al. 2021,
arXiv:1803.09010).

They belong to the summary, whose key holds all that they say: the same nodes give the same bytes.
So neither commit nor wall time is in them; `kaizen explain` prints those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaizen import files
from kaizen.data.found import Found
from kaizen.data.names import CHECKPOINT, FACTS_FILE, TASKS_FILE
from kaizen.data.sources.base import PARTS
from kaizen.evaluation.results import Reference, RunResult
from kaizen.params.typed import from_dict
from kaizen.plan.job import Job
from kaizen.plan.roles import SHARDS, shards_role
from kaizen.plan.specs import SummarySpec
from kaizen.report.data_card import data_card
from kaizen.report.model_card import FinishedRun, model_card
from kaizen.report.model_folders import FOLDER, write_model_folders
from kaizen.store.node_id import NodeId
from kaizen.store.store import Store
from kaizen.training.facts import read_facts

DATA_CARD = "data.md"


def write_cards(
    job: Job[SummarySpec],
    store: Store,
    runs: Sequence[RunResult],
    references: Sequence[Reference],
    out: Path,
) -> None:
    """Write data.md and a card per run, <run>.md, into the folder ``out``; and beside it what
    belongs into the folders of models.

    ``runs`` and ``references`` are the summary's results in the order of its specification. Raises
    KaizenError where a record, a checkpoint or the list of tasks is missing or does not match its
    recorded hash.
    """
    spec, inputs = job.spec, job.inputs
    stream, found = read_tasks(spec, inputs, store)
    write_model_folders(job, store, runs, stream, out.parent / FOLDER)
    files.write_text(out / DATA_CARD, data_card(spec, stream, found))
    by_reference = {(reference.method, reference.seed): reference for reference in references}
    for entry, run in zip(spec.runs, runs, strict=True):
        steps = [store.read_record(inputs[role]) for role in entry.steps]
        finished = FinishedRun(
            entry=entry,
            result=run,
            reference=by_reference.get((run.point.method, run.point.seed)),
            steps=steps,
            facts=[read_facts(store.open_file(step.id, FACTS_FILE)) for step in steps],
            checkpoint=store.open_file(steps[-1].id, CHECKPOINT),
            evaluation=store.read_record(inputs[entry.evaluations[-1]]),
            deploy=spec.deploy or "classifier",
        )
        files.write_text(out / f"{entry.name}.md", model_card(finished, stream))


def read_tasks(
    spec: SummarySpec, inputs: Mapping[str, NodeId], store: Store
) -> tuple[dict[str, Any], Found]:
    """What tasks.json holds, and what was found in the raw data; of a stream that grows, of all its
    arrivals together, with `held_out` in the entry of each task of which a share was held out.
    """
    if SHARDS in inputs:
        content: dict[str, Any] = files.read_json(store.open_file(inputs[SHARDS], TASKS_FILE))
        return content, spec.found
    given_up = {"rows": 0, "labelled": 0, "skipped": 0}
    parts = [
        files.read_json(store.open_file(inputs[shards_role(task)], TASKS_FILE))
        for task in range(len(spec.tasks))
    ]
    # Of a task that was retired its node holds the test shard only.
    tasks = [{"train": given_up} | part["tasks"][0] for part in parts]
    for task, part in zip(tasks, parts, strict=True):
        if "held_out" in part:
            task["held_out"] = part["held_out"]
    found = {
        "skipped": {name: [x for part in parts for x in part["skipped"][name]] for name in PARTS},
        "copies": [entry for part in parts for entry in part["copies"]],
    }
    return dict(parts[-1]) | {"tasks": tasks}, from_dict(Found, found)
