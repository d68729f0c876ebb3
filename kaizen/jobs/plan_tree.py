"""`kaizen plan` as a tree on the terminal."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kaizen.files import counted, printable
from kaizen.jobs.estimate import duration, work_left
from kaizen.jobs.reasons import Reasons
from kaizen.plan.memory import images_of_tasks, job_memory_mb
from kaizen.store.node_id import Kind, NodeId

if TYPE_CHECKING:
    from kaizen.jobs.workflow import Workflow
    from kaizen.plan.nodes import Node, Run, SpecialistSet
    from kaizen.plan.specs import Spec

# What stands before a line on a terminal or a page: (text, style) as `rich` knows styles.
Part = tuple[str, str]
# A line's parts, and the lines below it.
Branch = tuple[list[Part], list[Any]]


def print_plan(workflow: Workflow, at_once: int | None = None) -> None:
    """Print every run with its nodes: done or to run, why and how long that takes (all of it with
    so many ``at_once``), and by how many runs a node is shared.
    """
    from rich.console import Console
    from rich.segment import Segment, Segments
    from rich.style import Style

    style = functools.cache(Style.parse)
    segments = []
    left, seconds = work_left(workflow, at_once)
    finished = workflow.all_done()
    reasons = Reasons(workflow.store, finished)
    for parts in tree_lines(workflow, lambda node: _about(node, seconds, reasons)):
        segments += [Segment(printable(text), style(name)) for text, name in parts]
        segments.append(Segment.line())
    console = Console()
    # Not `rich.tree`, which measures and folds every line: a grid has thousands.
    console.print(Segments(segments), crop=False, end="")
    console.print(_totals(workflow), highlight=False, soft_wrap=True)
    if seconds:
        console.print(str(left), highlight=False, soft_wrap=True)


def _about(node: Node[Any], seconds: Mapping[NodeId, float | None], reasons: Reasons) -> list[Part]:
    """How long a node to make takes, and why it is to be made."""
    took, why = seconds.get(node.id), reasons.of(node)
    parts: list[Part] = []
    if took is not None:
        parts.append((f"  about {duration(took)}", "none"))
    if why:
        parts.append((f"  because: {why}", "yellow"))
    return parts


def tree_lines(
    workflow: Workflow, about: Callable[[Node[Any]], list[Part]] = lambda node: []
) -> Iterator[list[Part]]:
    """The lines of the plan's tree; ``about`` says more of a node that is to be made."""
    from kaizen.plan.stream_nodes import lacks

    plan = workflow.plan
    finished = workflow.all_done()

    def label(node: Node[Any]) -> list[Part]:
        done = node.id in finished
        parts = [("✓ ", "green") if done else ("○ ", "yellow")]
        parts.append((node.title, "none" if done else "bold"))
        if lacks(node):
            parts.append(("  made from retired data" if done else "  retired data", "magenta"))
        users = len(plan.users(node.key))
        parts.append((f"  {node.kind} {node.key[:12]}", "dim"))
        if users > 1:
            parts.append((f"  shared by {users} runs", "cyan"))
        return parts if done else parts + about(node)

    yield [(f"plan {plan.key[:12]}, store {workflow.store.root}", "none")]
    branches: list[Branch] = [(label(node), []) for node in plan.shards]
    branches += [_branch_of_run(run, label) for run in plan.runs]
    branches += [_branch_of_set(reference, label) for reference in plan.references]
    branches.append((label(plan.summary), []))
    yield from _drawn(branches, "")


def _drawn(branches: list[Branch], before: str) -> Iterator[list[Part]]:
    """The lines of branches that hang from one line, itself drawn after ``before``."""
    for number, (parts, below) in enumerate(branches, start=1):
        last = number == len(branches)
        yield [(before + ("└── " if last else "├── "), "none"), *parts]
        yield from _drawn(below, before + ("    " if last else "│   "))


def _branch_of_run(run: Run, label: Callable[[Node[Any]], list[Part]]) -> Branch:
    """A run's steps, each with what it replays below it, its heads and evaluations."""
    replays = {node.spec.task: node for node in run.replays}
    below: list[Branch] = []
    for task, step in enumerate(run.steps):
        replay: list[Branch] = [(label(replays[task]), [])] if task in replays else []
        replay += [(label(node), []) for node in run.statistics[task - 1 : task]] if task else []
        below.append((label(step), replay))
    results: list[Node[Any]] = [*run.heads, *run.evaluations]
    below += [(label(node), []) for node in results]
    return [(run.name, "bold")], below


def _branch_of_set(reference: SpecialistSet, label: Callable[[Node[Any]], list[Part]]) -> Branch:
    """The specialists of one method and seed, and their evaluation."""
    nodes: list[Node[Spec]] = [*reference.steps, reference.evaluation]
    return [(reference.name, "bold")], [(label(node), []) for node in nodes]


def _totals(workflow: Workflow) -> str:
    """One line: how many nodes there are, done and to run, and how many uses the steps serve."""
    plan, missing = workflow.plan, workflow.missing()
    uses = sum(len(run.steps) for run in plan.runs) + sum(len(ref.steps) for ref in plan.references)
    steps = sum(node.kind is Kind.STEP for node in plan.nodes.values())
    served = f"serve{'s' if steps == 1 else ''} {counted(uses, 'use')}"
    return (
        f"{counted(len(plan.nodes), 'node')}: {len(plan.nodes) - len(missing)} done, "
        f"{len(missing)} to run (✓ done, ○ to run); {counted(steps, 'training step')} {served}; "
        f"a step asks a cluster for up to {_largest_step(workflow)} MB"
    )


def _largest_step(workflow: Workflow) -> int:
    """The most memory that a step's job asks for, in MB."""
    plan, runtime = workflow.plan, workflow.params.runtime
    images = images_of_tasks(plan)
    steps = (node.spec for node in plan.nodes.values() if node.kind is Kind.STEP)
    return max(job_memory_mb(spec, runtime, images) for spec in steps)
