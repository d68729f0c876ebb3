"""A picture of a grid (`kaizen.jobs.grid`) as lines of text: for a terminal of some width, and what
is new since the picture before, a line for each change.
"""

from __future__ import annotations

import itertools
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kaizen.files import counted, printable
from kaizen.jobs.estimate import duration
from kaizen.jobs.grid import Picture, Running, Stopped
from kaizen.plan.job import Job
from kaizen.store.node_id import NodeId
from kaizen.training.traces import Row

# A text and its style, as `rich` knows styles.
Part = tuple[str, str]
Line = list[Part]
# From so many columns on a running node is one line.
WIDE = 130
_SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 12
# Between two lines about a node's epochs, in plain text.
PLAIN_SECONDS = 15.0
# Of why a node failed; all of it is in its log.
_REASON_LINES = 4


def grid_lines(picture: Picture, width: int, height: int) -> list[Line]:
    """The picture in at most ``height`` lines of ``width`` columns."""
    lines = _head(picture, width)
    shown = [_of_running(one, picture.at, width) for one in picture.running]
    shown += [_of_failed(one, width) for one in picture.failed]
    room = max(1, height - len(lines) - 2)
    left_out = 0
    for number, few in enumerate(shown):
        if len(few) > room:
            left_out = len(shown) - number
            break
        room -= len(few)
        lines += few
    if left_out:
        lines.append([(f"  and {left_out} more", "dim")])
    if (after := _next(picture)) is not None:
        lines.append([(after, "dim")])
    return [_cut(line, width) for line in lines]


def _head(picture: Picture, width: int) -> list[Line]:
    done, total = len(picture.finished), picture.total
    text = f"{done} of {counted(total, 'node')} done "
    share = f" {100 * done // max(1, total)} %"
    bar = max(8, min(60, width - len(text) - len(share)))
    states = [(f"{len(picture.running)} running", "cyan" if picture.running else "none")]
    states.append((f"{len(picture.waiting)} waiting", "none"))
    if picture.failed:
        waits = "waits" if picture.blocked == 1 else "wait"
        behind = f", for which {picture.blocked} {waits}" if picture.blocked else ""
        states.append((f"{len(picture.failed)} failed{behind}", "bold red"))
    second: Line = []
    for part in states:
        second += [(", ", "none"), part] if second else [part]
    lines: list[Line] = [
        [(text, "bold"), *_bar(done / max(1, total), bar), (share, "none")],
        second,
    ]
    if picture.is_done:
        return lines[:1]
    if picture.running or picture.waiting:
        lines += [[(part, "none")] for part in textwrap.wrap(str(picture.left), max(8, width))[:2]]
    return lines


def _of_running(one: Running, now: float, width: int) -> list[Line]:
    """A running node: one line where there is room, else two."""
    title, time_left = printable(one.job.title), f"  {left_text(one, now):>12}"
    last = one.rows[-1] if one.rows else None
    bar, progress = _progress(one)
    loss: Line = []
    if last is not None:
        loss = [(f"  {sparkline(one.rows):{_SPARK_WIDTH}} {_loss(last)}{_right(last)}", "green")]
        loss.append((f"  {last.images_per_second:5.0f} images/s", "none"))
    place = (f"  {where(one)}", "dim")
    if width >= WIDE:
        line: Line = [("▶ ", "cyan"), (_fit(title, 44), "bold"), ("  ", "none")]
        return [[*line, *bar, (f" {progress:>16}{time_left}", "none"), *loss, place]]
    fitted = _fit(title, max(8, width - len(progress) - len(time_left) - 3))
    first: Line = [("▶ ", "cyan"), (fitted, "bold"), (f" {progress}{time_left}", "none")]
    return [first, [("  ", "none"), *bar, *loss, place] if progress else [place]]


def _progress(one: Running) -> tuple[Line, str]:
    """A bar, and how far the node is."""
    if one.rows:
        last = one.rows[-1]
        return _bar(last.epoch / last.epochs, 8), f"epoch {last.epoch}/{last.epochs}"
    if one.amount is not None and one.amount.total:
        share = min(1.0, one.amount.done / one.amount.total)
        return _bar(share, 8), f"{one.amount.done}/{one.amount.total}"
    return [(" " * 8, "none")], ""


def left_text(one: Running, now: float) -> str:
    """How long a running node takes yet, or has taken so far: "1:08 left"."""
    if one.left is None:
        return f"{clock(now - one.holder.since)} so far"
    return f"{clock(one.left)} left" if one.left >= 0.5 else "ends soon"


