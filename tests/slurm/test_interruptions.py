"""A training step that SLURM interrupts, in every way it has, resumes and ends with the bytes of an
undisturbed run.
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import psutil
import pytest

from kaizen.store.node_id import NodeId
from slurm.conftest import Scenario
from slurm.driver import Grid, ask, has_got_term, job_fields, starts, until

START = Path(__file__).parents[2] / "cluster/slurm/start.sh"


def test_time_limit(grid: Grid, scenario: Scenario) -> None:
    """SIGTERM comes before the limit, the step saves, and the retry has twice the time."""
    grid.change_profile({"default-resources": {"slurm_extra": "'--signal=TERM@15'"}})
    grid.project.set({"runtime.step_minutes": 2})
    key = grid.project.keys("step")[1]
    run = grid.snakemake(grid.forget(key))
    process = grid.hold_trainer(key)
    assert job_fields(run.job())["TimeLimit"] == "00:02:00"
    until("SIGTERM before the time limit", lambda: has_got_term(process), 130)
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()
    assert job_fields(run.job(1))["TimeLimit"] == "00:04:00"
    run.finish()
    # Not TIMEOUT: it ended by itself, in time.
    assert [start.state for start in starts(*run.jobs)] == ["FAILED", "COMPLETED"]
    grid.check_made(key)
    scenario(grid, ideal=1)


def test_scancel(grid: Grid, scenario: Scenario) -> None:
    """A job that somebody cancels is submitted again and resumes."""
    key = grid.project.keys("step")[1]
    run = grid.snakemake(grid.forget(key))
    grid.hold_trainer(key).resume()
    ask("scancel", run.job())
    run.finish()
    first, second = starts(*run.jobs)
    assert first.state.startswith("CANCELLED") and second.state == "COMPLETED"
    grid.check_made(key)
    scenario(grid, ideal=1)


@pytest.mark.parametrize(
    "partition", ["normal", "scavenge"], ids=["with a grace period", "without one"]
)
def test_preemption(grid: Grid, scenario: Scenario, partition: str) -> None:
    """Jobs of a higher partition take both nodes; the step saves and goes on when they are gone."""
    grid.change_profile({"set-resources": {"step": {"slurm_partition": partition}}})
    key = grid.project.keys("step")[1]
    run = grid.snakemake(grid.forget(key))
    process = grid.hold_trainer(key)
    submit = [
        "sbatch",
        "--parsable",
        "--partition=high",
        "--nodes=2",
        "--exclusive",
        "--mem=100",
        "--time=1",
    ]
    other = ask(*submit, "--output=/dev/null", "--wrap=sleep 5").strip()
    try:
        until(
            "the higher job runs",
            lambda: job_fields(other)["JobState"] in ("RUNNING", "COMPLETED"),
            120,
        )
        assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        run.finish()
    finally:
        subprocess.run(["scancel", other], check=False)
    found = starts(*run.jobs)
    assert len(found) == 2 and found[1].state == "COMPLETED"
    if partition == "scavenge":
        assert len(run.jobs) == 1, "SLURM itself puts the job back into the queue"
    grid.check_made(key)
    scenario(grid, ideal=1)


def test_node_dies(grid: Grid, scenario: Scenario) -> None:
    """slurmd, slurmstepd and the job are gone at once: SLURM starts the job on the other node, and
    it resumes.
    """
    key = grid.project.keys("step")[1]
    run = grid.snakemake(grid.forget(key))
    process = grid.hold_trainer(key)
    node = job_fields(run.job())["NodeList"]
    victims = [slurmd_of(node), *stepds_of(run.job())]
    victims += [child for victim in victims[1:] for child in victim.children(recursive=True)]
    assert process in victims
    try:
        for victim in victims:
            victim.kill()
        run.finish()
    finally:
        subprocess.run([str(START)], check=True)
    found = starts(*run.jobs)
    assert [start.state for start in found] == ["NODE_FAIL", "COMPLETED"]
    assert found[0].node == node != found[1].node
    assert len(run.jobs) == 1
    grid.check_made(key)
    scenario(grid, ideal=1)


def test_a_surviving_twin_is_fenced(grid: Grid, scenario: Scenario) -> None:
    """Only slurmd dies; the job goes on unseen while SLURM starts it again elsewhere: the older one
    must give way.
    """
    key = grid.project.keys("step")[1]
    run = grid.snakemake(grid.forget(key))
    survivor = grid.hold_trainer(key)
    node = job_fields(run.job())["NodeList"]
    stepds = stepds_of(run.job())
    lock = grid.project.store.root / ".locks" / f"step-{key}"
    before = lock.read_text()
    try:
        slurmd_of(node).kill()
        until(
            "SLURM starts the job again", lambda: job_fields(run.job()).get("Restarts") == "1", 120
        )
        until("the new twin takes the lock over", lambda: lock.read_text() != before, 240)
        epoch = grid.epoch(key)
        survivor.resume()
        _, alive = psutil.wait_procs([survivor], timeout=60)
        assert not alive
        run.finish()
        assert grid.project.store.has(NodeId.of("step", key))
        assert epoch >= 3
    finally:
        for stepd in stepds:
            if stepd.is_running():
                stepd.kill()
        subprocess.run([str(START)], check=True)
    assert len(run.jobs) == 1
    grid.check_made(key)
    scenario(grid, ideal=1)


def slurmd_of(node: str) -> psutil.Process:
    """The daemon of a node."""
    (found,) = [
        p
        for p in psutil.process_iter(["name", "cmdline"])
        if p.info["name"] == "slurmd" and node in p.info["cmdline"]
    ]
    return found


def stepds_of(job: str) -> list[psutil.Process]:
    """The processes that supervise a job's steps."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if line.startswith("slurmstepd") and f"[{job}." in line:
            found.append(process)
    return found
