"""A plan whose nodes are finished with small text files, and its published tree."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import commit_fake, make_plan

from kaizen.files import read_json
from kaizen.plan.layout import layout_of
from kaizen.plan.nodes import Plan
from kaizen.store.publish import publish
from kaizen.store.store import Store

PLAN = make_plan(
    {"split.tasks": 2, "grid.variants": ["kaizen", "cassle"], "replay.proportion": [0.1, 0.5]}
)
STEP_1 = PLAN.runs[0].steps[1]
STEP_1_FOLDER = "results/models/simclr-kaizen-replay10pct-seed0/step-01"


def finish(plan: Plan, store: Store) -> None:
    """Put every node of a plan into a store."""
    for node in plan.nodes.values():
        if not store.has(node.id):
            metrics = (
                {"metrics.json": '{"a": 1}\n', "figures/bars.csv": "x,mean\n"}
                if node is plan.summary
                else None
            )
            commit_fake(store, node, metrics)


def finished_store(folder: Path) -> Store:
    """A store that holds all of the plan."""
    store = Store(folder)
    finish(PLAN, store)
    return store


def published_copies(store: Store, root: Path) -> Path:
    """A checkout with the plan published, as copies that may be written: so DVC may check them
    out.
    """
    publish(layout_of(PLAN), store, root)
    for path in root.rglob("*"):
        if path.is_file():
            rewrite(path, path.read_bytes())
    return root


def rewrite(path: Path, content: bytes | str) -> None:
    """Replace a file without touching what its inode is shared with."""
    path.unlink()
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a checkout but those of Kaizen's own working folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".kaizen" not in path.relative_to(folder).parts
    }


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    value = read_json(path)
    change(value)
    rewrite(path, json.dumps(value))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    rewrite(path, bytes(content))