def clock(seconds: float) -> str:
    """A time as a clock shows it: "0:41", "1:02:03"."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def sparkline(rows: Sequence[Row]) -> str:
    """The loss over the epochs in 12 characters, from the lowest to the highest of them."""
    losses = [row.terms["L"] for row in rows if "L" in row.terms]
    if not losses:
        return ""
    if len(losses) > _SPARK_WIDTH:
        # The mean of each part.
        edges = [len(losses) * n // _SPARK_WIDTH for n in range(_SPARK_WIDTH + 1)]
        parts = [losses[a:b] for a, b in itertools.pairwise(edges)]
        losses = [sum(part) / len(part) for part in parts]
    low, high = min(losses), max(losses)
    scale = (len(_SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_SPARKS[round((loss - low) * scale)] for loss in losses)


def _loss(row: Row) -> str:
    return f"L {row.terms['L']:.3f}" if "L" in row.terms else ""


def _right(row: Row) -> str:
    return "" if row.accuracy is None else f"  {100 * row.accuracy:3.0f} % right"


def where(one: Running) -> str:
    """Host and process, or cluster job, of a running node."""
    holder = one.holder
    by = (
        f"{holder.job.scheduler} job {holder.job.number}" if holder.job else f"process {holder.pid}"
    )
    return printable(f"{holder.host}, {by}")


def _of_failed(one: Stopped, width: int) -> list[Line]:
    reason = printable(one.reason.replace("\n", " "))
    title = f"✗ {printable(one.job.title)}: "
    if width >= WIDE:
        return [[(title, "bold red"), (reason, "none")]]
    folded = textwrap.wrap(reason, max(8, width - 2))[:_REASON_LINES]
    return [[(title, "bold red")], *([(f"  {line}", "none")] for line in folded)]


def _next(picture: Picture) -> str | None:
    """What is next, of those that wait."""
    if not picture.waiting:
        return None
    halfway = {one.job.id: one for one in picture.stopped}
    first = next((job for job in picture.waiting if not picture.needs(job)), picture.waiting[0])
    text = f"next: {printable(first.title)}"
    if first.id in halfway and halfway[first.id].rows:
        last = halfway[first.id].rows[-1]
        text += f", which was stopped after epoch {last.epoch} of {last.epochs}"
    return text


def _bar(share: float, width: int) -> Line:
    full = round(share * width)
    return [("━" * full, "green"), ("─" * (width - full), "bright_black")]


def _fit(text: str, width: int) -> str:
    """A text of exactly so many columns, cut with "…"."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return set_cell_size(text, width)


def _cut(line: Line, width: int) -> Line:
    """A line without what does not fit into ``width`` columns."""
    from rich.cells import cell_len

    cut: Line = []
    for text, style in line:
        length = cell_len(text)
        if length > width:
            return [*cut, (_fit(text, width), style)] if width > 0 else cut
        cut.append((text, style))
        width -= length
    return cut


class Changes:
    """What is new in each picture, as lines of plain text: for logs and pipes."""

    def __init__(self, took: Callable[[Job[Any]], float | None] = lambda job: None) -> None:
        """Nothing seen yet; ``took`` says how long a finished node took."""
        self._took = took
        self._before: Picture | None = None
        self._told: dict[NodeId, tuple[int, float]] = {}

    def lines(self, picture: Picture) -> Iterator[str]:
        """The lines of what changed since the last picture; of the first, where all stands."""
        before, self._before = self._before, picture
        was_running = {one.job.id: one for one in before.running} if before else {}
        if before is not None:
            for node, one in was_running.items():
                if node in picture.finished:
                    yield f"done: {printable(one.job.title)}{_in(self._took(one.job))}"
            known = {one.job.id for one in before.failed}
        else:
            known = set()
        for failed in picture.failed:
            if failed.job.id not in known:
                reason = printable(failed.reason.replace("\n", " "))
                yield f"failed: {printable(failed.job.title)}: {reason}"
        for one in picture.running:
            if one.job.id not in was_running:
                yield f"running: {printable(one.job.title)} ({where(one)})"
            yield from self._epoch(one, picture.at)
        new = before is None or len(before.finished) != len(picture.finished)
        if new:
            yield summary_line(picture)

    def _epoch(self, one: Running, now: float) -> Iterator[str]:
        """A line about the epochs of a node, at most one in 15 s."""
        if not one.rows:
            return
        last = one.rows[-1]
        epoch, at = self._told.get(one.job.id, (0, 0.0))
        if last.epoch == epoch or now - at < PLAIN_SECONDS:
            return
        self._told[one.job.id] = (last.epoch, now)
        yield (
            f"{printable(one.job.title)}: epoch {last.epoch}/{last.epochs} {_loss(last)}"
            f"{_right(last)} {last.images_per_second:.0f} images/s, {left_text(one, now)}"
        )


def summary_line(picture: Picture) -> str:
    """The picture in one line."""
    parts = [f"{len(picture.finished)} of {counted(picture.total, 'node')} done"]
    if picture.is_done:
        return parts[0]
    if picture.running:
        parts.append(f"{len(picture.running)} running")
    parts.append(f"{len(picture.waiting)} waiting")
    if picture.failed:
        parts.append(f"{len(picture.failed)} failed")
    return ", ".join(parts) + f"; {picture.left}"


def _in(seconds: float | None) -> str:
    return "" if seconds is None else f", {duration(seconds)}"


def stamped(line: str) -> str:
    """A line with the time of the day before it."""
    return f"{time.strftime('%H:%M:%S')} {line}"
