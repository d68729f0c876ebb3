"""The wheel: what it holds, and that it works where there is no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from project import PARAMS, REPOSITORY, write_dataset

SOURCES = ("kaizen", "workflow", "profiles", "presets", ".dvc/plots")
FILES = ("Snakefile", "dvc.yaml", "params.yaml", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the checkout, made without the network."""
    pytest.importorskip("setuptools", minversion="77")
    copy = tmp_path_factory.mktemp("sources")
    for folder in SOURCES:
        shutil.copytree(
            REPOSITORY / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in FILES:
        shutil.copyfile(REPOSITORY / name, copy / name)
    out = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(out), str(copy))
    (found,) = out.iterdir()
    return found


def pip(command: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", command, "--quiet", "--no-deps", "--no-index", *arguments],
        check=True,
        env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel installed into a folder of its own; returns the folder of its packages."""
    prefix = tmp_path_factory.mktemp("installed")
    pip("install", "--ignore-installed", "--prefix", str(prefix), str(wheel))
    (package,) = prefix.glob("l*/python*/site-packages/kaizen")
    return package.parent


def test_its_name_is_nobody_elses_and_its_extras_ask_for_itself(wheel: Path) -> None:
    assert wheel.name.startswith("kaizen_ssl-")
    described = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    lists = described["project"]["optional-dependencies"].values()
    asked = [one for each in lists for one in each if one.startswith("kaizen")]
    assert asked and all(one.startswith("kaizen-ssl[") for one in asked)
    for path in (REPOSITORY / "docs").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        assert "pip install 'kaizen[" not in text and "pip install kaizen[" not in text, path


def test_it_holds_all_of_a_project_and_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    data = f"{wheel.name.split('-py3')[0]}.data/data/share/kaizen/"
    shipped = {name.removeprefix(data) for name in names if name.startswith(data)}
    folders = [REPOSITORY / folder for folder in SOURCES[1:]]
    expected = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert shipped == expected | {"Snakefile", "dvc.yaml", "params.yaml"}
    package = {
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "kaizen").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "kaizen/py.typed" in package
    assert {name for name in names if name.startswith("kaizen/")} == package


def test_it_works_without_a_checkout(installed: Path, tmp_path: Path) -> None:
    """Its command, its presets, a run, and the model that comes of it."""
    project = tmp_path / "project"
    write_dataset(project / "images")
    params = PARAMS | {"grid": PARAMS["grid"] | {"variants": ["kaizen"]}}
    (project / "params.yaml").write_text(yaml.safe_dump(params))

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=project,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(installed),
                "PYTHONUTF8": "1",
                "OMP_NUM_THREADS": "1",
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("-c", "import kaizen; print(kaizen.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    command = str(installed.parents[2] / "bin" / "kaizen")
    assert "seed 2" in run(command, "plan", "--preset", "digits-3-seeds")
    run(command, "run")
    (folder,) = (project / "results/models").glob("*kaizen*")
    assert "accuracy " in run(command, "predict", str(folder), "images/test")


def test_a_preset_that_is_not_shipped_is_refused_with_those_that_are(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "params.yaml").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "kaizen", "plan", "--preset", "digits-3-seed"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(installed), "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "did you mean digits-3-seeds?" in done.stderr
