"""Shared by the faults' tests: a process to run commands in, and a project fresh and finished."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MadeOnce
from project import Project, make_project

from faults.table import CHECKED, Fault
from faults.warm import Warm

HERE = Path(__file__).parent
# The rows of the table that tests show, and the files these are in.
SHOWN: set[str] = set()
COLLECTED: set[str] = set()


def rows_of(item: pytest.Item) -> set[str]:
    """The rows that a test shows: of its mark `rows`, and those that are its parameters."""
    marked = {name for mark in item.iter_markers("rows") for name in mark.args}
    given = (
        item.callspec.params.values()
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        else ()
    )
    return marked | {value.name for value in given if isinstance(value, Fault)}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note the rows of all tests, also of those that are deselected afterwards."""
    for item in items:
        if HERE in item.path.parents:
            SHOWN.update(rows_of(item))
            COLLECTED.add(item.path.name)


@pytest.fixture(autouse=True)
def only_its_rows(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test checks the rows that it says it shows, and no other."""
    CHECKED.clear()
    yield
    assert rows_of(request.node) >= CHECKED


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """A process that runs commands in children of its own."""
    with Warm(tmp_path_factory.mktemp("warm")) as process:
        yield process


CHANGES = {"runtime.save_every_epochs": 1, "grid.variants": ["kaizen"]}


@pytest.fixture(scope="session")
def fresh(made_once: MadeOnce) -> Project:
    """A project of two steps in which nothing has been run; in place of the other tests'."""
    return Project(made_once("faults-fresh", lambda folder: make_project(folder, CHANGES)))


@pytest.fixture(scope="session")
def finished(warm: Warm, made_once: MadeOnce) -> Project:
    """The same after an undisturbed run."""

    def run(folder: Path) -> None:
        warm.kaizen(make_project(folder, CHANGES), "run").good()

    return Project(made_once("faults-finished", run))
