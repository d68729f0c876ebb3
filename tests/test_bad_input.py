"""Bad parameters and arguments, through the real command: one message that names them and the fix,
before any work is done.

A row of `PARAMETER_CASES` breaks a copy of a project in one way and says how the command must end
and what it must say.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bad_input import (
    PLAN_JSON,
    Case,
    add_line,
    check_message,
    for_each,
    leave_one_image,
    node_command,
    setting,
    spec_of,
    written,
)
from bad_values import BAD
from project import Project

# What values may be is in bad_values.py, which has a row for each; here is what needs the
# project's files, and some of the others.
PARAMETER_CASES = (
    Case(
        "unknown key",
        setting(train__epoch=3),
        ("params.yaml", "train.epoch", "did you mean epochs?"),
    ),
    Case(
        "broken YAML", add_line("grid: [simclr"), ("params.yaml", "not valid YAML", "line", "fix")
    ),
    Case("not UTF-8", written(b"\xff\xfe\x00"), ("params.yaml", "cannot be read")),
    Case("missing file", lambda p: p.params.unlink(), ("params.yaml does not exist", "--params")),
    Case(
        "a folder as file",
        lambda p: None,
        ("images cannot be read",),
        ("check", "--params", "images"),
    ),
    Case(
        "an overlay",
        written("train: {batch_size: 1}\n", "small.yaml"),
        ("small.yaml", "train.batch_size", "greater than or equal to 2"),
        ("check", "--overlay", "small.yaml"),
    ),
    Case(
        "tasks that do not divide the classes",
        setting(split__tasks=3),
        ("split.tasks: 3", "4 classes", "choose 1, 2 or 4"),
    ),
    Case(
        "several problems at once",
        setting(train__epochs=0, split__tasks=0),
        ("2 problems", "train.epochs", "split.tasks"),
    ),
    # -- the dataset's layout --
    Case("no path", setting(dataset__path=None), ("dataset.path", "image_folder needs", "name it")),
    Case(
        "path missing",
        setting(dataset__path="imgs"),
        ("dataset.path", "imgs does not exist", "give the folder"),
    ),
    Case(
        "path is a file",
        setting(dataset__path="params.yaml"),
        ("dataset.path", "is not a folder", "give the folder"),
    ),
    Case(
        "no train folder",
        lambda p: shutil.rmtree(p.images / "train"),
        ("images has a folder `test`, but no folder `train`", "expected"),
    ),
    Case(
        "no test folder, and a class of one image",
        lambda p: leave_one_image(p.images),
        ("classes of one image, and one of every class is held out", "make a test part"),
    ),
    Case(
        "both test and val",
        lambda p: (p.images / "val").mkdir(),
        ("both `test` and `val`", "rename the other"),
    ),
    Case(
        "class missing in test",
        lambda p: shutil.rmtree(p.images / "test/cat"),
        ("images/test", "cat", "need the same"),
    ),
    Case(
        "empty class",
        for_each("train/bee", Path.unlink),
        ("train/bee", "without images", "fill or remove"),
    ),
    Case(
        "a folder that holds itself",
        lambda p: (p.images / "train/ant/loop").symlink_to(".."),
        ("loop", "is a link to a folder that holds it", "remove the link"),
    ),
    Case(
        "a broken link as an image",
        lambda p: (p.images / "train/ant/gone.png").symlink_to("nowhere"),
        ("gone.png cannot be read", "fix or remove"),
    ),
)


@pytest.mark.parametrize("case", PARAMETER_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("command", ["check", "run"])
def test_refused_before_any_work(command: str, case: Case, fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    case.breaks(project)
    outcome = project.kaizen(command, *case.command[1:])
    check_message(outcome, case.code, case.says, case.name)
    assert not project.store.root.exists() and not (project.root / "results").exists()


@pytest.mark.parametrize("case", BAD)
def test_run_refuses_a_bad_value(case: str, tmp_path: Path) -> None:
    text, words = BAD[case]
    project = Project(tmp_path)
    project.params.write_text(text)
    check_message(project.kaizen("run"), 2, tuple(words), case)
    assert list(tmp_path.iterdir()) == [project.params]


SPEC_CASES: dict[str, tuple[Callable[[dict[str, Any]], object], tuple[str, ...]]] = {
    "not JSON": (lambda spec: "{'kind': 'shards'}", ("--spec is not JSON", PLAN_JSON)),
    "a list": (lambda spec: [spec], ("--spec", "but a list", PLAN_JSON)),
    "without inputs": (
        lambda spec: {k: v for k, v in spec.items() if k != "inputs"},
        ("lacks 'inputs'", PLAN_JSON),
    ),
    "params as text": (
        lambda spec: spec | {"params": "all"},
        ("'params' must be a mapping, not a text", PLAN_JSON),
    ),
    "unknown kind": (
        lambda spec: spec | {"kind": "stepp"},
        ("kind 'stepp' is unknown", "shards, replay, step", PLAN_JSON),
    ),
    "an input without a key": (
        lambda spec: spec | {"inputs": {"prior": {"kind": "step"}}},
        ("'prior'", PLAN_JSON),
    ),
    "altered": (
        lambda spec: spec | {"params": spec["params"] | {"seed": 9}},
        ("--spec: key", "altered", PLAN_JSON),
    ),
}


@pytest.mark.parametrize("name", SPEC_CASES)
def test_specification(name: str, fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    alter, says = SPEC_CASES[name]
    spec = spec_of(project, "step")
    bad = alter(spec)
    outcome = project.kaizen(
        *node_command(project, spec, bad if isinstance(bad, str) else json.dumps(bad))
    )
    check_message(outcome, 2, says, name)
    assert not project.store.root.exists()


@pytest.mark.parametrize(
    ("command", "text", "says"),
    [
        (("run", "--plan", "plan.json"), None, ("plan.json does not exist", f"{PLAN_JSON} > FILE")),
        (("run", "--plan", "plan.json"), "{", ("plan.json is not readable JSON", PLAN_JSON)),
        (("run", "--plan", "plan.json"), "[]", ("plan.json is not a plan", PLAN_JSON)),
        (
            ("run", "--plan", "plan.json"),
            '{"nodes": [{"kind": "shards"}]}',
            ("plan.json: node 0", "lacks 'key'", PLAN_JSON),
        ),
        (("publish", "--values", "{"), None, ("--values is not JSON",)),
        (
            ("publish", "--values", '{"train": {"epochs": 0}}'),
            None,
            ("--values: train.epochs", "greater than or equal"),
        ),
        (("publish",), None, ("nodes are not finished", "snakemake --cores all")),
        (
            ("show",),
            None,
            ("results/summary/metrics_full.json does not exist", "in the project's folder"),
        ),
    ],
    ids=lambda value: (
        " ".join(value)
        if isinstance(value, tuple) and value[0] in ("run", "publish", "show")
        else None
    ),
)
def test_other_arguments(
    command: tuple[str, ...],
    text: str | None,
    says: tuple[str, ...],
    fresh: Project,
    tmp_path: Path,
) -> None:
    project = fresh.copy(tmp_path / "project")
    if text is not None:
        (project.root / "plan.json").write_text(text)
    check_message(project.kaizen(*command), 2, says)
    assert not project.store.root.exists() and not (project.root / "results").exists()


def test_processes(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    check_message(project.python("node", "--spec", "{"), 2, ("--spec is not JSON",))
    project.set({"train.epoch": 3})
    check_message(project.python("run"), 2, ("train.epoch", "did you mean epochs?"))
    assert not project.store.root.exists()


def test_snakemake_with_bad_parameters(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    project.set({"train.epoch": 3})
    outcome = project.snakemake()
    check_message(outcome, 2, ("train.epoch: unknown key; did you mean epochs?",), "snakemake")
    assert not project.store.root.exists()


def test_names_of_the_table_are_unique() -> None:
    names = [case.name for case in PARAMETER_CASES]
    assert len(set(names)) == len(names)
