"""`kaizen watch`: a grid as it is being made, from what the store shows."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, commit_fake, make_plan, tree
from project import Project, make_project
from rich.cells import cell_len

from kaizen.jobs.grid import Grid, Picture
from kaizen.jobs.grid_lines import Changes, grid_lines, sparkline
from kaizen.plan.job import Job
from kaizen.store.node_id import Kind
from kaizen.store.store import Store
from kaizen.training.reporter import EpochEnd, PlainReporter, reporter
from kaizen.training.traces import Row, Traces

PLAN = make_plan({"grid.variants": ["kaizen", "no_distill"], "grid.specialists": False})
JOBS = [node.job() for node in PLAN.nodes.values()]
STEPS = [job for job in JOBS if job.id.kind is Kind.STEP]


def report(store: Store, job: Job[Any], epochs: int) -> Traces:
    """What a job that trains so many of 30 epochs leaves."""
    traces = Traces(PlainReporter("", None, None), store.work_folder(job.id))
    for epoch in range(1, epochs + 1):
        traces.epoch(EpochEnd(epoch, 30, {"L": 5.0 - epoch}, 0.1, 1234.5))
    return traces


def finish(store: Store, *jobs: Job[Any]) -> None:
    for job in jobs:
        commit_fake(store, PLAN.nodes[job.id.key])


def text(picture: Picture, width: int = 80, height: int = 50) -> str:
    lines = grid_lines(picture, width, height)
    return "\n".join("".join(part for part, _ in line) for line in lines)


def test_what_runs_is_known_by_its_lock_and_how_far_it_is_by_its_rows(tmp_path: Path) -> None:
    store = Store(tmp_path)
    grid = Grid(JOBS, store, at_once=1)
    assert str(grid.look().left).startswith("no estimate yet")
    finish(store, JOBS[0])
    with store.lock(STEPS[0].id, title=STEPS[0].title):
        report(store, STEPS[0], 4)
        picture = grid.look()
    (running,) = picture.running
    assert running.job is STEPS[0] and [row.epoch for row in running.rows] == [1, 2, 3, 4]
    assert running.left is not None
    assert picture.finished == {JOBS[0].id} and not picture.failed
    assert len(picture.waiting) == len(JOBS) - 2
    shown = text(picture)
    assert f"1 of {len(JOBS)} nodes done" in shown
    assert f"1 running, {len(JOBS) - 2} waiting" in shown
    assert (
        "epoch 4/30" in shown
        and "█▆▃▁" in shown
        and "L 1.000" in shown
        and "1234 images/s" in shown
    )
    after = grid.look()
    assert not after.running and after.stopped[0].job is STEPS[0]
    assert "stopped after epoch 4 of 30" in text(after)


def test_a_failed_node_is_shown_with_its_reason_and_what_waits_for_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    grid = Grid(JOBS, store)
    finish(store, JOBS[0])
    report(store, STEPS[0], 2).failed(RuntimeError("a loss is not finite\x1b[2J"))
    picture = grid.look()
    assert [one.reason for one in picture.failed] == ["a loss is not finite�[2J"]
    behind = [
        j for j in JOBS if j.id.kind in (Kind.STEP, Kind.EVALUATION, Kind.REFERENCE, Kind.SUMMARY)
    ]
    assert picture.blocked == len(behind) - 1
    assert "1 failed, for which" in text(picture) and "a loss is not finite" in text(picture)
    with store.lock(STEPS[0].id):
        Traces(PlainReporter("", None, None), store.work_folder(STEPS[0].id))
        assert not grid.look().failed


def test_a_process_of_another_host_counts_while_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where locks do not reach across hosts, a lock's file and fresh rows say who runs."""
    store = Store(tmp_path)
    grid = Grid(JOBS, store)
    report(store, STEPS[0], 3)
    with store.lock(STEPS[0].id):
        held = store.lock_file(STEPS[0].id).read_text()
    facts = json.loads(held) | {"machine": "another", "host": "node7"}
    store.lock_file(STEPS[0].id).write_text(json.dumps(facts))
    assert [one.holder.host for one in grid.look().running] == ["node7"]
    now = time.time()
    monkeypatch.setattr("kaizen.jobs.grid.time.time", lambda: now + 1000)
    assert not grid.look().running


@pytest.mark.parametrize("width", [20, 40, 80, 129, 130, 160])
@pytest.mark.parametrize("height", [6, 12, 50])
def test_a_picture_fits(tmp_path: Path, width: int, height: int) -> None:
    store = Store(tmp_path)
    jobs = [dataclasses.replace(job, title=f"{job.title} · 図書館の猫" * 3) for job in JOBS]
    steps = [job for job in jobs if job.id.kind is Kind.STEP]
    grid = Grid(jobs, store)
    with store.lock(steps[0].id), store.lock(steps[1].id), store.lock(steps[2].id):
        report(store, steps[0], 20)
        report(store, steps[3], 1).failed(RuntimeError("out of memory; " * 30))
        lines = grid_lines(grid.look(), width, height)
    assert len(lines) <= height
    assert max(sum(cell_len(part) for part, _ in line) for line in lines) <= width


