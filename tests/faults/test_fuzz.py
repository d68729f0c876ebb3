"""What files say is not believed: seeded mutations of every artefact that a command reads.

Whatever a record, run.json, provenance, manifest, plan file, registration, lock or params.yaml
holds, a command ends with exit code 0 or 2, never with a traceback, prints no control characters,
and changes nothing outside the store and the published folders.
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from project import Project

from kaizen.files import MOST_DEPTH, read_json
from kaizen.plan.nodes import plan_key
from kaizen.store.locks import hold
from kaizen.store.processes import record_workflow
from kaizen.store.records import parse_record
from kaizen.store.users import User

# KAIZEN_FUZZ=20 tries twenty times as many.
MORE = int(os.environ.get("KAIZEN_FUZZ", "1"))
# What is put in the place of a value. Texts that lead elsewhere, that a terminal obeys, that a
# shell obeys; numbers that are none; and every type where another is expected.
NASTY: Sequence[Any] = (
    None,
    True,
    -1,
    0,
    1e300,
    10**40,
    float("nan"),
    float("inf"),
    "",
    ".",
    "../../outside",
    "x/../../../outside",
    "/etc/passwd",
    "\x1b[31mred\x07",
    "\u202egnp.exe",
    "\ud800",
    "\x00",
    "HEAD; touch outside",
    "--upload-pack=touch outside",
    "a" * 100_000,
    [],
    [[]],
    {},
    {"kind": "step", "key": "../../outside"},
)


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside a JSON value."""
    found = [at] if at else []
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in list(items)[:60]:
            found += _places(inner, (*at, name))
    return found


def mutated_value(value: Any, rng: random.Random) -> Any:
    """A JSON value with one to three of its parts replaced, removed, renamed or doubled."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = _places(value)
        if not places:
            return rng.choice(NASTY)
        *above, last = rng.choice(places)
        holder = value
        for name in above:
            holder = holder[name]
        how = rng.randrange(6)
        if how == 0:
            del holder[last]
        elif how == 1 and isinstance(holder, dict):
            name = rng.choice([text for text in NASTY if isinstance(text, str)])
            holder[name] = holder.pop(last)
        elif how == 2 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        else:
            holder[last] = copy.deepcopy(rng.choice(NASTY))
    return value


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """A file's bytes, damaged as by a disk, an editor, or with intent."""
    if rng.random() < 0.7:
        try:
            return json.dumps(mutated_value(json.loads(content), rng)).encode()
        except ValueError:
            pass
    data = bytearray(content)
    how, at = rng.randrange(6), rng.randrange(len(data) + 1)
    if how == 0:
        return bytes(data[:at])
    if how == 1 and data:
        data[at % len(data)] ^= 1 << rng.randrange(8)
    elif how == 2:
        data[at:at] = rng.choice(
            (b"\x00", b"\xff", b"\xef\xbb\xbf", b"NaN", b"1e999", b'"\\ud800"')
        )
    elif how == 3:
        end = at + rng.randrange(200)
        data[at:at] = data[at:end]
    elif how == 4:
        return b"[" * rng.choice((MOST_DEPTH + 1, 100_000)) + bytes(data)
    else:
        return b'{"a":' * 3000 + b"1" + b"}" * 3000
    return bytes(data)


@dataclass(frozen=True)
class Artefact:
    """A file that commands read: where it is, the commands, how many mutations."""

    find: Callable[[Project], Path]
    commands: tuple[tuple[str, ...], ...]
    rounds: int


def _step(project: Project) -> Path:
    return project.store.root / "step" / project.keys("step")[-1]


def _summary(project: Project) -> Path:
    return project.store.root / "summary" / project.keys("summary")[0]


