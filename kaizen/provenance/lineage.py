"""What a node was made from, down to the data."""

from __future__ import annotations

from typing import Any

from kaizen.plan import roles
from kaizen.provenance.known import Known, KnownNode, read_of_shards
from kaizen.store.node_id import Kind, NodeId


class Lineage:
    """A node and all that it was made from, parents before their children.

    ``lost`` are those of which nothing is known. ``instead`` are shards with the same content that
    stand in for lost ones: lost -> known. After classes were appended, the first tasks' steps are
    still those that were made from shards which have been collected since.
    """

    def __init__(self, node: KnownNode, known: Known) -> None:
        """Follow the inputs of the records down to the data."""
        self.nodes: dict[str, KnownNode] = {}
        self.lost: list[str] = []
        self.instead: dict[NodeId, NodeId] = {}
        # Shards that are gone for good -> what is known of their content by those that read them;
        # None: which they were is not known either.
        self.gone: dict[NodeId | None, dict[str, str]] = {}
        self._known = known
        self._shown: set[str] = set()
        node = self._with_shards(node)
        self.tree = self._parents(node)
        self.nodes[node.id.key] = node

    def _with_shards(self, node: KnownNode) -> KnownNode:
        """A node, with others of the same content where its shards are lost."""
        read = read_of_shards(node.record, roles.SHARDS)
        if not read:
            return node
        shards = dict(node.shards)
        for role in node.shards or [roles.SHARDS]:
            named = node.shards.get(role)
            if named is not None and self._known.node(named) is not None:
                continue
            found = self._known.same_shards(node, role)
            if found is None:
                self.gone.setdefault(named, {}).update(read_of_shards(node.record, role))
                continue
            shards[role] = found
            if named is not None:
                self.instead[named] = found
        return node.with_shards(shards)

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
        parent = self._with_shards(parent)
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
        lost = len(self.lost) + (None in self.gone)
        unknown = sum(time is None for time in times) + lost
        return {
            "seconds": sum(time or 0.0 for time in times),
            "nodes": len(times) + lost,
            "unknown": unknown,
        }


def _inputs(node: KnownNode) -> list[tuple[str, NodeId]]:
    """A record's inputs, those that others are made from (the shards) last."""
    inputs = node.inputs.items()
    return sorted(inputs, key=lambda item: (item[1].kind is Kind.SHARDS, item[0]))