def test_sparks_go_from_the_lowest_to_the_highest() -> None:
    def rows(*losses: float) -> list[Row]:
        return [Row(i + 1, 99, 0, 0, 0, 0, {"L": loss}) for i, loss in enumerate(losses)]

    assert sparkline(rows(8, 7, 6, 5, 4, 3, 2, 1)) == "█▇▆▅▄▃▂▁"
    assert sparkline(rows(*range(99, 0, -1))) in ("██▇▆▆▅▄▃▃▂▁▁", "█▇▇▆▅▅▄▄▃▂▂▁")
    assert sparkline(rows(3, 3, 3)) == "▁▁▁" and sparkline([]) == ""


def test_without_a_terminal_each_change_is_a_line(tmp_path: Path) -> None:
    store = Store(tmp_path)
    grid, changes = Grid(JOBS, store), Changes(lambda job: 1.5)
    first = list(changes.lines(grid.look()))
    assert len(first) == 1 and first[0].startswith(
        f"0 of {len(JOBS)} nodes done, {len(JOBS)} waiting; no "
    )
    assert list(changes.lines(grid.look())) == []
    with store.lock(JOBS[0].id):
        (started,) = changes.lines(grid.look())
    assert started.startswith(f"running: {JOBS[0].title} (")
    finish(store, JOBS[0])
    done, total = changes.lines(grid.look())
    assert done == f"done: {JOBS[0].title}, 2 s"
    assert total.startswith(f"1 of {len(JOBS)} nodes done")
    report(store, STEPS[0], 1).failed(RuntimeError("no"))
    assert list(changes.lines(grid.look())) == [f"failed: {STEPS[0].title}: no"]


def test_the_command_shows_a_project_and_changes_nothing(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    project.kaizen("plan").good()
    before = tree(project.root)
    shown = project.kaizen("watch", "--once").good()
    assert "0 of 9 nodes done" in shown and "no estimate yet" in shown
    assert tree(project.root) == before
    project.kaizen("run").good()
    shown = project.kaizen("watch", "--once").good()
    assert "9 of 9 nodes done" in shown and "100 %" in shown
    # It ends by itself where nothing is left, as lines here.
    assert project.kaizen("watch").good().endswith("9 of 9 nodes done\n")
    plan = tmp_path / "plan.json"
    plan.write_text(project.kaizen("plan", "--json").good())
    named = project.kaizen("watch", "--once", "--plan", str(plan)).good()
    assert "9 of 9 nodes done" in named


def test_a_run_on_a_terminal_of_80_columns_shows_epochs_and_time(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", {"grid.variants": ["no_distill"], "train.epochs": 200})
    shown = on_a_terminal([sys.executable, "-m", "kaizen", "run", "--jobs", "2"], project)
    # What moves the cursor begins another line; colours are none.
    lines = re.split(r"[\r\n]|\x1b\[[0-9;?]*[A-LN-Za-ln-z]", shown)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    # A link to a figure in the table's list may be longer.
    until = next(place for place, line in enumerate(lines) if "Variant" in line)
    assert max(cell_len(line) for line in lines[:until]) <= 80
    assert any("of 6 nodes done ━" in line for line in lines)
    assert any(re.search(r"step 0 .* epoch \d+/200 .* left", line) for line in lines), shown
    assert any("images/s" in line and "process" in line for line in lines)


def on_a_terminal(command: list[str], project: Project) -> str:
    """What a command that must succeed writes to a terminal of 80 columns and 24 lines."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = project.environment() | {"TERM": "xterm", "PYTHONPATH": str(REPOSITORY)}
    environment.pop("COLUMNS", None)
    started = subprocess.Popen(
        command, cwd=project.root, env=environment, stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    written = b""
    # Reading fails once nobody has the other side open.
    with contextlib.suppress(OSError):
        while piece := os.read(ours, 1 << 16):
            written += piece
    os.close(ours)
    assert started.wait() == 0, written.decode()
    return written.decode()


def test_watching_imports_no_torch(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    code = (
        "import sys; from kaizen import cli; code = cli.main(['watch', '--once']); "
        "sys.exit(code or ('torch' in sys.modules) * 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.root,
        env=project.environment() | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_quiet_reporter_tells_what_is_a_cause_for_concern(tmp_path: Path) -> None:
    stream, log = io.StringIO(), tmp_path / "step.log"
    with reporter("step 1", log, stream, quiet=True) as quiet:
        quiet.note("cpu, float32, 1 thread")
        quiet.epoch(EpochEnd(1, 2, {"L": 1.0}, 0.1, 10.0))
        quiet.alarm("waits for process 7 of root on vm, since now, which is making the same node")
        quiet.alarm("/x/resume.safetensors cannot be used (its content does not match its hash)")
        quiet.note("done")
        quiet.alarm("a loss is not finite")
    told = stream.getvalue().splitlines()
    assert [line.split()[2] for line in told] == ["waits", "/x/resume.safetensors", "a"]
    assert len(log.read_text().splitlines()) == 6
    assert (tmp_path / "step-1.log").readlink() == Path("step.log")


def test_a_readable_name_takes_no_other_files_place(tmp_path: Path) -> None:
    mine = tmp_path / "step-1-a.log"
    mine.write_text("mine")
    with reporter("step 1 · a", tmp_path / "k.log", None) as job:
        job.note("new")
    assert mine.read_text() == "mine"
    for key in ("one", "two"):
        with reporter("b/../c", tmp_path / f"{key}.log", None) as job:
            job.note(key)
    assert (tmp_path / "b-..-c.log").read_text() == "b/../c: two\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "b-..-c.log",
        "k.log",
        "one.log",
        "step-1-a.log",
        "two.log",
    ]