def _plan_of(kind: str) -> Callable[[Project], Path]:
    def find(project: Project) -> Path:
        path = project.root / f"{kind}-plan.json"
        if not path.exists():
            plan = json.loads(project.kaizen("plan", "--json").output)
            nodes = [node for node in plan["nodes"] if node["kind"] == kind][-1:]
            key = plan_key(node["key"] for node in nodes)
            path.write_text(json.dumps({"plan": key, "store": plan["store"], "nodes": nodes}))
        return path

    return find


def _spec(project: Project) -> Path:
    path = project.root / "spec.json"
    if not path.exists():
        plan = json.loads(project.kaizen("plan", "--json").output)
        path.write_text(json.dumps(next(n for n in plan["nodes"] if n["kind"] == "step")))
    return path


def _registration(project: Project) -> Path:
    return next((project.store.root / ".users").glob("*.json"))


def _workflow(project: Project) -> Path:
    folder = project.root / ".kaizen/workflows"
    if not list(folder.glob("*.json")):
        record_workflow(project.root)
    return next(folder.glob("*.json"))


METRIC = "results/metrics.json:simclr.kaizen.CA"
ARTEFACTS = {
    "record of a step": Artefact(
        lambda p: _step(p) / "node.json",
        (("explain", "STEP"), ("explain", "STEP", "--json"), ("explain", METRIC), ("verify",)),
        50,
    ),
    "record of a summary": Artefact(
        lambda p: _summary(p) / "node.json", (("explain", METRIC), ("publish",)), 25
    ),
    "run.json": Artefact(
        lambda p: _step(p) / "run.json",
        (("explain", "STEP"), ("explain", "STEP", "--json"), ("publish",)),
        50,
    ),
    "published record": Artefact(
        lambda p: next(p.root.glob("results/models/*/step-01/node.json")),
        (("explain", METRIC), ("publish",)),
        30,
    ),
    "provenance": Artefact(
        lambda p: p.root / "results/provenance.json", (("explain", METRIC), ("show",)), 30
    ),
    "manifest": Artefact(
        lambda p: p.root / "results/manifest.json",
        (("explain", METRIC), ("explain", "results/summary"), ("publish",)),
        30,
    ),
    "metrics": Artefact(
        lambda p: p.root / "results/summary/metrics_full.json", (("show",), ("explain", METRIC)), 30
    ),
    "plan file of a step": Artefact(
        _plan_of("step"), (("run", "--plan", "step-plan.json", "--store", "empty"),), 50
    ),
    "plan file of shards": Artefact(
        _plan_of("shards"), (("run", "--plan", "shards-plan.json", "--store", "empty"),), 25
    ),
    "specification": Artefact(
        _spec, (("node", "--spec", "@spec.json", "--store", "empty", "--log", "log.txt"),), 35
    ),
    "registration": Artefact(_registration, (("gc",), ("gc", "--delete")), 35),
    "checksums": Artefact(
        lambda p: next(
            path for path in (p.root / ".kaizen/checksums").rglob("*") if path.is_file()
        ),
        (("plan",),),
        25,
    ),
    "workflow": Artefact(_workflow, (("jobs",), ("jobs", "--cancel"), ("gc",)), 30),
    "params.yaml": Artefact(lambda p: p.params, (("check",), ("explain", METRIC)), 30),
    "unfinished publication": Artefact(
        lambda p: p.root / ".kaizen/publishing.json", (("publish",),), 30
    ),
}


def check_ending(project: Project, arguments: tuple[str, ...], what: str) -> None:
    """Run a command that must end well or with one message."""
    done = project.kaizen(*arguments)
    told = f"kaizen {' '.join(arguments)} with {what}:\n{done.output[-3000:]}"
    assert "Traceback" not in done.output, told
    assert done.code in ((0, 1, 2) if arguments[0] in ("verify", "node", "run") else (0, 2)), told
    assert "\x1b" not in done.output and "\x07" not in done.output, told
    commands = [line for line in done.output.splitlines() if "git checkout" in line]
    assert not any("touch outside" in line or "../" in line for line in commands), told
    if done.code == 2:
        lines = done.output.splitlines()
        assert any(line.startswith("kaizen: ") or ": " in line for line in lines), told


