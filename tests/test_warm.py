"""The warm process of a Snakemake: its jobs do as jobs do that know of none, and say so."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from project import Project

from kaizen.files import canonical_json, read_json, write_json
from kaizen.jobs.ask import VARIABLE, ask
from kaizen.jobs.warm import remove_left
from kaizen.jobs.warm import start as start_warm
from kaizen.plan.job import read_job
from kaizen.store.processes import this_process

SMALL: dict[str, Any] = {
    "grid.variants": ["kaizen"],
    "grid.specialists": False,
    "split.tasks": 2,
    "train.epochs": 2,
}


@pytest.fixture
def project(fresh: Project, tmp_path: Path) -> Project:
    """A project in which nothing has been run."""
    return fresh.copy(tmp_path / "project")


@pytest.fixture
def warm(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[psutil.Process]:
    """A warm process for the jobs of a project, which have it in their environment."""
    place = tmp_path_factory.mktemp("w") / "s"
    project.variables |= {"OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, "-m", "kaizen", "warm", str(place)],
        env=project.environment() | {"PYTHONUTF8": "1"},
        start_new_session=True,
    )
    project.variables[VARIABLE] = str(place)
    until(place.exists)
    yield psutil.Process(server.pid)
    server.kill()
    server.wait()


def until(condition: Any) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def command(project: Project, spec: dict[str, Any], receipt: Path) -> list[str]:
    """A job as the rules start it, its specification in a file."""
    node = read_job(spec, "the job").id
    given = project.root / f"{node.file_name}.json"
    given.write_text(canonical_json(spec))
    store = ("--store", str(project.store.root), "--receipt", str(receipt))
    job = ("node", *store, "--log", str(project.root / "log"), "--spec", f"@{given}")
    return [sys.executable, "-m", "kaizen", *job]


def first_step(project: Project) -> dict[str, Any]:
    """The specification of step 0, whose shards are made."""
    project.set(SMALL)
    nodes = project.plan()
    shards = next(node for node in nodes if node["kind"] == "shards")
    outcome = project.process(*command(project, shards, project.root / "shards.json"))
    assert outcome.code == 0, outcome
    return next(node for node in nodes if node["kind"] == "step" and node["title"].count("step 0"))


def start(project: Project, arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments,
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_job_is_made_by_a_fork_of_the_warm_process(
    project: Project, warm: psutil.Process, tmp_path: Path
) -> None:
    spec = first_step(project)
    alone = project.copy(tmp_path / "alone")
    receipt = project.root / "step.json"
    job = start(project, command(project, spec, receipt))
    until(lambda: warm.children())
    assert [child.ppid() for child in warm.children()] == [warm.pid]
    output, _ = job.communicate()
    assert job.returncode == 0, output
    # It says in the job's own output what a job says.
    assert output.rstrip().endswith("done")
    made = project.store.folder(read_job(spec, "the job").id)
    assert read_json(made / "run.json")["pid"] != job.pid
    assert read_json(receipt)["key"] == spec["key"]
    outcome = alone.process(*command(alone, spec, alone.root / "step.json"))
    assert outcome.code == 0, outcome
    for path in alone.store.folder(read_job(spec, "the job").id).iterdir():
        if path.name != "run.json":
            assert path.read_bytes() == (made / path.name).read_bytes(), path.name


def test_bad_input_is_said_in_one_line_with_exit_code_2(
    project: Project, warm: psutil.Process
) -> None:
    spec = first_step(project)
    spec["inputs"] = {role: parent | {"key": "0" * 32} for role, parent in spec["inputs"].items()}
    outcome = project.process(*command(project, spec, project.root / "step.json"))
    assert outcome.code == 2
    assert "Traceback" not in outcome.output
    assert not (project.root / "step.json").exists()


def test_a_stopped_job_saves_and_says_143(project: Project, warm: psutil.Process) -> None:
    first_step(project)
    project.set({"train.epochs": 2000})
    spec = next(n for n in project.plan() if n["kind"] == "step" and n["title"].count("step 0"))
    job = start(project, command(project, spec, project.root / "step.json"))
    until(lambda: any((project.store.root / ".work").glob("step-*/*")))
    job.send_signal(signal.SIGTERM)
    output, _ = job.communicate(timeout=120)
    assert job.returncode == 143, output
    assert not warm.children()


def test_the_end_of_the_warm_process_ends_no_job(project: Project, warm: psutil.Process) -> None:
    spec = first_step(project)
    receipt = project.root / "step.json"
    job = start(project, command(project, spec, receipt))
    until(lambda: warm.children())
    warm.kill()
    output, _ = job.communicate(timeout=240)
    assert job.returncode == 0, output
    assert receipt.exists()
    # What comes after does its work itself.
    receipt.unlink()
    outcome = project.process(*command(project, spec, receipt))
    assert outcome.code == 0
    assert "was done already" in outcome.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["node", "--spec", "@/store/.specs/shards-0.json"],
        ["node", "--spec", '{"kind": "step"}'],
        ["node"],
        ["run"],
        [],
    ],
)
def test_only_jobs_that_import_torch_ask(arguments: list[str], tmp_path: Path) -> None:
    place = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        listener.setblocking(False)
        assert ask(arguments, {VARIABLE: str(place)}) is None
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_without_a_warm_process_a_job_asks_nobody(tmp_path: Path) -> None:
    job = ["node", "--spec", "@/store/.specs/step-0.json"]
    assert ask(job, {}) is None
    assert ask(job, {VARIABLE: str(tmp_path / "gone")}) is None
    # One that hangs up: as where it was started with other threads or another Python.
    place = tmp_path / "s"
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException), socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place))
            listener.listen()
            listener.accept()[0].close()
        os._exit(0)
    until(place.exists)
    time.sleep(0.1)
    assert ask(job, {VARIABLE: str(place)}) is None
    os.waitpid(child, 0)


def test_a_job_with_other_threads_is_declined(project: Project, warm: psutil.Process) -> None:
    spec = first_step(project)
    project.variables["OMP_NUM_THREADS"] = "2"
    job = start(project, command(project, spec, project.root / "step.json"))
    output, _ = job.communicate()
    assert job.returncode == 0, output
    made = project.store.folder(read_job(spec, "the job").id)
    assert read_json(made / "run.json")["pid"] == job.pid


def test_without_a_temporary_folder_there_is_no_warm_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(**options: Any) -> str:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("kaizen.jobs.warm.tempfile.mkdtemp", refused)
    monkeypatch.setattr("kaizen.jobs.warm.use_a_gpu", lambda specs: False)
    monkeypatch.delenv(VARIABLE, raising=False)
    job: Any = SimpleNamespace(kind="step", spec=None)
    start_warm([job, job], 1)
    assert VARIABLE not in os.environ


def left_folder(temporary: Path, name: str, **owner: Any) -> Path:
    """A folder as a warm process has it, of this process but for what ``owner`` says."""
    folder = temporary / f"kaizen-warm-{name}"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
    write_json(folder / "owner.json", dataclasses.asdict(this_process()) | owner)
    return folder


def test_what_a_killed_snakemake_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    dead = {"started": "1"}
    gone = left_folder(tmp_path, "gone", **dead)
    bare = left_folder(tmp_path, "bare", **dead)
    (bare / "socket").unlink()
    kept = [
        left_folder(tmp_path, "alive"),
        left_folder(tmp_path, "elsewhere", machine="another", **dead),
        left_folder(tmp_path, "strange", pid="7", **dead),
        left_folder(tmp_path, "more", **dead),
        left_folder(tmp_path, "unowned", **dead),
        tmp_path / "kaizen-warm-file",
        tmp_path / "kaizen-warm-link",
        tmp_path / "other",
    ]
    (kept[3] / "mine.txt").write_text("mine")
    (kept[4] / "owner.json").write_text("[]")
    kept[5].write_text("mine")
    kept[7].mkdir()
    inside = left_folder(kept[7], "x", **dead)
    kept[6].symlink_to(inside)
    remove_left(tmp_path)
    assert not gone.exists() and not bare.exists()
    assert all(os.path.lexists(path) for path in kept)
    assert (kept[3] / "mine.txt").exists() and (kept[3] / "owner.json").exists()
    assert sorted(path.name for path in inside.iterdir()) == ["owner.json", "socket"]
    remove_left(tmp_path / "nothing")


def test_a_killed_snakemakes_folder_goes_with_the_next_start(
    project: Project, tmp_path: Path
) -> None:
    project.set(SMALL)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    project.variables["TMPDIR"] = str(temporary)
    run = subprocess.Popen(
        project.snakemake_command(),
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: list(temporary.glob("kaizen-warm-*/socket")))
    run.kill()
    run.wait()
    (left,) = temporary.glob("kaizen-warm-*")
    assert (left / "owner.json").exists()
    remove_left(temporary)
    assert not left.exists()
