"""What a job leaves for those who watch it, beside its resume state: a row for each epoch, how much
of another node's work is done, why it failed.

No key and no byte of a node depends on these files, which go when the node is finished. Who reads
them trusts nothing in them: another user of the store may have written them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kaizen.errors import KaizenError
from kaizen.files import (
    parse_json,
    printable,
    read_json,
    read_text,
    shortened,
    write_json,
    write_text,
)
from kaizen.training.reporter import EpochEnd, Reporter

ROWS_FILE = "epochs.jsonl"
AMOUNT_FILE = "amount.json"
FAILURE_FILE = "failure.json"
# A row has some 250 bytes; more than tens of thousands of epochs are not read.
_MOST_BYTES = 16 << 20
_LONGEST_ROW = 4096
_LONGEST_FILE = 64 * 1024
_MOST_TERMS = 16
_LARGEST = 1e15
_SECONDS_BETWEEN_AMOUNTS = 5.0


@dataclass(frozen=True)
class Row:
    """An epoch that was trained: when it ended (seconds since 1970), how long it took, with what
    was saved before it; the rest as in `EpochEnd`.
    """

    epoch: int
    epochs: int
    at: float
    seconds: float
    images_per_second: float
    lr: float
    terms: Mapping[str, float] = field(default_factory=dict)
    accuracy: float | None = None

    def line(self) -> str:
        """As a line of the file."""
        found = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(found, separators=(",", ":"), allow_nan=False) + "\n"


@dataclass(frozen=True)
class Amount:
    """How many of ``total`` things are done, at a time in seconds since 1970."""

    done: int
    total: int
    what: str
    at: float


@dataclass(frozen=True)
class Failure:
    """Why a job ended without its node, and when."""

    message: str
    at: float


def read_rows(work: Path) -> list[Row]:
    """The rows in a node's working folder, each epoch once: of one that was trained again after a
    resumption, the last. What is no row, such as the half of one that a kill left, is skipped.
    """
    try:
        lines = read_text(work / ROWS_FILE, _MOST_BYTES).split("\n")
    except KaizenError:
        return []
    rows: list[Row] = []
    for line in lines:
        if (row := _row(line)) is not None:
            while rows and rows[-1].epoch >= row.epoch:
                rows.pop()
            rows.append(row)
    return rows


def read_amount(work: Path) -> Amount | None:
    """How much is done of what has no epochs; None where nothing says."""
    found = _small(work / AMOUNT_FILE)
    try:
        done, total = _whole(found["done"]), _whole(found["total"])
        return Amount(done, total, _text(found["what"], 60), _number(found["at"]))
    except (KeyError, TypeError, ValueError):
        return None


def read_failure(work: Path) -> Failure | None:
    """Why the node's last job failed; None where it did not."""
    found = _small(work / FAILURE_FILE)
    try:
        return Failure(_text(found["message"], 2000), _number(found["at"]))
    except (KeyError, TypeError, ValueError):
        return None


class Board(Protocol):
    """Another place for the rows of a step; see `kaizen.training.boards`."""

    def add(self, row: Row) -> None:
        """Add an epoch."""

    def close(self) -> None:
        """Write what is not written yet."""


