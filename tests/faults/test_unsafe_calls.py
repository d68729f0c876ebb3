"""The package has no call that runs what a file says or writes an archive out."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from project import REPOSITORY

from kaizen.params.reading import _strict_loader


def findings(*arguments: str, source: str | None = None) -> list[tuple[str, str]]:
    """What ruff finds with the repository's rules against running what a file says: file, rule."""
    ruff = shutil.which("ruff", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert ruff is not None, "pip install 'kaizen-ssl[dev]'"
    command = [ruff, "check", "--no-cache", "--select", "S,TID251", "--output-format", "json"]
    # To start programs from lists of words is meant.
    command += ["--ignore", "S603,S606,S607"]
    done = subprocess.run(
        [*command, *arguments], cwd=REPOSITORY, input=source, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr
    return [
        (Path(found["filename"]).relative_to(REPOSITORY).as_posix(), found["code"])
        for found in json.loads(done.stdout)
    ]


# Under any name: `YAML(typ="unsafe")` makes objects, and `builtins.compile` runs a text.
_IMPORTS = {"ruamel", "builtins"}


def unsafe_uses(source: str) -> list[str]:
    """What ruff has no rule for, as it is written in a module: the builtins that compile and import
    what a text says, writing a single member of an archive out, and the use of ruamel.yaml.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id="compile" | "__import__"):
                found.append(ast.unparse(node))
            case ast.Attribute(
                value=ast.Name(id="builtins" | "__builtins__"), attr="compile" | "__import__"
            ):
                found.append(ast.unparse(node))
            case ast.Attribute(attr="extract" | "_extract_member" | "extractall"):
                found.append(ast.unparse(node))
            case ast.Call(func=ast.Name(id="YAML") | ast.Attribute(attr="YAML")):
                found.append(ast.unparse(node))
            case ast.ImportFrom(module=str(name)) if name.split(".")[0] in _IMPORTS:
                found.append(ast.unparse(node))
            case ast.Import(names=names) if any(n.name.split(".")[0] in _IMPORTS for n in names):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("tar.extract(member)", ["tar.extract"]),
        ("tarfile.open(path).extract(member, folder)", ["tarfile.open(path).extract"]),
        ("write_out = tar.extract", ["tar.extract"]),
        ("tar.extractall(folder)", ["tar.extractall"]),
        ("compile(text, 'a file', 'exec')", ["compile"]),
        ("import builtins", ["import builtins"]),
        ("builtins.compile(text, 'a file', 'exec')", ["builtins.compile"]),
        ("from builtins import compile as c", ["from builtins import compile as c"]),
        ("__import__(name)", ["__import__"]),
        ("load = __import__", ["__import__"]),
        ("YAML()", ["YAML()"]),
        ("YAML(typ='unsafe')", ["YAML(typ='unsafe')"]),
        ("ruamel.yaml.YAML()", ["ruamel.yaml.YAML()"]),
        ("import ruamel.yaml as y", ["import ruamel.yaml as y"]),
        ("from ruamel.yaml import YAML as Y", ["from ruamel.yaml import YAML as Y"]),
        ("re.compile('x')", []),
        ("tar.extractfile(member)", []),
        ("import yaml\nyaml.safe_load(text)", []),
    ],
)
def test_the_search_finds_what_the_linter_has_no_rule_for(source: str, found: list[str]) -> None:
    assert unsafe_uses(source) == found


def test_the_package_has_no_such_use() -> None:
    """But ruamel's plain YAML(), which keeps comments and makes no objects."""
    sources = sorted(
        path for name in ("kaizen", "workflow") for path in (REPOSITORY / name).rglob("*.py")
    )
    assert len(sources) > 100
    found = {
        path.relative_to(REPOSITORY).as_posix(): unsafe_uses(path.read_text(encoding="utf-8"))
        for path in sources
    }
    assert {path: uses for path, uses in found.items() if uses} == {
        "kaizen/params/reading.py": ["from ruamel.yaml import YAML", "YAML()"]
    }


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", ["TID251"]),
        ("import joblib", ["TID251"]),
        ("from dill import loads", ["TID251"]),
        ("import cloudpickle", ["TID251"]),
        ("import marshal", ["TID251"]),
        ("import shelve", ["TID251"]),
        ("import torch\ntorch.load(path)", ["TID251"]),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", ["TID251"]),
        ("import yaml\nyaml.load(text, Loader=yaml.Loader)", ["S506"]),
        ("import yaml\nyaml.unsafe_load(text)", ["TID251"]),
        ("import yaml\nyaml.safe_load(text)", []),
        ("import tarfile\ntarfile.open(path).extractall()", ["S202"]),
        ("import shutil\nshutil.unpack_archive(path)", ["TID251"]),
        ("import zipfile\nzipfile.ZipFile(path)", ["TID251"]),
        ("import subprocess\nsubprocess.run(text, shell=True)", ["S602"]),
        ("import os\nos.system(text)", ["S605"]),
        ("import os\nos.popen(text)", ["S605", "TID251"]),
        ("eval(text)", ["S307"]),
        ("exec(text)", ["S102"]),
        ("model.eval()", []),
        ("import re\nre.compile('x')", []),
    ],
)
def test_the_linter_refuses_code_that_runs_what_a_file_says(source: str, found: list[str]) -> None:
    rules = [
        rule for _, rule in findings("--stdin-filename", "kaizen/made_up.py", "-", source=source)
    ]
    assert sorted(rules) == found


def test_the_package_runs_no_code_from_files() -> None:
    """What is let through by a comment is this and no more."""
    assert sorted(findings("--ignore-noqa", "kaizen", "workflow")) == [
        ("kaizen/data/image_files.py", "S110"),
        ("kaizen/data/sources/archive.py", "S310"),
        ("kaizen/data/sources/cifar.py", "TID251"),  # for the restricted unpickler
        ("kaizen/params/reading.py", "S506"),  # of its own subclass of SafeLoader
    ]
    assert issubclass(_strict_loader(Path("params.yaml")), yaml.SafeLoader)
