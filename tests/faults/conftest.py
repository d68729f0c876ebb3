"""Shared by the faults' tests: a process to run commands in, and a project fresh and finished."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from project import Project, make_project

from faults.warm import Warm


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """A process that runs commands in children of its own."""
    with Warm(tmp_path_factory.mktemp("warm")) as process:
        yield process


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of two steps in which nothing has been run."""
    changes = {"runtime.save_every_epochs": 1, "grid.variants": ["kaizen"]}
    return make_project(tmp_path_factory.mktemp("fresh") / "project", changes)


@pytest.fixture(scope="session")
def finished(fresh: Project, warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same after an undisturbed run."""
    project = fresh.copy(tmp_path_factory.mktemp("finished") / "project")
    ended = warm.kaizen(project, "run")
    assert ended.code == 0, ended.output
    return project
