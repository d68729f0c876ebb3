"""SIGKILL at random moments: what was finished stays, what is there is whole, and the end is as if
nothing had been.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from project import TELL_OF_TIMES, Project

from faults.table import of_kind
from faults.warm import Warm
from kaizen.files import sha256_file
from kaizen.store.node_id import NodeId


def published(project: Project) -> dict[str, str]:
    """Every file of the published tree and its hash, but those that tell of times."""
    found = [
        path
        for name in ("data", "results")
        for path in (project.root / name).rglob("*")
        if path.is_file()
    ]
    paths = [path for path in found if path.name not in TELL_OF_TIMES]
    return {path.relative_to(project.root).as_posix(): sha256_file(path) for path in paths}


def leftovers(project: Project) -> list[str]:
    """Temporary files and folders, nodes without a record, and working state."""
    work = project.store.root / ".work"
    found = [*project.root.rglob("*.gone"), *(work.iterdir() if work.exists() else [])]
    return project.leftovers() + sorted(map(str, found))


def half_made(project: Project) -> list[str]:
    """Folders under a key that are no finished node."""
    return [path for path in project.leftovers() if not Path(path).name.startswith(".")]


@dataclass(frozen=True)
class Target:
    """Something to be killed in: how many times, from which state, and the command, which goes on
    where it was.
    """

    name: str
    rounds: int
    prepare: Callable[[Project, Warm], object]
    command: tuple[str, ...]


def nothing_made(project: Project, warm: Warm) -> None:
    shutil.rmtree(project.store.root)
    unpublished(project, warm)


def unpublished(project: Project, warm: Warm) -> None:
    for name in ("results", "data"):
        shutil.rmtree(project.root / name)


def only_shards_planned(project: Project, warm: Warm) -> None:
    """A plan of one node, so that all kills hit it."""
    plan = json.loads(project.kaizen("plan", "--json").output)
    nodes = [node for node in plan["nodes"] if node["kind"] == "shards"]
    (project.root / "plan.json").write_text(json.dumps({"nodes": nodes}))
    nothing_made(project, warm)


def with_garbage(project: Project, warm: Warm) -> None:
    """The nodes of another plan, their working state, and what killed jobs leave."""
    needed = set(project.nodes())
    project.set({"train.momentum": 0.8})
    assert warm.kaizen(project, "run").code == 0
    project.set({"train.momentum": 0.9})
    garbage = set(project.nodes()) - needed
    assert len(garbage) == 5
    for node in garbage:
        (project.store.root / node.kind / f".{node.key}.1.abcd.tmp" / "figures").mkdir(parents=True)
        for place in (
            project.store.work_folder(node),
            project.store.root / ".damaged" / f"{node.file_name}-ab",
        ):
            place.mkdir(parents=True)
            (place / "resume.safetensors").write_bytes(b"state")


WORKS = (
    Target("training", 20, nothing_made, ("run",)),
    Target("ingestion", 10, only_shards_planned, ("run", "--plan", "plan.json")),
    Target("publishing", 10, unpublished, ("publish",)),
    Target("garbage collection", 10, with_garbage, ("gc", "--delete")),
)


def row_of(work: Target) -> str:
    """The row of the table of faults that a work's rounds show."""
    return f"SIGKILL in {work.name}, {work.rounds} random moments"


class Rounds:
    """Rounds of one work: the state is carried on from kill to kill, and started again whenever the
    command ends.
    """

    def __init__(self, work: Target, finished: Project, warm: Warm, folder: Path) -> None:
        self.work, self.warm, self.folder = work, warm, folder
        self.started = finished.copy(folder / "started")
        work.prepare(self.started, warm)
        self.needed = set(finished.nodes())
        self.kills = self.copies = 0
        self.file = folder / "changes"
        self.undisturbed = self._copy()
        ended = warm.kaizen(
            self.undisturbed, *work.command, inject={"count_changes": {"file": str(self.file)}}
        )
        assert ended.code == 0, ended.output
        self.seconds, self.changes = ended.seconds, int(self.file.read_text())
        self.nodes, self.published = self.undisturbed.nodes(), published(self.undisturbed)
        assert self.nodes and leftovers(self.undisturbed) == []
        self.project = self._copy()

    def _copy(self) -> Project:
        self.copies += 1
        return self.started.copy(self.folder / f"from-its-start-{self.copies}")

    def round(self, **how: Any) -> None:
        """Run the command and kill it; what was finished must still be, and nothing may be half
        there.
        """
        before = self._needed_nodes()
        ended = self.warm.kaizen(self.project, *self.work.command, **how)
        assert ended.code in (0, -9), ended.output
        self.kills += ended.code == -9
        after = self._needed_nodes()
        assert {node: after.get(node) for node in before} == before
        assert half_made(self.project) == []
        if ended.code == 0:
            self.end()
            self.project = self._copy()

    def _needed_nodes(self) -> dict[NodeId, str]:
        """Those of the plan; all nodes are checked by hash."""
        return {
            node: digest for node, digest in self.project.nodes().items() if node in self.needed
        }

    def end(self) -> None:
        """The command has ended: all is as in an undisturbed run, and nothing is left over."""
        assert self.project.nodes() == self.nodes
        assert published(self.project) == self.published
        assert leftovers(self.project) == []

    def finish(self) -> None:
        """Let the command end, whatever the kills have left."""
        ended = self.warm.kaizen(self.project, *self.work.command)
        assert ended.code == 0, ended.output
        self.end()


def test_there_are_fifty_rounds() -> None:
    assert sum(work.rounds for work in WORKS) == 50
    assert [fault.name for fault in of_kind("SIGKILL")] == [row_of(work) for work in WORKS]


@pytest.mark.parametrize(
    "work",
    [pytest.param(work, id=work.name, marks=pytest.mark.rows(row_of(work))) for work in WORKS],
)
def test_killed_at_random_moments(
    work: Target, finished: Project, warm: Warm, tmp_path: Path
) -> None:
    """In each round at another moment between the first and the last of an undisturbed run,
    seeded.
    """
    rounds = Rounds(work, finished, warm, tmp_path)
    draw = random.Random(work.name)
    moments = [
        (number + draw.random()) / work.rounds * rounds.seconds for number in range(work.rounds)
    ]
    draw.shuffle(moments)
    for moment in moments:
        rounds.round(kill_after=moment)
    print(f"{work.name}: {rounds.kills} of {work.rounds} killed, within {rounds.seconds:.1f} s")
    assert rounds.kills
    rounds.finish()


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_killed_at_changes_of_the_file_system(
    work: Target, finished: Project, warm: Warm, tmp_path: Path
) -> None:
    """Between two changes of names, modes or folders, where a half-done change would show: at a
    seeded choice.
    """
    rounds = Rounds(work, finished, warm, tmp_path)
    draw = random.Random(work.name)
    count = 4
    changes = [
        draw.randrange(n * rounds.changes // count, (n + 1) * rounds.changes // count)
        for n in range(count)
    ]
    draw.shuffle(changes)
    for number in changes:
        rounds.round(inject={"kill_at_change": {"number": number}})
    assert rounds.kills
    rounds.finish()
