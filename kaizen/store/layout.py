"""Which nodes a plan has, and where in a checkout their files are published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kaizen.store.node_id import NodeId

MANIFEST = "results/manifest.json"
# How each node was made. Apart from the manifest, as it differs from run to run.
PROVENANCE = "results/provenance.json"
METRICS = "results/metrics.json"

# Folders that publishing owns: a file in them that the plan does not name is removed.
MANAGED = (
    "data/shards",
    "data/replay",
    "results/models",
    "results/evaluations",
    "results/summary",
)


@dataclass(frozen=True)
class Layout:
    """A plan as the store knows it.

    ``folders``: readable folder -> the node whose files are published there. ``second_places``:
    further path -> a node, and the name of its file that is published there too. ``nodes`` are all
    nodes of the plan, in an order in which they can be made.
    """

    plan: str
    nodes: tuple[NodeId, ...]
    folders: Mapping[str, NodeId]
    second_places: Mapping[str, tuple[NodeId, str]]
