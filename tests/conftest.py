"""Shared by the tests: the reference's numbers, plans of made-up data and code, finished nodes of
small text files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from project import ALL_NODES, Project, make_checkout

from kaizen.files import canonical_json, sha256_text
from kaizen.params import Params
from kaizen.params.validation import validate
from kaizen.plan.build import build_plan
from kaizen.plan.nodes import DatasetFacts, Node, Plan
from kaizen.store.store import Store

if TYPE_CHECKING:
    from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[1]
# The reference implementation's numbers; README.md there says how they were made.
GOLDEN = REPOSITORY / "tests" / "golden"
FACTS = DatasetFacts(
    classes=tuple(f"class {label}" for label in range(10)),
    train=tuple(f"train checksum {label}" for label in range(10)),
    test=tuple(f"test checksum {label}" for label in range(10)),
)


def fake_fingerprint(modules: tuple[str, ...], packages: tuple[str, ...]) -> str:
    """Stands for the hash of the code: that of the names of modules and packages."""
    return sha256_text(canonical_json([modules, packages]))


def make_params(changes: Mapping[str, Any] | None = None) -> Params:
    """The default parameters with some changed, given as {"section.key": value}."""
    values: dict[str, Any] = {}
    for path, value in (changes or {}).items():
        *sections, key = path.split(".")
        place = values
        for name in sections:
            place = place.setdefault(name, {})
        place[key] = value
    return validate(values)


def make_plan(changes: Mapping[str, Any] | None = None, facts: DatasetFacts = FACTS) -> Plan:
    """The plan of `make_params(changes)` for made-up data and code."""
    return build_plan(make_params(changes), facts, fake_fingerprint)


def commit_fake(store: Store, node: Node[Any], files: Mapping[str, str] | None = None) -> None:
    """Finish a node with the given files (name -> text), or with one in a folder of its own."""
    contents = files or {
        "data.txt": f"made for {node.title}\n",
        "figures/a.csv": f"x\n{node.key}\n",
    }
    with store.lock(node.id), store.building(node.id) as building:
        for name, text in contents.items():
            (building / name).parent.mkdir(parents=True, exist_ok=True)
            (building / name).write_text(text, encoding="utf-8")
        store.commit(node.job().to_json(), building, {"torch": "9.9"}, {"seconds": 1.5})


def golden_reference(part: str) -> Any:
    """One part of the reference's numbers that are no losses: lars, class_tasks, …"""
    return json.loads((GOLDEN / "reference.json").read_text(encoding="utf-8"))[part]


def tree(folder: Path) -> list[str]:
    """All files under a folder, hidden ones included."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    """The reference's losses, inputs and gradients by name (tests/golden/README.md)."""
    # Here and not above: plans are tested without torch.
    import numpy as np
    import torch

    with np.load(GOLDEN / "losses.npz", allow_pickle=False) as arrays:
        return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A checkout after its first `dvc repro`, committed and pushed to a local remote."""
    project = make_checkout(tmp_path_factory.mktemp("base") / "project")
    project.commit("before the first run")
    project.start_counting()
    output = project.run("dvc", "repro")
    assert project.jobs() == ALL_NODES
    assert "Kaizen" in output and "No distillation" in output, (
        "the table of results is shown at the end"
    )
    project.check_nothing_stale()
    project.run("dvc", "remote", "add", "--default", "local", str(project.root.parent / "remote"))
    project.commit("first run")
    project.run("dvc", "push", "--quiet")
    return project


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of the reproduced project."""
    return reproduced.copy_with_links(tmp_path / "project")
