"""What a node was made from, down to the data."""

from __future__ import annotations

from typing import Any

from kaizen.provenance.known import Known, KnownNode
from kaizen.store.node_id import Kind, NodeId


class Lineage:
    """A node and all that it was made from, parents before their children."""

    def __init__(self, node: KnownNode, known: Known) -> None:
        """Follow the inputs of the records down to the data."""
        self.nodes: dict[str, KnownNode] = {}
        self.lost: list[str] = []
        self._known = known
        self._shown: set[str] = set()
        self.tree = self._parents(node)
        self.nodes[node.id.key] = node

    def _parents(self, node: KnownNode) -> list[dict[str, Any]]:
        """The tree below a node; the parents of one that was met before are not repeated."""
        return [self._entry(role, parent) for role, parent in _inputs(node)]

    def _entry(self, role: str, node: NodeId) -> dict[str, Any]:
        entry: dict[str, Any] = {"role": role, **node.to_json()}
        parent, key = self._known.node(node), node.key
        if parent is None:
            self.lost += [] if key in self._shown else [str(node)]
            self._shown.add(key)
            return entry | {
                "title": f"{node.kind} {key[:12]}",
                "seconds": None,
                "known": False,
                "parents": [],
            }
        again = key in self._shown
        self._shown.add(key)
        entry |= {
            "title": parent.title,
            "seconds": parent.seconds,
            "known": True,
            "repeated": again,
        }
        entry["parents"] = [] if again else self._parents(parent)
        self.nodes[key] = parent
        return entry

    def wall_time(self) -> dict[str, Any]:
        """The wall time of all nodes together, and of how many it is not known."""
        times = [node.seconds for node in self.nodes.values()]
        unknown = sum(time is None for time in times) + len(self.lost)
        return {
            "seconds": sum(time or 0.0 for time in times),
            "nodes": len(times) + len(self.lost),
            "unknown": unknown,
        }


def _inputs(node: KnownNode) -> list[tuple[str, NodeId]]:
    """A record's inputs, those that others are made from (the shards) last."""
    inputs = node.record.inputs.items()
    return sorted(inputs, key=lambda item: (item[1].kind is Kind.SHARDS, item[0]))
