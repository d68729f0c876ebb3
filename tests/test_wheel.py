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
SHIPPED = ("Snakefile", "dvc.yaml", "params.yaml", "serve-requirements.txt")
FILES = (*SHIPPED, "pyproject.toml", "README.md", "LICENSE")


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
    assert shipped == expected | set(SHIPPED)
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


def test_the_light_packages_are_those_of_serving_and_of_images() -> None:
    described = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    asked = described["project"]["optional-dependencies"]["serve"]
    core = [one for one in described["project"]["dependencies"] if one[:5] in ("numpy", "pillo")]
    lines = (REPOSITORY / "serve-requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == sorted(asked + core)


# What a host that only serves an exported model does without.
ABSENT = ("torch", "torchvision", "snakemake", "dvc", "pyarrow", "sklearn", "safetensors", "yaml")


@pytest.fixture(scope="module")
def light(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel and what serves an exported model; returns its commands'
    folder.
    """
    folder = tmp_path_factory.mktemp("light") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True,
        env=plain,
    )
    requirements = folder / "share" / "kaizen" / "serve-requirements.txt"
    constraints = REPOSITORY / "constraints.txt"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "-r", str(requirements), "-c", constraints],
        capture_output=True,
        text=True,
        env=plain,
    )
    if done.returncode:
        pytest.skip(f"pip cannot install here: {done.stderr[-200:]}")
    return folder / "bin"


def test_an_exported_model_is_used_where_there_is_no_torch(light: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    from exported_models import SMALL, image_params, made_network, write_model

    from kaizen.export.making import Request, export_model
    from kaizen.inference.exported import load_exported

    write_dataset(tmp_path / "images", train=1, test=1)
    image = image_params(8, 3)
    model = write_model(tmp_path / "model", made_network(SMALL, image), SMALL, image)
    file, pictures = tmp_path / "model.onnx", tmp_path / "images" / "test"
    export_model(model, Request(format="onnx", out=file, check=[str(pictures)]))
    expected = load_exported(file).predict(sorted(pictures.rglob("*.png")))

    def run(*command: str) -> str:
        done = subprocess.run(
            [str(light / command[0]), *command[1:]],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONUTF8": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = f"import importlib.util as u; print([n for n in {ABSENT} if u.find_spec(n)])"
    assert run("python", "-c", code) == "[]\n"
    lines = run("kaizen", "predict", "model.onnx", "images/test", "--top", "1").splitlines()
    assert [line.split(": ")[1].split()[0] for line in lines[:4]] == expected.names
    code = "import glob, kaizen; m = kaizen.load('model.onnx'); print(m.classes, m.embed(sorted("
    code += "glob.glob('images/test/*/*.png'))).shape)"
    assert run("python", "-c", code) == "('one', 'four') (4, 32)\n"
    assert "export" in run("kaizen", "--help")
