"""The wheel: what it holds, and that it works where there is no checkout."""

from __future__ import annotations

import email
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from project import PARAMS, REPOSITORY, write_dataset

SOURCES = ("kaizen", "workflow", "profiles", "presets", ".dvc/plots")
SHIPPED = ("Snakefile", "dvc.yaml", "params.yaml", "serve-requirements.txt")
FILES = (*SHIPPED, "pyproject.toml", "setup.py", "README.md", "LICENSE")

TINY = """\
train: { epochs: 1, warmup_epochs: 0 }
grid: { variants: [kaizen] }
evaluation: { probe_iterations: 5 }
report: { formats: [png] }
"""


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


def pip(*arguments: str) -> None:
    offline = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1"}
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", *arguments], check=True, env=os.environ | offline
    )


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the wheel, which sees this one's packages but not the
    checkout: a line of a .pth is a folder whose own .pth files, a checkout's among them, do not
    count.
    """
    root = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    python = root / "bin" / "python"
    pip("--python", str(python), "install", str(wheel))
    (packages,) = root.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


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


def test_an_index_shows_links_that_work_and_whose_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        found = email.message_from_bytes(file.read(name))
    text = found.get_payload(decode=True)
    assert isinstance(text, bytes)
    readme = text.decode()
    assert found["Description-Content-Type"] == "text/markdown" and "# Kaizen" in readme
    targets = re.findall(r"\]\(([^)\s]+)\)", readme)
    assert [target for target in targets if not target.startswith("https://")] == []
    # Nothing but the links is gone.
    assert "docs/running.md has all of it" in readme and "kaizen.load(" in readme
    assert found["Author"] == "The Kaizen authors" and found["License-Expression"] == "BSD-3-Clause"
    assert "Typing :: Typed" in found.get_all("Classifier", [])
    assert found.get_all("Project-URL") == ["Paper, https://arxiv.org/abs/2303.17235"]


def test_links_lead_into_the_repository_that_is_named() -> None:
    for_index = runpy.run_path(str(REPOSITORY / "setup.py"), run_name="setup")["for_index"]
    text = "[a](docs/a.md#b) ![c](d.png) [e](https://f) [g](#h)"
    assert for_index(text, "https://r") == (
        "[a](https://r/blob/main/docs/a.md#b) ![c](https://r/raw/main/d.png) [e](https://f) [g](#h)"
    )
    assert for_index(text, None) == "a  [e](https://f) [g](#h)"


def test_from_a_folder_of_photographs_to_a_model(python: Path, tmp_path: Path) -> None:
    """In a new environment: init, then each of the two ways to run it; and DVC knows it."""
    write_dataset(tmp_path / "photos")
    (tmp_path / "tiny.yaml").write_text(TINY)
    environment = {
        "PATH": os.pathsep.join([str(python.parent), os.environ["PATH"]]),
        "HOME": str(tmp_path / "home"),
        "PYTHONUTF8": "1",
        "OMP_NUM_THREADS": "1",
        "DVC_SITE_CACHE_DIR": str(tmp_path / "dvc-site"),
    }

    def run(folder: Path, *command: str) -> str:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = run(tmp_path, "python", "-c", "import kaizen; print(kaizen.__file__)")
    assert Path(where.strip()).is_relative_to(python.parents[1])
    for name in ("one", "two"):
        images = ("--from", "photos", "--preset", "tiny.yaml")
        assert "of 4 classes" in run(tmp_path, "kaizen", "init", name, *images, "--dvc")
    one, two = tmp_path / "one", tmp_path / "two"
    run(one, "kaizen", "run")
    run(two, "python", "-m", "snakemake")
    models = [
        sorted(
            path.read_bytes()
            for path in project.glob("results/models/*kaizen*/step-*/model.safetensors")
        )
        for project in (one, two)
    ]
    assert len(models[0]) == 2 and models[0] == models[1]
    (folder,) = one.glob("results/models/*kaizen*")
    assert "accuracy " in run(tmp_path, "kaizen", "predict", str(folder), "photos/test")
    assert run(two, "python", "-m", "dvc", "root").strip() == "."
    assert "data/inputs.json" in run(two, "python", "-m", "dvc", "status")


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
