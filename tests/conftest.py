"""Shared by the tests: the reference's numbers, plans of made-up data and code, finished nodes of
small text files, finished projects.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from project import ALL_NODES, Project, make_checkout, make_project

from kaizen.files import canonical_json, sha256_text
from kaizen.params import Params
from kaizen.params.validation import validate
from kaizen.plan.build import build_plan
from kaizen.plan.nodes import DatasetFacts, Node, Plan
from kaizen.store.store import Store

if TYPE_CHECKING:
    from browser import Browser
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


MadeOnce = Callable[[str, Callable[[Path], object]], Path]

# The files that take longest: with several processes, the run had better begin with them.
LONGEST = (
    "test_experiments.py",
    "test_workflow.py",
    "test_cache_types.py",
    "test_distributed.py",
    "test_interruption.py",
    "test_kill.py",
    "test_raw_data.py",
    "test_damage.py",
)
# Files with servers, ports, processes that find each other, and limits of memory and time: never
# two at once.
ONE_BY_ONE = {
    "test_distributed.py",
    "test_launch.py",
    "test_locks.py",
    "test_machine.py",
    "test_remotes.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """With `pytest -n 2`, the tests of a file run in one process, so that a fixture of a module is
    made once; those of `ONE_BY_ONE` all in the same.
    """
    # pytest-xdist's own groups (--dist loadgroup, 3.8) do nothing with pytest 9.2.
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "one by one" if Path(file).name in ONE_BY_ONE else file

    return ByFile(config, log)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """A function of a name and of what fills a new folder, which returns that folder; of all
    processes of a test run the first fills it, and the others wait. To be read and copied only.
    """
    base = tmp_path_factory.getbasetemp()
    # Each process of pytest-xdist has a folder of its own below the run's.
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)

    def made(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with open(shared / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return made


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


def first_repro(folder: Path) -> None:
    """A checkout, its first `dvc repro`, and a push to a local remote."""
    project = make_checkout(folder / "project")
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


@pytest.fixture(scope="session")
def reproduced(made_once: MadeOnce) -> Project:
    """A checkout after its first `dvc repro`, committed and pushed to a local remote."""
    return Project(made_once("reproduced", first_repro) / "project")


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of the reproduced project."""
    return reproduced.copy_with_links(tmp_path / "project")


@pytest.fixture(scope="session")
def fresh(made_once: MadeOnce) -> Project:
    """A project of image files in which nothing has been run."""
    return Project(made_once("fresh", make_project))


def first_run(folder: Path) -> None:
    """Make a project of image files, and run it."""
    project = make_project(folder)
    project.kaizen("run").good()
    assert len(project.nodes()) == sum(ALL_NODES.values()) and not project.leftovers()


def first_run_of_two_seeds(folder: Path) -> None:
    """Make a project of two seeds, and run it."""
    make_project(folder, {"grid.seeds": [0, 1]}).kaizen("run").good()


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A real browser, one for the tests of a file."""
    from browser import Browser

    with Browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def opened(view: Browser, two_seeds: Project) -> Browser:
    """The browser with the page of `two_seeds`."""
    view.show(two_seeds.root / "results/report.html")
    return view


@pytest.fixture(scope="session")
def two_seeds(made_once: MadeOnce) -> Project:
    """A project of two seeds of two variants, after its first run."""
    return Project(made_once("two seeds", first_run_of_two_seeds))


@pytest.fixture(scope="session")
def finished(made_once: MadeOnce) -> Project:
    """The same after its first run."""
    return Project(made_once("finished", first_run))
