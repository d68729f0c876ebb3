"""The whole grid through profiles/slurm, what its jobs ask for, and the smoke of two jobs."""

from __future__ import annotations

import shutil
from pathlib import Path

from stream_project import ARRIVALS, RAW, append, make_stream

from kaizen.store.node_id import NodeId
from slurm.conftest import Scenario
from slurm.driver import Grid, job_fields, starts


def test_smoke_two_jobs(grid: Grid, scenario: Scenario) -> None:
    """The shards and the first step: two jobs, one after the other."""
    first = grid.project.keys("step")[0]
    target = grid.forget(first)
    (shards,) = grid.project.keys("shards")
    shutil.rmtree(grid.project.store.folder(NodeId.of("shards", shards)))
    run = grid.snakemake(target)
    run.finish()
    assert [start.state for start in starts(*run.jobs)] == ["COMPLETED"] * 2
    grid.check_made(first, resumed=False)
    scenario(grid, ideal=2)


def test_the_whole_workflow(grid: Grid, scenario: Scenario) -> None:
    """Every node through SLURM: the bytes of the local run; independent steps side by side; short
    jobs in groups.
    """
    shutil.rmtree(grid.project.store.root)
    run = grid.snakemake()
    run.finish()
    assert grid.project.nodes() == grid.reference.nodes()
    assert (grid.project.root / "results/metrics.json").is_file()
    found = starts(*run.jobs)
    assert all(start.state == "COMPLETED" for start in found)
    steps = [start for start in found if start.comment.startswith("rule_step_")]
    assert len(steps) == 3
    _, one, other = steps
    assert one.node != other.node
    assert max(one.began, other.began) < min(one.ended, other.ended), (
        "the two variants train at the same time"
    )
    (evaluations,) = [start for start in found if "evaluations" in start.comment]
    assert "reference" in evaluations.comment
    assert len(found) == 7, "shards, replays, three steps, a group of three evaluations, summary"
    again = grid.snakemake()
    again.finish()
    assert not again.jobs
    scenario(grid, ideal=9)


def test_a_stream_grows(grid: Grid, tmp_path: Path) -> None:
    """Two arrivals, a run of the workflow after each: the second trains one step per run."""
    limits = {"runtime.step_mem_mb": 600, "runtime.step_minutes": 10}
    grid.project = make_stream(tmp_path / "stream", limits, ARRIVALS[:2])
    for number in range(2):
        append(grid.project, number)
        grid.project.start_counting()
        run = grid.snakemake()
        run.finish()
        assert run.jobs, "SLURM ran them"
        made = {"shards": 1, "replay": 1, "step": 2, "evaluation": 2, "summary": 1}
        first = {"shards": 1, "step": 1, "evaluation": 1, "summary": 1}
        assert grid.project.jobs() == (made if number else first)
        shutil.rmtree(grid.project.root / RAW / f"day-{number}")
    grid.project.check_nothing_stale()


def test_requested_resources_reach_slurm(grid: Grid) -> None:
    """What the profile says of the rule `step`, as the controller sees it, and the GPU as the job
    sees it.
    """
    asked = {
        "slurm_partition": "scavenge",
        "slurm_account": "research",
        "runtime": "7 * attempt",
        "mem_mb": 777,
        "cpus_per_task": 2,
        "gres": "gpu:1",
        "gpu": 0,
    }
    grid.change_profile({"set-resources": {"step": asked}})
    key = grid.project.keys("step")[1]
    run = grid.snakemake(grid.forget(key))
    process = grid.hold_trainer(key)
    fields = job_fields(run.job())
    device = process.environ().get("CUDA_VISIBLE_DEVICES")
    process.resume()
    run.finish()
    assert fields["Partition"] == "scavenge"
    assert fields["Account"] == "research"
    assert fields["TimeLimit"] == "00:07:00"
    assert fields["Requeue"] == "1"
    assert (
        "cpu=2" in fields["TRES"]
        and "mem=777M" in fields["TRES"]
        and "gres/gpu=1" in fields["TRES"]
    )
    assert fields["Comment"] == f"rule_step_wildcards_{key}"
    assert fields["JobName"].startswith("kaizen_")
    assert fields["WorkDir"] == str(grid.project.root)
    assert device in ("0", "1")
    grid.check_made(key, resumed=False)


def test_one_step_on_two_nodes(grid: Grid) -> None:
    """`runtime.hosts`: an allocation of two nodes, a torchrun on each by srun, one step; the first
    process writes.
    """
    grid.project.set({"runtime.hosts": 2})
    key = grid.project.keys("step")[0]
    run = grid.snakemake(grid.forget(key))
    run.finish()
    (start,) = starts(*run.jobs)
    assert start.state == "COMPLETED"
    assert start.node == "node[1-2]"
    record = grid.project.store.read_record(NodeId.of("step", key))
    assert record.environment["processes"] == [2]
    assert grid.project.nodes().keys() == grid.reference.nodes().keys(), (
        "how many share a step is in no key"
    )
