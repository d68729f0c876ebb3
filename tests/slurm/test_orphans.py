"""SIGKILL of the main Snakemake: its jobs go on. A restart waits for them; `kaizen jobs --cancel`
ends them first.
"""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
from project import REPOSITORY

from slurm.conftest import Scenario
from slurm.driver import Grid, Snakemake, starts, trainers, until


def kaizen_jobs(grid: Grid, *arguments: str) -> str:
    environment = os.environ | {
        "KAIZEN_STORE": str(grid.project.store.root),
        "PYTHONPATH": str(REPOSITORY),
    }
    command = [sys.executable, "-m", "kaizen", "jobs", *arguments]
    done = subprocess.run(
        command,
        cwd=grid.project.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def leave_orphan(grid: Grid, key: str) -> tuple[str, Snakemake, psutil.Process]:
    """Kill the snakemake of a step that is being made and held still: its target, itself, and the
    process it left.
    """
    target = grid.forget(key)
    killed = grid.snakemake(target)
    process = grid.hold_trainer(key)
    killed.process.kill()
    killed.process.wait()
    return target, killed, process


def test_a_restart_waits_for_the_orphan(grid: Grid, scenario: Scenario) -> None:
    """The step is made once, by the orphan; the new job finds it finished."""
    key = grid.project.keys("step")[1]
    target, killed, process = leave_orphan(grid, key)
    listed = kaizen_jobs(grid)
    assert killed.job() in listed and key[:8] in listed, listed
    grid.snakemake("--unlock").finish()
    run = grid.snakemake(target)
    waiting = until("the new job at the lock", lambda: len(trainers(key)) == 2 and trainers(key))
    until("it says whom it waits for", lambda: f"slurm job {killed.job()}" in grid.step_log(key))
    process.resume()
    run.finish()
    assert len(waiting) == 2
    assert [start.state for start in starts(killed.job(), *run.jobs)] == ["COMPLETED", "COMPLETED"]
    grid.check_made(key, resumed=False)
    assert "was done already" in grid.step_log(key), "the new job had nothing to do"
    scenario(grid, ideal=1)


def test_cancelled_orphans_are_resumed(grid: Grid, scenario: Scenario) -> None:
    """`kaizen jobs --cancel` ends the orphan, which saves; the restarted workflow resumes it."""
    key = grid.project.keys("step")[1]
    target, killed, process = leave_orphan(grid, key)
    process.resume()
    told = kaizen_jobs(grid, "--cancel")
    assert killed.job() in told, told
    until("the orphan gone", lambda: killed.job() not in kaizen_jobs(grid))
    grid.snakemake("--unlock").finish()
    run = grid.snakemake(target)
    run.finish()
    orphan, again = starts(killed.job(), *run.jobs)
    assert orphan.state.startswith("CANCELLED") and again.state == "COMPLETED"
    grid.check_made(key)
    scenario(grid, ideal=1)
