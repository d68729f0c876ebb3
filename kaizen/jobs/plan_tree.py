"""`kaizen plan` as a tree on the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kaizen.files import counted
from kaizen.store.node_id import Kind

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from kaizen.jobs.workflow import Workflow
    from kaizen.plan.nodes import Node, Run
    from kaizen.plan.specs import Spec


def print_plan(workflow: Workflow) -> None:
    """Print every run with its nodes: done or to run, and by how many runs a node is shared."""
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    from kaizen.plan.stream_nodes import lacks

    plan = workflow.plan
    console = Console()
    tree = Tree(Text(f"plan {plan.key[:12]}, store {workflow.store.root}"))

    def label(node: Node[Spec]) -> Text:
        done = workflow.done(node)
        text = Text("✓ " if done else "○ ", style="green" if done else "yellow")
        text.append(node.title, style="" if done else "bold")
        if lacks(node):
            text.append("  made from retired data" if done else "  retired data", style="magenta")
        users = len(plan.users(node.key))
        text.append(f"  {node.kind} {node.key[:12]}", style="dim")
        if users > 1:
            text.append(f"  shared by {users} runs", style="cyan")
        return text

    for node in plan.shards:
        tree.add(label(node))
    for run in plan.runs:
        _add_run(tree.add(Text(run.name, style="bold")), run, label)
    for reference in plan.references:
        branch = tree.add(Text(reference.name, style="bold"))
        for step in reference.steps:
            branch.add(label(step))
        branch.add(label(reference.evaluation))
    tree.add(label(plan.summary))
    console.print(tree)
    console.print(_totals(workflow), highlight=False, soft_wrap=True)


def _add_run(branch: Tree, run: Run, label: Callable[[Node[Any]], Text]) -> None:
    """Add a run's steps, each with its replay shard below it, its heads and evaluations."""
    replays = {node.spec.task: node for node in run.replays}
    for task, step in enumerate(run.steps):
        leaf = branch.add(label(step))
        if task in replays:
            leaf.add(label(replays[task]))
    for head in run.heads:
        branch.add(label(head))
    for evaluation in run.evaluations:
        branch.add(label(evaluation))


def _totals(workflow: Workflow) -> str:
    """One line: how many nodes there are, done and to run, and how many uses the steps serve."""
    plan, missing = workflow.plan, workflow.missing()
    uses = sum(len(run.steps) for run in plan.runs) + sum(len(ref.steps) for ref in plan.references)
    steps = sum(node.kind is Kind.STEP for node in plan.nodes.values())
    served = f"serve{'s' if steps == 1 else ''} {counted(uses, 'use')}"
    return (
        f"{counted(len(plan.nodes), 'node')}: {len(plan.nodes) - len(missing)} done, "
        f"{len(missing)} to run (✓ done, ○ to run); {counted(steps, 'training step')} {served}"
    )
