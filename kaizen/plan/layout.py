"""Where a plan's nodes are published: readable paths under data/ and results/."""

from __future__ import annotations

from kaizen.data.names import HEADS_FILE, PREPROCESSING_FILE, head_file
from kaizen.params.registry import TRAINED
from kaizen.plan.nodes import Plan, Run
from kaizen.plan.point import PROTOTYPES, size_word
from kaizen.plan.roles import step_role, step_roles
from kaizen.store.layout import METRICS, Layout
from kaizen.store.node_id import NodeId


def layout_of(plan: Plan) -> Layout:
    """The plan's nodes, and the paths of their files."""
    nodes = tuple(node.id for node in plan.nodes.values())
    return Layout(plan.key, nodes, _folders(plan), _second_places(plan))


def _folders(plan: Plan) -> dict[str, NodeId]:
    folders = {"results/summary": plan.summary.id}
    for task, shards in enumerate(plan.shards):
        # A closed dataset's are one node.
        folder = f"data/shards/task-{task:02d}" if plan.facts.arrivals else "data/shards"
        folders[folder] = shards.id
    for run in plan.runs:
        for task, step in enumerate(run.steps):
            folders[f"results/models/{run.name}/{step_role(task)}"] = step.id
        for task, evaluation in enumerate(run.evaluations):
            row = f"/{step_role(task)}" if plan.facts.arrivals else ""
            folders[f"results/evaluations/{run.name}{row}"] = evaluation.id
        for task, head in enumerate(run.heads):
            row = f"/{step_role(task)}" if plan.facts.arrivals else ""
            folders[f"results/heads/{run.name}{row}"] = head.id
        folders |= _replay_folders(run)
    for reference in plan.references:
        for task, step in enumerate(reference.steps):
            folders[f"results/models/{reference.name}/task-{task:02d}"] = step.id
        folders[f"results/evaluations/{reference.name}"] = reference.evaluation.id
    return folders


def _replay_folders(run: Run) -> dict[str, NodeId]:
    folders = {}
    size = size_word(run.point.replay_size or 0, run.point.replay_unit)
    for replay in run.replays:
        folder = f"data/replay/{replay.spec.policy}-{size}"
        if step_roles(replay.inputs):
            # Made with the models of this run's steps.
            folder += f"/{run.name}"
        folders[f"{folder}/{step_role(replay.spec.task)}"] = replay.id
    for task, statistics in enumerate(run.statistics, start=1):
        folders[f"data/replay/{PROTOTYPES}/{run.name}/{step_role(task)}"] = statistics.id
    return folders


def _second_places(plan: Plan) -> dict[str, tuple[NodeId, str]]:
    """Where people and tools look for files of the summary: cards next to what they describe."""
    summary = plan.summary.id
    places = {
        METRICS: (summary, "metrics.json"),
        "data/shards/README.md": (summary, "cards/data.md"),
    }
    for run in plan.runs:
        folder = f"results/models/{run.name}"
        places[f"{folder}/README.md"] = (summary, f"cards/{run.name}.md")
        for task in range(len(run.steps)):
            step = step_role(task)
            places[f"{folder}/{step}/README.md"] = (summary, f"models/{run.name}/{step}.md")
            places |= _input_place(plan, run.name, step)
            if plan.params.deploy.head != TRAINED:
                # The one that answers lies beside the model.
                head = run.heads[task] if len(run.heads) > 1 else run.heads[0]
                places[f"{folder}/{step}/{HEADS_FILE}"] = (head.id, head_file(task))
    for reference in plan.references:
        for task in range(len(reference.steps)):
            places |= _input_place(plan, reference.name, f"task-{task:02d}")
    return places


def _input_place(plan: Plan, run: str, folder: str) -> dict[str, tuple[NodeId, str]]:
    """Where a model has the summary's description of its input."""
    source = (plan.summary.id, f"models/{run}/{PREPROCESSING_FILE}")
    return {f"results/models/{run}/{folder}/{PREPROCESSING_FILE}": source}
