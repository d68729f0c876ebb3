"""A running SLURM (cluster/slurm/start.sh), the uninterrupted local run, and the table of what each
scenario cost.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from project import Project, make_project

from slurm.driver import Grid, starts

HERE = Path(__file__).parent
TABLE: list[tuple[str, ...]] = []
Scenario = Callable[..., None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if HERE in item.path.parents]
    reason = why_not() if here else ""
    for item in here:
        item.add_marker(pytest.mark.slurm)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def why_not() -> str:
    """Why these tests cannot run; empty when they can."""
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        return "the extra `cluster` is not installed; `make test-slurm` does it"
    if shutil.which("scontrol") is None:
        return "no SLURM on this machine; `make test-slurm` sets one up"
    ping = subprocess.run(
        ["scontrol", "ping"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return "" if "UP" in ping.stdout else "no slurmctld answers; `make test-slurm` starts one"


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny grid with steps of some ten seconds, made by `kaizen run`, uninterrupted and without
    SLURM.
    """
    changes = {
        "train.epochs": 120,
        "train.warmup_epochs": 1,
        "runtime.save_every_epochs": 1,
        "runtime.step_mem_mb": 600,
        "runtime.step_minutes": 10,
    }
    project = make_project(tmp_path_factory.mktemp("slurm") / "reference", changes)
    made = project.python("run")
    assert made.code == 0, made.output
    return project


@pytest.fixture
def grid(reference: Project, tmp_path: Path) -> Iterator[Grid]:
    """A copy of the finished grid to take a step out of."""
    grid = Grid(reference, tmp_path / "grid")
    yield grid
    grid.end()


@pytest.fixture
def scenario(request: pytest.FixtureRequest) -> Scenario:
    """Note for the table at the end: nodes to make and made, SLURM jobs, how often they started,
    bytes.
    """

    def note(grid: Grid, ideal: int) -> None:
        jobs = [job for run in grid.running for job in run.jobs]
        same = "yes" if grid.same_bytes() else "NO"
        row = (
            request.node.name,
            ideal,
            grid.made(),
            len(jobs) or "–",
            len(starts(*jobs)) if jobs else "–",
            same,
        )
        TABLE.append(tuple(map(str, row)))
        assert grid.made() == ideal

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TABLE:
        terminalreporter.section("what each scenario cost")
        rows = [
            ("scenario", "nodes to make", "nodes made", "SLURM jobs", "their starts", "same bytes"),
            *TABLE,
        ]
        for row in rows:
            terminalreporter.write_line("| " + " | ".join(row) + " |")
