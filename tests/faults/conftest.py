"""Shared by the faults' tests: a process to run commands in, and a project fresh and finished."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MadeOnce
from project import Project, make_project

from faults.warm import Warm


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
