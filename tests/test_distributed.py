"""A step that several processes share comes to what one process comes to; how it starts, stops,
fails and resumes.

Started by the real `torchrun`, on CPUs with Gloo. A start costs many seconds, so one does for all
methods.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from project import Project, make_project, node_command
from pyarrow.parquet import read_table
from safetensors.torch import load_file
from shared_training import CASES, NORMS, Case, normalise, train
from torch import Tensor

from kaizen.store.node_id import NodeId
from kaizen.training.resume import FILE

# Largest difference of a loss term and of a weight, relative to the largest of its tensor or 1
# (docs/running.md). In float64 what is computed is seen to be the same; float32 shows the rounding,
# which every update carries on.
TOLERANCE = {"float64": (1e-12, 1e-11), "float32": (5e-5, 1e-3), "bfloat16": (2e-2, 0.5)}
# The first of 30 epochs differ by rounding alone; later some ReLU lets a gradient through in one
# training and not in the other.
AFTER_ALL_EPOCHS = 0.1


def difference(one: Tensor, two: Tensor) -> float:
    assert one.shape == two.shape
    if not one.numel():
        return 0.0
    one, two = one.double(), two.double()
    return float((one - two).abs().max()) / max(1.0, float(two.abs().max()))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made of all cases: one start for all of them."""
    folder = tmp_path_factory.mktemp("shared")
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    environment = os.environ | {
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [*torchrun, str(REPOSITORY / "tests" / "shared_training.py"), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_two_processes_train_as_one(case: Case, shared: Path, tmp_path: Path) -> None:
    alone = train(case, tmp_path)
    first, second = (load_file(shared / f"{case.name}.{rank}") for rank in (0, 1))
    assert torch.equal(torch.cat([first.pop("views"), second.pop("views")]), alone.pop("views"))
    for_terms, for_weights = TOLERANCE[case.precision]
    assert difference(first["terms"], alone["terms"]) < for_terms
    assert first.keys() == second.keys() == alone.keys()
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), f"{name} differs between the processes"
        assert difference(first[name], value) < for_weights, name


def test_the_same_number_of_processes_makes_the_same_bits(shared: Path) -> None:
    once, again = load_file(shared / f"{CASES[0].name}.0"), load_file(shared / "again.0")
    assert all(torch.equal(once[name], again[name]) for name in once)


@pytest.mark.parametrize("name", NORMS)
def test_a_shared_batch_norm_is_that_of_all_rows(name: str, shared: Path) -> None:
    alone = normalise(name)
    parts = [load_file(shared / f"{name}.{rank}") for rank in (0, 1)]
    # Values around 1000 have steps of 6e-5 in float32.
    tolerance = 5e-4 if name == "far from zero" else 1e-13
    for key, value in alone.items():
        found = torch.cat([part[key] for part in parts]) if key[0].isdigit() else parts[0][key]
        assert difference(found, value) < tolerance, key


def test_processes_that_drift_apart_are_reported(shared: Path) -> None:
    for rank in (0, 1):
        told = (shared / f"disagreement.{rank}").read_text()
        assert told.startswith("in a test: process 1 (from 0) has other weights than process 0")


class SharedStep:
    """A tiny project with all nodes made by one process, and copies of it where one step is made
    again.
    """

    def __init__(self, root: Path) -> None:
        changes = {
            "grid.variants": ["kaizen"],
            "grid.methods": ["byol"],
            "ssl.byol": {"projector_hidden": 16, "projector_out": 8, "predictor_hidden": 12},
            "train.epochs": 30,
            "train.lr": 0.1,
            "train.batch_size": 7,
            "runtime.save_every_epochs": 1,
        }
        self.root = root
        self.alone = make_project(root / "alone", changes)
        done = self.alone.kaizen("run")
        assert done.code == 0, done.output
        nodes = json.loads(self.alone.kaizen("plan", "--json").output)["nodes"]
        self.spec = next(node for node in nodes if node["title"].startswith("step 1"))

    def copy(self, name: str, of: Project | None = None) -> Project:
        """An independent copy, of the project without the step unless it is kept."""
        project = (of or self.alone).copy(self.root / name)
        if of is None:
            # And without the published tree, from which the workflow would take the step back.
            published = [str(project.root / name) for name in ("data", "results")]
            subprocess.run(["rm", "--recursive", str(self.folder(project)), *published], check=True)
        return project

    def folder(self, project: Project) -> Path:
        return project.store.folder(NodeId.of("step", self.spec["key"]))

    def state(self, project: Project) -> Path:
        return project.store.work_folder(NodeId.of("step", self.spec["key"])) / FILE

    def start(self, project: Project, processes: int) -> subprocess.Popen[str]:
        """Start the step's job as the workflow does."""
        changes = {"save_every_epochs": 1, "processes": processes, "hosts": 1}
        spec = self.spec | {"local": self.spec["local"] | changes}
        command = node_command(project.store.root, spec)
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [*command, "--log", "step.log"],
            cwd=project.root,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def make(self, project: Project, processes: int) -> str:
        job = self.start(project, processes)
        errors = job.communicate()[1]
        assert job.returncode == 0, errors
        return errors

    def result(self, project: Project) -> dict[str, bytes]:
        return {
            name: (self.folder(project) / name).read_bytes()
            for name in ("model.safetensors", "history.parquet")
        }

    def processes(self, project: Project) -> list[int]:
        """Who has trained it, by the record."""
        record = project.store.read_record(NodeId.of("step", self.spec["key"]))
        found: list[int] = record.environment["processes"]
        return found

    def last_processes(self, project: Project) -> int:
        """How many have finished it, by run.json."""
        run = project.store.read_run_record(NodeId.of("step", self.spec["key"]))
        assert run is not None
        count: int = run["processes"]
        return count

    def wait_for_state(self, project: Project, job: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 300
        while not self.state(project).exists():
            assert job.poll() is None, job.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def workers(self, project: Project, torchrun: bool = False) -> list[int]:
        """The running processes that train the project's step, by their command lines; with
        torchrun's if wanted.
        """
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            ours = any(word.startswith(bytes(project.store.root)) for word in words)
            if (
                ours
                and b"kaizen.jobs.worker" in words
                and (torchrun or b"torch.distributed.run" not in words)
            ):
                found.append(int(folder.name))
        return sorted(found)

    def losses(self, project: Project) -> list[float]:
        """Of every epoch."""
        found: list[float] = read_table(self.folder(project) / "history.parquet")["L"].to_pylist()
        return found

    def differences(self, one: Project, two: Project) -> float:
        first, second = (
            load_file(self.folder(project) / "model.safetensors") for project in (one, two)
        )
        assert first.keys() == second.keys()
        return max(difference(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> SharedStep:
    return SharedStep(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def two(work: SharedStep) -> Project:
    """The step made by two processes without interruption."""
    project = work.copy("two")
    errors = work.make(project, 2)
    assert errors.count("2 processes, cpu, float32, 1 thread") == 1
    return project


@pytest.fixture(scope="module")
def interrupted(work: SharedStep) -> Project:
    """The step stopped by SIGTERM while two processes trained it."""
    project = work.copy("interrupted")
    job = work.start(project, 2)
    work.wait_for_state(project, job)
    job.send_signal(signal.SIGTERM)
    errors = job.communicate()[1]
    assert job.returncode == 143, errors
    assert errors.count("the same command resumes it") == 1
    assert "Traceback" not in errors
    assert work.workers(project) == []
    return project


def test_a_job_of_two_processes_makes_the_node_as_one_does(work: SharedStep, two: Project) -> None:
    assert work.processes(work.alone) == [1]
    assert work.processes(two) == [2]
    assert (work.last_processes(work.alone), work.last_processes(two)) == (1, 2)
    first, second = (work.losses(project)[:3] for project in (two, work.alone))
    assert first == pytest.approx(second, abs=TOLERANCE["float32"][0])
    assert work.differences(two, work.alone) < AFTER_ALL_EPOCHS
    log = (two.root / "step.log").read_text().splitlines()
    assert sum("epoch 7/30 " in line for line in log) == 1, "the first process alone tells"
    assert two.leftovers() == []
    assert not work.state(two).exists()
    assert two.nodes().keys() == work.alone.nodes().keys()


def test_an_interrupted_step_ends_with_the_same_bytes(
    work: SharedStep, two: Project, interrupted: Project
) -> None:
    project = work.copy("resumed by two", interrupted)
    assert "resumes at epoch" in work.make(project, 2)
    assert work.result(project) == work.result(two)
    assert work.processes(project) == [2]


def test_one_process_goes_on_where_two_were_stopped(work: SharedStep, interrupted: Project) -> None:
    project = work.copy("resumed by one", interrupted)
    errors = work.make(project, 1)
    assert "resumes at epoch" in errors
    assert "was trained by 2 processes, goes on with 1: the same up to rounding" in errors
    assert work.processes(project) == [2, 1]
    assert work.differences(project, work.alone) < AFTER_ALL_EPOCHS


@pytest.mark.slow
def test_three_processes_go_on_where_two_were_stopped(
    work: SharedStep, interrupted: Project
) -> None:
    """And are stopped too, by a signal to every process at once, as SLURM sends it."""
    project = work.copy("resumed by three", interrupted)
    before = work.state(project).read_bytes()
    job = work.start(project, 3)
    while work.state(project).read_bytes() == before:
        assert job.poll() is None, job.communicate()
        time.sleep(0.01)
    for process in (job.pid, *work.workers(project, torchrun=True)):
        os.kill(process, signal.SIGTERM)
    errors = job.communicate()[1]
    assert job.returncode == 143, errors
    assert "was trained by 2 processes, goes on with 3" in errors
    assert "goes on with" not in work.make(project, 3)
    assert work.processes(project) == [2, 3]
    assert work.differences(project, work.alone) < AFTER_ALL_EPOCHS


def test_a_killed_process_ends_the_others_and_loses_nothing_saved(work: SharedStep) -> None:
    project = work.copy("killed")
    job = work.start(project, 2)
    work.wait_for_state(project, job)
    os.kill(work.workers(project)[1], signal.SIGKILL)
    errors = job.communicate()[1]
    assert job.returncode == 1, errors
    assert "a process of those that share the step died" in errors
    assert "SIGKILL" in errors, "torchrun's report is passed on"
    assert work.workers(project) == []
    assert work.state(project).exists()
    assert not work.folder(project).exists() or not any(work.folder(project).iterdir())


@pytest.mark.slow
def test_no_process_outlives_a_killed_job(work: SharedStep) -> None:
    project = work.copy("job killed")
    job = work.start(project, 2)
    work.wait_for_state(project, job)
    assert len(work.workers(project)) == 2
    job.kill()
    job.communicate()
    deadline = time.monotonic() + 60
    while work.workers(project) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert work.workers(project) == []


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_all_with_one_message(tmp_path: Path) -> None:
    project = make_project(
        tmp_path, {"runtime.processes": 2, "train.lr": 1e30, "train.optimizer": "sgd"}
    )
    done = project.python("run")
    assert done.code == 1
    assert done.output.count("not finite in epoch 1") == 1
    assert "Traceback" not in done.output


@pytest.mark.slow
def test_snakemake_trains_with_two_processes(work: SharedStep) -> None:
    project = work.copy("snakemake")
    project.set({"runtime.processes": 2})
    done = project.snakemake("--cores", "2")
    assert done.code == 0, done.output
    assert work.processes(project) == [2]
    assert work.differences(project, work.alone) < AFTER_ALL_EPOCHS
    assert "Nothing to be done" in project.snakemake().output


@pytest.mark.slow
def test_two_hosts_share_a_step(
    work: SharedStep, two: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On this machine alone: a stand-in for `srun` starts torchrun twice, and they find each other
    as on two hosts.
    """
    srun = tmp_path / "srun"
    srun.write_text(
        '#!/bin/sh\nwhile [ "$1" != --kill-on-bad-exit=1 ]; do shift; done\nshift\n"$@" '
        '&\n"$@"\nwait\n'
    )
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", str(os.getpid()))
    project = work.copy("hosts")
    changes = {"save_every_epochs": 1, "processes": 1, "hosts": 2}
    spec = work.spec | {"local": work.spec["local"] | changes}
    done = project.python("node", "--spec", json.dumps(spec))
    assert done.code == 0, done.output
    assert work.result(project) == work.result(two), (
        "two processes are two processes, wherever they run"
    )