@pytest.mark.parametrize("name", ARTEFACTS)
def test_commands_end_well_whatever_a_file_holds(
    name: str, finished: Project, tmp_path: Path
) -> None:
    artefact = ARTEFACTS[name]
    project = finished.copy(tmp_path / "inside" / "project")
    if name == "unfinished publication":
        files = sorted(read_json(project.root / "results/manifest.json")["files"])
        (project.root / ".kaizen/publishing.json").write_text(json.dumps({"files": files}))
    (tmp_path / "mine.txt").write_text("keep")
    (project.root / "mine.txt").write_text("keep")
    path = artefact.find(project)
    step = project.keys("step")[-1]
    commands = [tuple(a.replace("STEP", step) for a in command) for command in artefact.commands]
    content = path.read_bytes()
    rng = random.Random(f"{name} {MORE}")
    clean = tmp_path / "clean"
    shutil.copytree(project.root, clean)
    for number in range(artefact.rounds * MORE):
        mutated = mutated_bytes(content, rng)
        arguments = commands[number % len(commands)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(mutated)
        check_ending(project, arguments, f"mutation {number} of {name}: {mutated[:300]!r}")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["clean", "inside", "mine.txt"]
        assert [p.name for p in (tmp_path / "inside").iterdir()] == ["project"]
        assert (project.root / "mine.txt").read_text() == "keep"
        assert not list(project.root.rglob("outside*"))
        if arguments[0] in ("publish", "verify", "gc", "run", "node"):
            shutil.rmtree(project.root)
            shutil.copytree(clean, project.root)


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nowhere", "device"])
@pytest.mark.parametrize("name", ["record of a step", "run.json", "provenance", "manifest"])
def test_what_is_no_regular_file_is_not_read(
    kind: str, name: str, finished: Project, tmp_path: Path
) -> None:
    """A pipe would be waited for, /dev/zero would be read for ever."""
    project = finished.copy(tmp_path / "project")
    path = ARTEFACTS[name].find(project)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "nowhere")
    for command in (("explain", METRIC), ("explain", project.keys("summary")[0]), ("gc",)):
        check_ending(project, command, f"{kind} as {name}")


def test_a_lock_file_may_hold_anything(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    path = project.store.root / ".locks" / f"step-{'a' * 32}"
    with hold(path, title="step 1"):
        content = path.read_bytes()
        rng = random.Random("locks")
        for number in range(100):
            path.write_bytes(mutated_bytes(content, rng))
            arguments = (("jobs",), ("jobs", "--cancel"), ("gc",))[number % 3]
            check_ending(project, arguments, f"mutation {number} of a lock")
        path.write_bytes(content)


def test_records_and_registrations_are_read_or_refused(finished: Project) -> None:
    """The readers themselves: thousands of mutations, of which none is taken for another node's."""
    node = next(node for node in finished.store.entries() if node.kind == "step")
    record = read_json(finished.store.record_path(node))
    user = read_json(next((finished.store.root / ".users").glob("*.json")))
    rng = random.Random(7)
    for _ in range(1500):
        found = parse_record(mutated_value(record, rng), node)
        assert found is None or (found.id == node and not any(".." in name for name in found.files))
        other = User.from_json(mutated_value(user, rng))
        assert other is None or all(len(key.key) == 32 for key in other.nodes)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(9)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "a: &a {b: *a}",
        "a: " + "[" * 5000,
        "a: " + "{a: " * 400 + "1" + "}" * 400,
        "title: " + "- " * 3000,
    ],
    ids=["bomb", "itself", "open", "deep", "lists"],
)
def test_parameters_that_nobody_can_mean(text: str, finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    project.params.write_text(text)
    done = project.kaizen("check")
    assert done.code == 2 and "Traceback" not in done.output, done.output[-2000:]
    assert done.output.startswith("kaizen: params.yaml ") and len(done.output) < 1000
