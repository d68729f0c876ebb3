"""One of the processes that share a step: what `torchrun` starts for `kaizen.jobs.launch`.

Reports to the job by lines of JSON on its standard output: [rank, name, arguments].
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kaizen.compute import distributed
from kaizen.errors import KaizenError
from kaizen.jobs.launch import die_with_parent
from kaizen.jobs.stop import StopRequest
from kaizen.plan.job import Job, read_job
from kaizen.plan.specs import StepSpec
from kaizen.provenance.origin import check_code, check_loaded
from kaizen.store.arguments import read_argument
from kaizen.store.locks import Watch
from kaizen.store.store import Store
from kaizen.training.reporter import EpochEnd, Reporter
from kaizen.training.step import run_step


class Line:
    """The way to the job: a reporter that sends on what the first process reports, and each one's
    error.
    """

    def __init__(self, rank: int) -> None:
        """Take standard output over; whatever else writes to it goes to standard error from now
        on.
        """
        self.rank = rank
        self._pipe = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(self, name: str, *arguments: Any) -> None:
        """Send one message, in one piece."""
        self._pipe.write(json.dumps([self.rank, name, arguments]) + "\n")
        self._pipe.flush()

    def note(self, text: str) -> None:
        """See `Reporter.note`."""
        if self.rank == 0:
            self.send("note", text)

    def alarm(self, text: str) -> None:
        """See `Reporter.alarm`."""
        if self.rank == 0:
            self.send("alarm", text)

    def epoch(self, end: EpochEnd) -> None:
        """See `Reporter.epoch`."""
        if self.rank == 0:
            self.send("epoch", vars(end))

    def amount(self, done: int, total: int, what: str) -> None:
        """See `Reporter.amount`."""
        if self.rank == 0:
            self.send("amount", done, total, what)


def main(arguments: Sequence[str]) -> int:
    """Train as one of the step's processes; ``arguments``: specification, store, folder to write
    into.
    """
    die_with_parent()
    job: Job[StepSpec] = read_job(read_argument("the step", arguments[0]), "the step")
    store, building = Store(Path(arguments[1])), Path(arguments[2])
    stop = StopRequest()
    stop.now_making(job.id.kind)
    stop.listen()
    # The job hears Ctrl-C and says SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = Line(int(os.environ["RANK"]))
    reporter: Reporter = line
    try:
        check_code(job)
        with distributed.process_group(job.spec.train.device):
            made = run_step(job, store, building, reporter, Watch(stop))
        check_loaded(job)
    except KaizenError as error:
        line.send(type(error).__name__, str(error))
        return error.exit_code
    except MemoryError as error:
        line.send("MemoryError", str(error))
        return 1
    except OSError as error:
        line.send("OSError", error.errno, error.strerror or str(error), error.filename)
        return 2
    if line.rank == 0:
        line.send("result", vars(made))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
