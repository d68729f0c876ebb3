"""What a node was made from as a tree for people, and times in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.tree import Tree


def lineage_tree(found: Mapping[str, Any]) -> Tree:
    """What the node that `explain` found was made from, each one's own parents below it once."""
    from rich.text import Text
    from rich.tree import Tree

    def add(branch: Tree, entries: Sequence[Mapping[str, Any]], top: bool) -> None:
        for entry in entries:
            # All read the shards, and a summary also the steps of what it sums up: once is enough.
            if entry.get("repeated") and (top or entry["kind"] == "shards"):
                continue
            time = duration(entry["seconds"]) if entry["seconds"] is not None else "unknown time"
            if not entry["known"]:
                time = "not here (`dvc pull`?)"
            above = ", see above" if entry.get("repeated") else ""
            text = Text.assemble(
                entry["title"], (f"  {entry['kind']}/{entry['key'][:12]}  {time}{above}", "dim")
            )
            add(branch.add(text), entry["parents"], False)

    made = found["made"] or {}
    own = "unknown time" if made.get("seconds") is None else duration(made["seconds"])
    tree = Tree(Text.assemble(found["title"], (f"  {own}", "dim")), guide_style="dim")
    add(tree, found["parents"], True)
    return tree


def total(wall: Mapping[str, Any]) -> str:
    """The ``wall_time`` of what `explain` found, in words."""
    nodes = "1 node" if wall["nodes"] == 1 else f"{wall['nodes']} nodes"
    unknown = f", without {wall['unknown']} whose time is not known" if wall["unknown"] else ""
    return f"{duration(wall['seconds'])} of wall time in {nodes}{unknown}"


def duration(seconds: float) -> str:
    """A time for people: "3.2 s", "4 min 05 s" or "2 h 10 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
