"""Progress of a step: lines, for the log file always, and for a stream now and then. On a terminal
`kaizen.jobs.grid_view` shows what jobs leave in the store.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

from kaizen.files import explain_write_errors

PLAIN_INTERVAL_S = 15.0


@dataclass(frozen=True)
class EpochEnd:
    """What an epoch ended with: its number from 1, of how many; mean loss terms by name; learning
    rate and speed; accuracy on a sample of test images, 0 to 1, where that is measured
    (`runtime.live_accuracy`).
    """

    epoch: int
    epochs: int
    terms: Mapping[str, float]
    lr: float
    images_per_second: float
    accuracy: float | None = None


class Reporter(Protocol):
    """What a job reports while it runs."""

    def note(self, text: str) -> None:
        """Report something that happened once."""

    def alarm(self, text: str) -> None:
        """Report what the user should hear of in any case: what waits, goes on after an
        interruption, cannot be done, or ends the job.
        """

    def epoch(self, end: EpochEnd) -> None:
        """Report the state after an epoch."""

    def amount(self, done: int, total: int, what: str) -> None:
        """Report how many of ``total`` things are done."""


class PlainReporter:
    """Lines: every one into the log; to the stream notes, and at most one in ``interval`` seconds
    of the others.
    """

    def __init__(
        self,
        title: str,
        log: TextIO | None,
        stream: TextIO | None,
        interval: float = PLAIN_INTERVAL_S,
        quiet: bool = False,
    ) -> None:
        """Write to ``log`` and ``stream``; either may be None. ``quiet``: to the stream alarms
        only.
        """
        self.title, self.log, self.stream = title, log, stream
        self.interval, self.quiet = math.inf if quiet else interval, quiet
        self.started = self.last = time.monotonic()

    def note(self, text: str) -> None:
        """See `Reporter.note`."""
        self._write(text, always=not self.quiet)

    def alarm(self, text: str) -> None:
        """See `Reporter.alarm`."""
        self._write(text, always=True)

    def epoch(self, end: EpochEnd) -> None:
        """See `Reporter.epoch`."""
        losses = " ".join(f"{name} {value:.4f}" for name, value in end.terms.items())
        right = "" if end.accuracy is None else f"accuracy {100 * end.accuracy:.1f} % "
        text = (
            f"epoch {end.epoch}/{end.epochs} {losses} {right}lr {end.lr:.4g} "
            f"{end.images_per_second:.0f} images/s{self._left(end.epoch, end.epochs)}"
        )
        self._write(text, always=False)

    def amount(self, done: int, total: int, what: str) -> None:
        """See `Reporter.amount`."""
        self._write(f"{done}/{total} {what}{self._left(done, total)}", always=False)

    def _left(self, done: int, total: int) -> str:
        return f", {_clock((time.monotonic() - self.started) / max(1, done) * (total - done))} left"

    def _write(self, text: str, always: bool) -> None:
        line = f"{self.title}: {text}"
        if self.log is not None:
            try:
                print(line, file=self.log, flush=True)
            except OSError as error:
                # A full disk under the log must not cost the work that the log reports.
                self.log = None
                self._write(
                    f"the log cannot be written ({error.strerror}) and ends here", always=True
                )
        if self.stream is not None and (always or time.monotonic() - self.last >= self.interval):
            self.last = time.monotonic()
            print(line, file=self.stream, flush=True)


@contextlib.contextmanager
def reporter(
    title: str,
    log: Path | None,
    stream: TextIO | None,
    interval: float = PLAIN_INTERVAL_S,
    *,
    quiet: bool = False,
) -> Iterator[PlainReporter]:
    """A reporter for one job, as `PlainReporter`; the log file is truncated first, and gets a link
    of a readable name beside it.

    Raises KaizenError where the log cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        file: TextIO | None = None
        if log is not None:
            with explain_write_errors(log):
                log.parent.mkdir(parents=True, exist_ok=True)
                file = open(log, "w", encoding="utf-8")  # noqa: SIM115
            stack.callback(_close, file)
            _link_readably(log, title)
        yield PlainReporter(title, file, stream, interval, quiet)


def readable_name(title: str) -> str:
    """A title as the name of a file: "step-1-simclr-kaizen-seed-0"."""
    return re.sub(r"[^\w.+]+", "-", title).strip("-.")[:120]


def _link_readably(log: Path, title: str) -> None:
    """Let a readable name beside a log, whose own is a key, lead to it: of two nodes of one title,
    to the newer log. A file that is no link stays.
    """
    link = log.with_name(f"{readable_name(title)}.log")
    if link.name in (".log", log.name) or (link.exists() and not link.is_symlink()):
        return
    # It is a convenience: there may be file systems without links.
    with contextlib.suppress(OSError):
        link.unlink(missing_ok=True)
        link.symlink_to(log.name)


def _close(file: TextIO) -> None:
    """Close a log; closing tries again to write what a full disk refused."""
    with contextlib.suppress(OSError):
        file.close()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