class Traces:
    """A reporter that also leaves traces in a node's working folder, and passes all on.

    Where the disk is full or the folder cannot be written, it says so once and writes no more: the
    work that it reports goes on.
    """

    def __init__(
        self, reporter: Reporter, work: Path, open_board: Callable[[int], Board] | None = None
    ) -> None:
        """Forget the failure of an earlier job; ``work`` is made when there is something to
        write. ``open_board`` opens another place for the rows, from an epoch on.
        """
        self._reporter, self._work = reporter, work
        self._open_board = open_board
        self._board: Board | None = None
        self._writes, self._first = True, True
        self._epoch_began = time.monotonic()
        self._amount_written = -math.inf
        with contextlib.suppress(OSError):
            (work / FAILURE_FILE).unlink(missing_ok=True)

    def note(self, text: str) -> None:
        """See `Reporter.note`."""
        self._reporter.note(text)
        # Before its first epoch a step notes what it begins with.
        self._epoch_began = time.monotonic()

    def alarm(self, text: str) -> None:
        """See `Reporter.alarm`."""
        self._reporter.alarm(text)
        self._epoch_began = time.monotonic()

    def epoch(self, end: EpochEnd) -> None:
        """See `Reporter.epoch`; adds a row."""
        now = time.monotonic()
        seconds, self._epoch_began = now - self._epoch_began, now
        row = Row(at=time.time(), seconds=seconds, **vars(end))
        self._try(lambda: self._add(row))
        self._show(row)
        self._reporter.epoch(end)

    def amount(self, done: int, total: int, what: str) -> None:
        """See `Reporter.amount`; writes it down, every few seconds."""
        if time.monotonic() - self._amount_written >= _SECONDS_BETWEEN_AMOUNTS:
            self._amount_written = time.monotonic()
            amount = asdict(Amount(done, total, what, time.time()))
            self._try(lambda: write_json(self._work / AMOUNT_FILE, amount))
        self._reporter.amount(done, total, what)

    def failed(self, error: BaseException) -> None:
        """Write down why the job ends."""
        failure = Failure(str(error) or type(error).__name__, time.time())
        # The failure itself may be a disk that is full.
        with contextlib.suppress(OSError, ValueError, KaizenError):
            write_json(self._work / FAILURE_FILE, asdict(failure))

    def close(self) -> None:
        """No more rows come."""
        if self._board is not None:
            with contextlib.suppress(Exception):
                self._board.close()

    def _show(self, row: Row) -> None:
        """Put a row on the board, if there is one; the first with those before it."""
        if self._open_board is None:
            return
        # Whatever goes wrong in another's library must not cost the step.
        try:
            rows = [row]
            if self._board is None:
                rows = [one for one in read_rows(self._work) if one.epoch < row.epoch] + rows
                self._board = self._open_board(rows[0].epoch)
            for one in rows:
                self._board.add(one)
        except Exception as error:
            self._open_board = None
            self._reporter.alarm(f"note: runtime.live: {error}; the curves end here")

    def _try(self, write: Callable[[], None]) -> None:
        if self._writes:
            try:
                write()
            except (OSError, ValueError, KaizenError) as error:
                self._writes = False
                self._reporter.alarm(f"`kaizen watch` learns no more of this job: {error}")

    def _add(self, row: Row) -> None:
        path = self._work / ROWS_FILE
        if self._first:
            # Without the rows of epochs that are trained again, and what a kill left half written.
            kept = [one.line() for one in read_rows(self._work) if one.epoch < row.epoch]
            write_text(path, "".join([*kept, row.line()]))
            self._first = False
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
        try:
            # In one piece: a reader sees all of it, or a last line that it skips.
            line = row.line().encode()
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        finally:
            os.close(descriptor)


def _row(line: str) -> Row | None:
    if not line or len(line) > _LONGEST_ROW:
        return None
    try:
        found = parse_json(line)
        terms = {_text(name, 20): _number(value) for name, value in found["terms"].items()}
        if len(terms) > _MOST_TERMS:
            return None
        row = Row(
            epoch=_whole(found["epoch"]),
            epochs=_whole(found["epochs"]),
            at=_number(found["at"]),
            seconds=_number(found["seconds"]),
            images_per_second=_number(found["images_per_second"]),
            lr=_number(found["lr"]),
            terms=terms,
            accuracy=None if (share := found.get("accuracy")) is None else _share(share),
        )
        return row if 1 <= row.epoch <= row.epochs else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _small(path: Path) -> Any:
    try:
        return read_json(path, _LONGEST_FILE)
    except KaizenError:
        return None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST:
        raise ValueError("not a number")
    return float(value)


def _share(value: Any) -> float:
    if not 0 <= (share := _number(value)) <= 1:
        raise ValueError("not a share")
    return share


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise ValueError("not a whole number")
    return value


def _text(value: Any, most: int) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return shortened(printable(value), most)
