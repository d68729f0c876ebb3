"""A command finds its project from a folder below it, as git does; and without the environment it
says what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import REPOSITORY, Project, make_project

from kaizen import cli
from kaizen.cli.project import enter_project, project_above
from kaizen.files import read_json


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One variant, finished; with folders of the user's own below it."""
    project = make_project(
        tmp_path_factory.mktemp("above") / "project", {"grid.variants": ["kaizen"]}
    )
    project.kaizen("run").good()
    (project.root / "notes/deep").mkdir(parents=True)
    return project


@pytest.fixture
def below(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder below the project, as the current one; the store is found from the project."""
    folder = project.root / "notes/deep"
    monkeypatch.delenv("KAIZEN_STORE", raising=False)
    monkeypatch.chdir(folder)
    return folder


def test_a_command_below_a_project_is_about_it(
    project: Project, below: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = project.kaizen("plan", "--json").good()
    os.chdir(below)
    assert cli.main(["plan", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads(expected)
    assert err == f"kaizen: the project is {project.root}\n"
    os.chdir(below)
    assert cli.main(["show"]) == 0
    assert "results/summary/figures/accuracy_bars.png" in capsys.readouterr().out


def test_paths_are_meant_from_the_current_folder(
    project: Project, below: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = project.root.glob("results/models/*kaizen*")
    os.chdir(run)
    assert cli.main(["explain", "step-01/config.json", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    key = read_json(run / "step-01/node.json")["key"]
    assert found["key"] == key and found["what"] == "description of the model of the training step"
    # A folder that the summary has put a card into is still the step's.
    os.chdir(run)
    assert cli.main(["explain", "step-01", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["key"] == key
    for name, what in (
        ("README.md", "card of the summary of all runs"),
        ("preprocessor_config.json", "description of a model's input of the summary of all runs"),
    ):
        os.chdir(run / "step-01")
        assert cli.main(["explain", name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["what"] == what
    os.chdir(project.root / "results")
    assert cli.main(["explain", "metrics.json:simclr.kaizen.CA", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["number"] is not None
    os.chdir(below)
    (below / "more.yaml").write_text("train: { lr: 0.5 }\n")
    assert cli.main(["plan", "--json", "--overlay", "more.yaml"]) == 0
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    (lr,) = {node["params"]["train"]["lr"] for node in nodes if node["kind"] == "step"}
    assert lr == 0.5
    os.chdir(below)
    assert cli.main(["plan", "--inputs", "inputs.json"]) == 0
    assert (below / "inputs.json").is_file() and not (project.root / "inputs.json").exists()
    os.chdir(below)
    assert cli.main(["explain", "simclr.kaizen", "--json"]) == 2
    assert "simclr.kaizen is not known" in capsys.readouterr().err


def test_the_presets_are_the_projects(
    project: Project, below: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.root / "presets").mkdir(exist_ok=True)
    (project.root / "presets/slow.yaml").write_text("train: { lr: 0.25 }\n")
    assert cli.main(["plan", "--json", "--preset", "slow"]) == 0
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    assert {n["params"]["train"]["lr"] for n in nodes if n["kind"] == "step"} == {0.25}


@pytest.mark.parametrize(
    "options",
    [
        {"params": Path("mine.yaml")},
        {"params": None, "plan": Path("plan.json")},
        {"params": Path("params.yaml"), "in_project": False},
    ],
    ids=["other parameters", "a plan", "a command without a project"],
)
def test_what_names_its_own_stays_where_it_is(
    project: Project, below: Path, options: dict[str, object]
) -> None:
    enter_project(argparse.Namespace(**options))
    assert Path.cwd() == below


def test_a_folder_with_parameters_is_a_project_itself(project: Project, below: Path) -> None:
    shutil.copyfile(project.params, below / "params.yaml")
    try:
        enter_project(argparse.Namespace(params=Path("params.yaml")))
        assert Path.cwd() == below
    finally:
        (below / "params.yaml").unlink()


def test_where_everybody_may_write_is_no_project(tmp_path: Path) -> None:
    folder = tmp_path / "open" / "mine"
    folder.mkdir(parents=True)
    (folder.parent / "params.yaml").touch()
    assert project_above(folder) == folder.parent
    folder.parent.chmod(0o1777)
    assert project_above(folder) is None


def test_without_a_project_the_message_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plan"]) == 2
    assert "params.yaml does not exist" in capsys.readouterr().err


# -- without the environment -------------------------------------------------------------------


def bare(*arguments: str, package: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """A Python without any package but the standard library's, and this one."""
    return subprocess.run(
        [sys.executable, "-I", "-S", *arguments],
        capture_output=True,
        text=True,
        cwd=package,
        env={"PATH": os.environ["PATH"], "PYTHONUTF8": "1"},
    )


START = "import sys; sys.path.insert(0, {!r}); import runpy; sys.argv = {!r}; {}"
RUN = "runpy.run_module('kaizen', run_name='__main__', alter_sys=False)"


@pytest.mark.parametrize("command", [["plan"], ["check"], ["run"], ["predict", "a", "b"]])
@pytest.mark.parametrize("environment", [True, False], ids=["with .venv", "without .venv"])
def test_without_packages_the_message_names_one_and_the_fix(
    tmp_path: Path, command: list[str], environment: bool
) -> None:
    shutil.copytree(
        REPOSITORY / "kaizen", tmp_path / "kaizen", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "Makefile").touch()
    shutil.copyfile(REPOSITORY / "params.yaml", tmp_path / "params.yaml")
    fix = f"`make setup` in {tmp_path} makes an environment"
    if environment:
        kaizen = tmp_path / ".venv/bin/kaizen"
        kaizen.parent.mkdir(parents=True)
        kaizen.touch()
        fix = f"run {kaizen}, which has all packages"
    done = bare("-c", START.format(str(tmp_path), ["kaizen", *command], RUN), package=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("kaizen: the package ") and fix in done.stderr
    assert f"is not installed in this Python ({sys.executable})" in done.stderr


def test_an_older_python_is_refused_by_its_version() -> None:
    older = f"sys.version_info = (3, 10, 4); {RUN}"
    done = bare("-c", START.format(str(REPOSITORY), ["kaizen", "plan"], older))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("kaizen: Python 3.11 or newer is needed, and ")
    assert " is 3.10; run it by a newer one" in done.stderr
