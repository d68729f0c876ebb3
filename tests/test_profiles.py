"""profiles/default: what plain `snakemake` takes from it, and what it leaves to others."""

from __future__ import annotations

import io
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
    # The error's sentence, and what it is about, whole; no specification around it.
    assert "replace or remove it, or set dataset.on_corrupt: skip" in output
    assert "0 of 9 nodes done" in output and '"params"' not in output
    assert "CalledProcessError" not in output and "Complete log(s)" in output
    # What Snakemake says of every job besides is in its log file only, errors are in both.
    (log,) = (project.root / ".snakemake/log").glob("*.log")
    assert "Select jobs to execute..." in log.read_text() and "Error in rule" in log.read_text()
    assert "Select jobs" not in output and "Execute 1 jobs" not in output


class Keeps(logging.StreamHandler[io.StringIO]):
    """Keeps what it is given."""

    def __init__(self, name: str) -> None:
        super().__init__(io.StringIO())
        self.name = name
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(str(record.msg))


@pytest.mark.parametrize("dry", [False, True])
def test_the_terminal_shows_what_no_other_line_says(dry: bool) -> None:
    from snakemake_interface_logger_plugins.common import LogEvent

    from kaizen.jobs.snakemake_terminal import quiet_terminal

    logger = logging.Logger("test")
    terminal, file = Keeps("DefaultStreamHandler"), Keeps("DefaultLogFileHandler")
    logger.addHandler(terminal)
    logger.addHandler(file)
    quiet_terminal(logger, lambda: dry)

    def shows(level: int, text: str, **extra: object) -> bool:
        terminal.said.clear()
        file.said.clear()
        logger.log(level, text, extra=extra)
        assert file.said == [text]
        return terminal.said == [text]

    info, error = logging.INFO, logging.ERROR
    for chatter in ("Select jobs to execute...", "Execute 12 jobs...", "Building DAG of jobs..."):
        assert not shows(info, chatter)
        assert shows(error, chatter)
    assert not shows(error, "RuleException:\nCalledProcessError in file x, line 1:\nCommand")
    assert shows(error, "RuleException:\nValueError in file x, line 1:")
    assert shows(info, "Nothing to be done") and shows(info, "Provided cores: 2")
    for event in (LogEvent.JOB_INFO, LogEvent.RUN_INFO):
        assert shows(info, "a job", event=event) is dry
    assert shows(error, "Error in rule", event=LogEvent.JOB_ERROR)


def test_where_the_log_is_stands_after_an_error_only() -> None:
    from kaizen.jobs.snakemake_terminal import quiet_terminal

    logger, terminal = logging.Logger("test"), Keeps("DefaultStreamHandler")
    logger.addHandler(terminal)
    quiet_terminal(logger, lambda: False)
    logger.info("Complete log(s): /x")
    logger.error("Error in rule step")
    logger.info("Complete log(s): /x")
    assert terminal.said == ["Error in rule step", "Complete log(s): /x"]


def test_a_finished_run_ends_with_table_and_report_and_so_does_one_with_nothing_to_do(
    fresh: Project, tmp_path: Path
) -> None:
    project = fresh.copy(tmp_path / "project")
    snakefile = str(REPOSITORY / "Snakefile")
    profile = str(REPOSITORY / "profiles/default")
    command = [sys.executable, "-m", "snakemake", "--snakefile", snakefile]
    command += ["--workflow-profile", profile]
    first = project.process(*command).good().rstrip().splitlines()
    assert first[-2] == "Report   results/summary/report.md", "\n".join(first)
    assert first[-1].startswith("Page     results/report.html") and len(first) < 40
    assert sum("nodes done" in line for line in first) <= 7
    table = next(place for place, line in enumerate(first) if "Variant" in line)
    assert not any("nodes done" in line for line in first[table:])
    again = project.process(*command).good().rstrip().splitlines()
    assert again[-len(first) + table :] == first[table:]
    assert any("Nothing to be done" in line for line in again)
    dry = project.process(*command, "--dry-run").good()
    assert "Nothing to be done" in dry and "Variant" not in dry
    (log,) = (project.root / "logs/summary").glob("summary-*.log")
    assert log.is_symlink() and "done" in log.read_text()
