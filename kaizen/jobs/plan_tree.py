"""`kaizen plan` as a tree on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaizen.files import counted
from kaizen.store.node_id import Kind

if TYPE_CHECKING:
    from kaizen.jobs.workflow import Workflow
    from kaizen.plan.nodes import Node
    from kaizen.plan.specs import Spec


def print_plan(workflow: Workflow) -> None:
    """Print every run with its nodes: done or to run, and by how many runs a node is shared."""
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    from kaizen.plan.stream_nodes import lacks

    plan = workflow.plan

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

    console = Console()
    tree = Tree(Text(f"plan {plan.key[:12]}, store {workflow.store.root}"))
    for shards in plan.shards:
        tree.add(label(shards))
    for run in plan.runs:
        branch = tree.add(Text(run.name, style="bold"))
        replays = {node.spec.task: node for node in run.replays}
        for task, step in enumerate(run.steps):
            leaf = branch.add(label(step))
            if task in replays:
                leaf.add(label(replays[task]))
        for evaluation in run.evaluations:
            branch.add(label(evaluation))
    for reference in plan.references:
        branch = tree.add(Text(reference.name, style="bold"))
        for step in reference.steps:
            branch.add(label(step))
        branch.add(label(reference.evaluation))
    tree.add(label(plan.summary))
    console.print(tree)
    missing = workflow.missing()
    uses = sum(len(run.steps) for run in plan.runs) + sum(len(ref.steps) for ref in plan.references)
    steps = sum(node.kind is Kind.STEP for node in plan.nodes.values())
    served = f"serve{'s' if steps == 1 else ''} {counted(uses, 'use')}"
    console.print(
        f"{counted(len(plan.nodes), 'node')}: {len(plan.nodes) - len(missing)} done, "
        f"{len(missing)} to run (✓ done, ○ to run); {counted(steps, 'training step')} {served}",
        highlight=False,
        soft_wrap=True,
    )
