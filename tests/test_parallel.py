"""`kaizen run -j N`: the same nodes as one after the other, by processes that can be stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from project import Project

from kaizen.jobs.parallel import most_urgent_first
from kaizen.plan.job import Job, read_job
from kaizen.store.node_id import Kind

SMALL: dict[str, Any] = {
    "grid.variants": ["kaizen", "no_distill"],
    "grid.specialists": False,
    "split.tasks": 2,
    "train.epochs": 2,
}


def bytes_of_nodes(project: Project) -> dict[str, dict[str, bytes]]:
    """Every file of every node, but for how it was made."""
    return {
        str(node): {
            path.name: path.read_bytes()
            for path in sorted(project.store.folder(node).rglob("*"))
            if path.is_file() and path.name != "run.json"
        }
        for node in project.store.entries()
    }


def start(project: Project, count: int = 2) -> subprocess.Popen[str]:
    """`kaizen run -j count` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "kaizen", "run", "-j", str(count)],
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def training(project: Project) -> bool:
    """Whether a step has saved its state."""
    return any((project.store.root / ".work").glob("step-*/*"))


def left_over(project: Project) -> list[psutil.Process]:
    """Processes that still work in a project."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(project.root) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_what_runs_side_by_side_is_the_same_to_the_byte(fresh: Project, tmp_path: Path) -> None:
    one, two = fresh.copy(tmp_path / "one"), fresh.copy(tmp_path / "two")
    for project in (one, two):
        project.set(SMALL)
    assert one.kaizen("run").code == 0
    outcome = two.python("run", "-j", "2")
    assert outcome.code == 0, outcome.output
    made = bytes_of_nodes(one)
    assert bytes_of_nodes(two) == made and len(made) >= 8
    assert two.manifest() == one.manifest()
    # Several processes made them, and none is left.
    pids = {json.loads(path.read_text())["pid"] for path in two.store.root.glob("*/*/run.json")}
    assert len(pids) == len(made)
    # A log by the node's key, and a link to it of a readable name.
    logs = list((two.root / "logs").rglob("*.log"))
    by_key = {path.stem for path in logs if not path.is_symlink()}
    assert by_key == {name.partition("/")[2] for name in made}
    assert len(logs) == 2 * len(by_key)
    assert not left_over(two)
    again = two.python("run", "-j", "3")
    assert again.code == 0 and "done" not in again.output.replace("done already", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_steps_save_and_the_same_command_goes_on(
    fresh: Project, tmp_path: Path, number: signal.Signals
) -> None:
    project, whole = fresh.copy(tmp_path / "project"), fresh.copy(tmp_path / "whole")
    for each in (project, whole):
        each.set(SMALL | {"train.epochs": 20, "runtime.save_every_epochs": 1})
    process = start(project)
    until(lambda: training(project))
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143 and "Traceback" not in output, output
    assert "saved" in output, output
    assert training(project) and not left_over(project)
    project.set({"runtime.save_every_epochs": 10})
    outcome = project.python("run", "-j", "2")
    assert outcome.code == 0, outcome.output
    assert whole.kaizen("run").code == 0
    assert bytes_of_nodes(project) == bytes_of_nodes(whole)


def test_a_killed_run_leaves_no_step_behind(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    project.set(SMALL | {"train.epochs": 3000, "runtime.save_every_epochs": 1})
    process = start(project)
    until(lambda: training(project))
    process.kill()
    process.communicate()
    until(lambda: not left_over(project))
    assert training(project)


def test_a_failure_is_reported_and_what_runs_is_finished(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    project.set(SMALL | {"train.lr": 1e30, "train.warmup_epochs": 0})
    alone = project.python("run")
    together = project.python("run", "-j", "2")
    assert alone.code == together.code == 1
    assert alone.output.splitlines()[-1] == together.output.splitlines()[-1]
    assert "Traceback" not in together.output
    assert project.keys("shards") and not project.keys("step")


def test_a_job_that_is_killed_is_named(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    project.set(SMALL | {"train.epochs": 3000, "runtime.save_every_epochs": 1})
    process = start(project)
    until(lambda: training(project))
    # Of the processes of a run, jobs alone lead sessions of their own.
    (job, *_) = (p for p in left_over(project) if os.getsid(p.pid) == p.pid != process.pid)
    job.kill()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert "was killed by signal 9" in output.splitlines()[-1]


@pytest.mark.parametrize("text", ["0", "257", "-1", "two", "1.5", "", "²"])
def test_a_number_of_jobs_that_nobody_can_mean(fresh: Project, text: str) -> None:
    outcome = fresh.kaizen("run", f"--jobs={text}")
    assert outcome.code == 2
    assert f"argument -j/--jobs: {text!r} is not a number of jobs; give one from 1 to 256" in (
        outcome.output
    )


def test_the_longest_chain_goes_first(fresh: Project) -> None:
    jobs: list[Job[Any]] = [read_job(value, "a test") for value in fresh.plan()]
    ordered = most_urgent_first(jobs)
    places = {job.id: place for place, job in enumerate(ordered)}
    assert len(places) == len(jobs)
    assert all(places[p] < places[job.id] for job in jobs for p in job.inputs.values())
    assert ordered[0].id.kind is Kind.SHARDS and ordered[-1].id.kind is Kind.SUMMARY


def test_a_run_whose_reader_has_gone_is_not_said_to_have_ended_well(
    fresh: Project, tmp_path: Path
) -> None:
    project = fresh.copy(tmp_path / "project")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "kaizen", "run"]
    done = subprocess.run(
        command, cwd=project.root, env=project.environment(), stdout=writing, stderr=writing
    )
    os.close(writing)
    assert done.returncode == 141
    assert len(project.nodes()) < len(project.plan())
