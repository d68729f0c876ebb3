"""Ways to break a project, and what must hold after a command has refused it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from project import Outcome, Project

from kaizen.store.node_id import NodeId

Break = Callable[[Project], object]


@dataclass(frozen=True)
class Case:
    """How to break a project, what to run in it, and how that must end."""

    name: str
    breaks: Break
    says: tuple[str, ...]
    command: tuple[str, ...] = ("check",)
    code: int = 2
    # What a second run of the same command must end with; None: the user has to fix something
    # first.
    again: int | None = None


def check_message(outcome: Outcome, code: int, says: tuple[str, ...], where: str = "") -> None:
    """The exit code, no traceback, and all that the message must say, in one line or one list of
    problems.
    """
    output = outcome.output
    assert "Traceback" not in output, f"{where}\n{output}"
    assert outcome.code == code, f"{where} ended with {outcome.code}\n{output}"
    for words in says:
        assert words in output, f"{where}: {words!r} is not in\n{output}"
    if code == 2:
        assert output.count("kaizen: ") == 1, f"{where}: not one message\n{output}"


def check_intact(project: Project, before: dict[NodeId, str]) -> None:
    """Nodes that were finished before are as they were, unless set aside as damaged; nothing is
    half made.
    """
    aside = [path.name for path in (project.store.root / ".damaged").glob("*")]
    now = project.nodes()
    for node, digest in before.items():
        if not any(name.startswith(f"{node.file_name}-") for name in aside):
            assert now.get(node) == digest, f"{node} was lost or changed"
    assert project.leftovers() == []


# -- parameters, refused before anything is done -----------------------------------------------


def setting(**changes: object) -> Break:
    """Change parameters; two underscores stand for the dot."""
    return lambda project: project.set(
        {name.replace("__", "."): value for name, value in changes.items()}
    )


def for_each(folder: str, how: Callable[[Path], object], **changes: object) -> Break:
    """Do something to every image of a folder, and change parameters."""

    def breaks(project: Project) -> None:
        for path in (project.images / folder).iterdir():
            how(path)
        setting(**changes)(project)

    return breaks


def written(text: str | bytes, name: str = "params.yaml") -> Break:
    """Put a text in place of a file of the project."""
    data = text if isinstance(text, bytes) else text.encode()
    return lambda project: (project.root / name).write_bytes(data)


def leave_one_image(images: Path) -> None:
    """Leave no test part, and a class of one training image."""
    shutil.rmtree(images / "test")
    for path in sorted((images / "train" / "cat").iterdir())[1:]:
        path.unlink()


def add_line(line: str) -> Break:
    """Append a line to params.yaml."""

    def breaks(project: Project) -> None:
        with project.params.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")

    return breaks


def truncate(path: Path, share: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


IMAGE = "images/train/cat/07.png"
IMAGE_SAYS = (
    IMAGE,
    "cannot be read as an image",
    "replace or remove it, or set dataset.on_corrupt: skip",
)


def flip_byte(path: Path, share: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 0x40
    path.write_bytes(data)


# -- specifications of nodes, and other arguments ----------------------------------------------


def spec_of(project: Project, kind: str, number: int = -1) -> dict[str, Any]:
    """The specification of a node of the current plan; by default the last of its kind."""
    plan = json.loads(project.kaizen("plan", "--json").output)
    specs: list[dict[str, Any]] = [node for node in plan["nodes"] if node["kind"] == kind]
    return specs[number]


def node_command(
    project: Project, spec: dict[str, object], text: str | None = None
) -> tuple[str, ...]:
    """The command line of a node's job, of ``spec`` or with ``text`` in its place."""
    return (
        "node",
        "--store",
        str(project.store.root),
        "--spec",
        json.dumps(spec) if text is None else text,
    )


PLAN_JSON = "kaizen plan --json"
