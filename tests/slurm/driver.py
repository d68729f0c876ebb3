"""Driving a real SLURM in tests: Snakemake with the profile, its jobs, and the training processes
inside them.

The tests act at moments of their own choosing: they watch the saved state until training has come
to an epoch, and hold the training process still (SIGSTOP) while time passes. So nothing depends on
how fast the machine is.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil
import safetensors
import yaml
from project import REPOSITORY, Project

from kaizen.store.node_id import NodeId
from kaizen.store.records import RUN_RECORD

T = TypeVar("T")
SIGTERM_BIT = 1 << 14


def until(what: str, condition: Callable[[], T | Literal[False]], seconds: float = 300) -> T:
    """Poll until ``condition`` is true and return its value; fails the test after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:g} seconds: {what}\n{ask('squeue', '--long')}")


def ask(*command: str) -> str:
    """What a SLURM command prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def job_fields(job: str) -> dict[str, str]:
    """`scontrol show job` as a dictionary."""
    text = ask("scontrol", "show", "job", "--oneliner", job)
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


@dataclass(frozen=True)
class Start:
    """One start of a SLURM job, as accounting knows it; a requeued job has several."""

    job: str
    state: str
    began: str
    ended: str
    node: str
    comment: str


def starts(*jobs: str) -> list[Start]:
    """All starts of these jobs, oldest first."""
    fields = "JobIDRaw,State,Start,End,NodeList,Comment"
    text = ask("sacct", "-X", "-n", "-P", "--duplicates", "-j", ",".join(jobs), "-o", fields)
    found = [Start(*line.split("|")) for line in text.splitlines()]
    return sorted(
        (start for start in found if start.node not in ("", "None assigned")),
        key=lambda start: start.began,
    )


def trainers(key: str) -> list[psutil.Process]:
    """The processes that make the node ``key`` at this moment."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if command[1:4] == ["-m", "kaizen", "node"] and f"/{key}.json" in " ".join(command[:8]):
            found.append(process)
    return found


def has_got_term(process: psutil.Process) -> bool:
    """Whether a SIGTERM waits for a process that is held still, or has ended it (SLURM may wake it
    up for that).
    """
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    masks = re.findall(r"^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)", status, re.MULTILINE)
    return any(int(mask, 16) & SIGTERM_BIT for mask in masks)


class Snakemake:
    """A `snakemake --profile` that runs in the background; its output goes to a file."""

    def __init__(
        self, command: list[str], folder: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        self.log = log
        with open(log, "w") as file:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text()

    @property
    def jobs(self) -> list[str]:
        """The ids of the SLURM jobs that it has submitted."""
        return re.findall(r"with SLURM jobid (\d+)", self.output)

    def job(self, number: int = 0) -> str:
        """The id of a submitted job; waits for it."""
        return until(f"SLURM job {number + 1} submitted", lambda: self.jobs[number : number + 1])[0]

    def finish(self, seconds: float = 600) -> None:
        """Wait for the end, which must be a good one."""
        code = self.process.wait(seconds)
        assert code == 0, self.output[-6000:]


class Grid:
    """A tiny project whose shards, replay and steps are finished but for one step, and a copy of
    the profile.
    """

    def __init__(self, reference: Project, root: Path) -> None:
        self.reference = reference
        self.project = reference.copy(root)
        # A finished node that is missing would else be taken back from the published tree.
        for published in ("results", "data"):
            shutil.rmtree(root / published)
        self.running: list[Snakemake] = []
        self.began = time.time()
        self.profile = root / "profile"
        self.change_profile({})

    def change_profile(self, changes: Mapping[str, Any], source: str = "slurm") -> None:
        """Write a copy of profiles/slurm with other values, as a user would."""
        values = yaml.safe_load((REPOSITORY / "profiles" / source / "config.yaml").read_text())
        values |= (
            {"slurm-init-seconds-before-status-checks": 2, "latency-wait": 20}
            if source == "slurm"
            else {}
        )
        self.profile.mkdir(exist_ok=True)
        (self.profile / "config.yaml").write_text(yaml.safe_dump(values | dict(changes)))

    def forget(self, key: str) -> str:
        """Remove a finished step; returns its receipt, the target that makes it again."""
        shutil.rmtree(self.project.store.folder(NodeId.of("step", key)))
        return f".kaizen/receipts/step/{key}.json"

    def snakemake(self, *arguments: str, snakefile: Path = REPOSITORY / "Snakefile") -> Snakemake:
        """Start Snakemake with the profile."""
        root = self.project.root
        environment = self.project.environment()
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile)]
        command += ["--directory", str(root), "--profile", str(self.profile), *arguments]
        run = Snakemake(command, root, environment, root / f"snakemake-{len(self.running)}.log")
        self.running.append(run)
        return run

    def epoch(self, key: str) -> int:
        """The epoch of a step's saved state; 0 without one."""
        state = self.project.store.work_folder(NodeId.of("step", key)) / "resume.safetensors"
        try:
            with safetensors.safe_open(state, "pt") as file:
                return int(json.loads(file.metadata()["state"])["progress"]["epoch"])
        except (OSError, safetensors.SafetensorError):
            return 0

    def hold_trainer(self, key: str, epoch: int = 3) -> psutil.Process:
        """Wait until training has saved this epoch, then hold it still."""
        until(f"epoch {epoch} saved", lambda: self.epoch(key) >= epoch)
        (process,) = trainers(key)
        process.suspend()
        return process

    def step_log(self, key: str) -> str:
        """The log of the last attempt at a step; empty while there is none."""
        path = self.project.root / "logs" / "step" / f"{key}.log"
        try:
            return path.read_text()
        except FileNotFoundError:
            return ""

    def same_bytes(self) -> bool:
        """Whether every finished node has the bytes of the uninterrupted local run's."""
        mine, theirs = self.project.nodes(), self.reference.nodes()
        return all(theirs[node] == digest for node, digest in mine.items())

    def made(self) -> int:
        """How many nodes were made since this copy was taken."""
        records = self.project.store.root.glob(f"*/*/{RUN_RECORD}")
        return sum(json.loads(record.read_text())["began"] >= self.began for record in records)

    def check_made(self, key: str, resumed: bool = True) -> None:
        """The step is finished, resumed where it was interrupted, and has the reference's bytes."""
        assert NodeId.of("step", key) in self.project.nodes()
        assert self.same_bytes()
        assert not self.project.leftovers()
        if resumed:
            assert "resumes at epoch" in self.step_log(key), self.step_log(key)

    def end(self) -> None:
        """Stop what a failed test left running."""
        for run in self.running:
            if run.process.poll() is None:
                run.process.kill()
                run.process.wait()
            if run.jobs:
                subprocess.run(["scancel", *run.jobs], check=False)
