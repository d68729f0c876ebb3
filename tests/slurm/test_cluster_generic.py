"""profiles/cluster-generic with a scheduler that has PBS's commands (pbs/) and runs jobs on this
machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from project import REPOSITORY

from slurm.conftest import Scenario
from slurm.driver import Grid, until

HERE = Path(__file__).parent


@pytest.fixture
def pbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the scheduler keeps what it was asked for, exit codes and logs."""
    folder = tmp_path / "pbs"
    folder.mkdir()
    monkeypatch.setenv("PBS_FOLDER", str(folder))
    monkeypatch.setenv("PATH", f"{HERE / 'pbs'}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_a_deleted_job_is_submitted_again_and_resumes(
    grid: Grid, pbs: Path, scenario: Scenario
) -> None:
    """A step through submit.sh, status.sh and cancel.sh; it asks for what the rule says, and more
    the second time.
    """
    # The commands are relative to the checkout.
    shutil.copytree(REPOSITORY / "profiles", grid.project.root / "profiles")
    grid.change_profile(
        {"latency-wait": 20, "seconds-between-status-checks": 1}, source="cluster-generic"
    )
    key = grid.project.keys("step")[1]
    run = grid.snakemake(grid.forget(key))
    grid.hold_trainer(key).resume()
    subprocess.run(
        ["profiles/cluster-generic/cancel.sh", "1.local"], cwd=grid.project.root, check=True
    )
    until("submitted again", lambda: len((pbs / "asked").read_text().splitlines()) == 2)
    run.finish()
    first, second = (pbs / "asked").read_text().splitlines()
    assert (
        "-N kaizen-step" in first
        and "select=1:ncpus=1:mem=600mb " in first
        and "walltime=0:10:00" in first
    )
    assert "walltime=0:20:00" in second
    grid.check_made(key)
    scenario(grid, ideal=1)
