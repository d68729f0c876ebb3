"""profiles/default: what plain `snakemake` takes from it, and what it leaves to others."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from project import Project

ALL = len(os.sched_getaffinity(0))
# Other than any of this machine's.
FEW = ALL + 3


@pytest.mark.parametrize(
    ("words", "cores", "jobs"),
    [
        ("", ALL, None),
        ("--dry-run", ALL, None),
        ("--config node=step/0", ALL, None),
        (f"--cores {FEW}", FEW, None),
        (f"-c{FEW}", FEW, None),
        # Snakemake takes it for the cores where jobs run here.
        (f"--jobs {FEW}", None, FEW),
        (f"-j{FEW}", None, FEW),
        # A step of more threads than this machine has must keep them on another.
        ("--profile {cluster}", None, 100),
        ("--profile={cluster}", None, 100),
        ("--executor local", None, None),
        ("-e local", None, None),
    ],
)
def test_cores_are_all_of_this_machine_for_plain_snakemake_only(
    words: str, cores: int | None, jobs: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snakemake.cli import parse_args

    (tmp_path / "config.yaml").write_text("jobs: 100\n")
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    monkeypatch.setattr(sys, "argv", ["snakemake", *words.format(cluster=tmp_path).split()])
    _, options = parse_args(None)
    assert (options.cores, options.jobs) == (cores, jobs)
    assert options.keep_going and options.show_failed_logs and options.rerun_incomplete
    # `rules` would hide the messages of failed jobs.
    assert {str(about) for about in options.quiet} == {"reason", "host"}


def test_a_profile_of_the_environment_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snakemake.cli import parse_args

    (tmp_path / "config.yaml").write_text("jobs: 100\n")
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("SNAKEMAKE_PROFILE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["snakemake"])
    _, options = parse_args(None)
    assert (options.cores, options.jobs) == (None, 100)


def test_plain_snakemake_runs_and_shows_a_failed_jobs_log(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    image = project.images / "train/ant/00.png"
    image.write_bytes(image.read_bytes()[:60])
    snakefile = str(REPOSITORY / "Snakefile")
    output = project.process(sys.executable, "-m", "snakemake", "--snakefile", snakefile).bad()
    assert f"Provided cores: {ALL}" in output
    assert "Error in rule shards" in output and "train/ant/00.png" in output, output
    assert "Job 2: shards" in output
    # What Snakemake says of every job besides is in its log file only, errors are in both.
    (log,) = (project.root / ".snakemake/log").glob("*.log")
    assert "Select jobs to execute..." in log.read_text() and "Error in rule" in log.read_text()
    assert "Select jobs" not in output and "Execute 1 jobs" not in output


def test_only_what_another_line_says_is_left_out() -> None:
    from snakemake_interface_logger_plugins.common import LogEvent

    from kaizen.jobs.snakefile import say_less

    said: list[logging.LogRecord] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record)

    logger, terminal, file = logging.Logger("test"), Handler(), Handler()
    terminal.name, file.name = "DefaultStreamHandler", "DefaultLogFileHandler"
    for handler in (terminal, file):
        logger.addHandler(handler)
    say_less(logger)

    def times(level: int, text: str | None, **extra: object) -> int:
        said.clear()
        logger.log(level, text, extra=extra)
        return len(said)

    info, error = logging.INFO, logging.ERROR
    assert times(info, "Select jobs to execute...") == times(info, "Execute 12 jobs...") == 1
    assert times(info, "Finished jobid: 3", event=LogEvent.JOB_FINISHED) == 1
    assert times(error, "Select jobs to execute...") == 2
    assert times(error, None, event=LogEvent.JOB_ERROR) == times(info, None) == 2
    assert times(info, None, event=LogEvent.JOB_INFO) == times(info, "Nothing to be done") == 2
    assert times(info, "1 of 2 steps (50%) done", event=LogEvent.PROGRESS) == 2
