"""What the terminal shows of a Snakemake that runs its jobs here: a few lines, and the results at
the end. Its log file has all that Snakemake says (9.27), errors are in both. Imports no Snakemake.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from typing import TextIO

from kaizen.errors import KaizenError
from kaizen.files import read_json, tell
from kaizen.jobs.grid import Grid
from kaizen.jobs.grid_lines import stamped, summary_line
from kaizen.jobs.rules import PlannedRules
from kaizen.plan.memory import images_of_tasks
from kaizen.report.terminal import print_results
from kaizen.store.layout import MANIFEST

# What says nothing of this experiment; and, of a run that went well, where its log is.
_CHATTER = re.compile(
    r"Select jobs to execute\.\.\.|Execute \d+ jobs\.\.\.|Assuming unrestricted shared filesystem|"
    r"Building DAG of jobs|Using shell: |Rules claiming more threads|Conda environments: ignored|"
    r"Group jobs: inactive"
)
_AT_THE_END = re.compile(r"Complete log\(s\): |Elapsed time: ")
# Follows from "Error in rule", which names the log and the command too.
_TWICE = re.compile(r"RuleException:\s+CalledProcessError in file ")
_NOTHING = "Nothing to be done"
_EVENTS = ("job_info", "job_finished", "run_info", "group_info")
# A line about progress for each fifth of the jobs, and after so many seconds, the next time twice
# as many, at most an hour.
_SHARE, _FIRST_SECONDS, _MOST_SECONDS = 0.2, 60.0, 3600.0


class Terminal(logging.Filter):
    """Decides what of Snakemake's log the terminal shows, and adds lines about progress.

    ``is_dry``: of a run that only shows what would be done all is shown.
    """

    def __init__(self, is_dry: Callable[[], bool], stream: TextIO) -> None:
        """Lines about progress go to ``stream``."""
        super().__init__()
        self._is_dry, self._stream = is_dry, stream
        self._rules: PlannedRules | None = None
        self._grid: Grid | None = None
        self._cores = 0
        self._failed = False
        self._share, self._told, self._wait = 0.0, time.monotonic(), _FIRST_SECONDS

    def show(self, rules: PlannedRules) -> None:
        """Show the progress, and at the end the results, of this plan."""
        self._rules = rules

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the terminal shows a line of Snakemake's."""
        event, text = str(getattr(record, "event", None) or ""), str(record.msg)
        if record.levelno > logging.INFO:
            self._failed = True
            return not _TWICE.match(text)
        if text.startswith(_NOTHING):
            self.at_end()
        self._cores = int(getattr(record, "cores", None) or self._cores)
        if self._is_dry():
            return not _CHATTER.match(text)
        if event == "progress":
            done, total = getattr(record, "done", 0), getattr(record, "total", 0)
            self._progress(done / total if total else 0.0)
            return False
        if _AT_THE_END.match(text):
            return self._failed
        return event not in _EVENTS and not _CHATTER.match(text)

    def at_start(self) -> None:
        """Say how much there is to do, and how long it takes."""
        if self._rules is not None and not self._rules.only:
            self._tell("; `kaizen watch` shows more")

    def at_end(self) -> None:
        """Print the results as this program's last lines, where this plan's are published."""
        if self._rules is not None and not self._is_dry() and self._rules.only is None:
            atexit.register(show_published, self._rules)

    def _progress(self, share: float) -> None:
        """A line about what is done and how long the rest takes, if it is time for one."""
        now = time.monotonic()
        late = now - self._told >= self._wait
        if self._rules is None or not (late or share >= self._share + _SHARE) or share >= 1.0:
            return
        self._wait = min(2 * self._wait, _MOST_SECONDS) if late else self._wait
        self._share, self._told = share, now
        self._tell()

    def _tell(self, more: str = "") -> None:
        # Nothing that goes wrong here may cost the run.
        with contextlib.suppress(Exception):
            if self._grid is None and self._rules is not None:
                self._grid = self._grid_of(self._rules)
            if self._grid is not None:
                line = stamped(summary_line(self._grid.look()) + more)
                self._stream.write(f"{line}\n")
                self._stream.flush()

    def _grid_of(self, rules: PlannedRules) -> Grid:
        plan = rules.plan
        threads = rules.params.runtime.processes * rules.params.train.threads
        at_once = max(1, self._cores // max(1, threads)) if self._cores else None
        jobs = [node.job() for node in plan.nodes.values()]
        return Grid(jobs, rules.store, images_of_tasks(plan), at_once)


def says_all() -> bool:
    """Whether the user asked for all that Snakemake and its jobs say: KAIZEN_TERMINAL=all."""
    return os.environ.get("KAIZEN_TERMINAL") == "all"


def quiet_terminal(logger: logging.Logger, is_dry: Callable[[], bool]) -> Terminal:
    """Let Snakemake's ``logger`` say little in the terminal; see `Terminal`."""
    handlers = [one for one in logger.handlers if one.name == "DefaultStreamHandler"]
    streams = [one.stream for one in handlers if isinstance(one, logging.StreamHandler)]
    terminal = Terminal(is_dry, streams[0] if streams else sys.stderr)
    for handler in handlers:
        handler.addFilter(terminal)
    return terminal


def show_published(rules: PlannedRules) -> None:
    """Print the results where they are this plan's."""
    try:
        manifest = read_json(rules.root / MANIFEST)
        if isinstance(manifest, dict) and manifest.get("plan") == rules.plan.key:
            print_results(rules.root)
    except (KaizenError, OSError) as error:
        tell(error)
