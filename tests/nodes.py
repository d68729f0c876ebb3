"""Two steps of a plan, and files to finish one with."""

from __future__ import annotations

from conftest import make_plan

from kaizen.plan.nodes import Node
from kaizen.plan.specs import Spec
from kaizen.store.node_id import NodeId

PLAN = make_plan()
NODE = PLAN.runs[0].steps[0]
OTHER = PLAN.runs[0].steps[1]
FILES = {"model.safetensors": "weights", "deep/er/history.csv": "epoch\n1\n"}


def needed(*nodes: Node[Spec]) -> set[NodeId]:
    return {node.id for node in nodes}
