"""A picture of a grid (`kaizen.jobs.grid`) as JSON, for the page of `kaizen watch --browser`."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from kaizen.data.names import HISTORY_FILE
from kaizen.files import counted, printable
from kaizen.jobs.estimate import duration
from kaizen.jobs.grid import Grid, Picture, Running, Stopped
from kaizen.jobs.grid_lines import left_text, where
from kaizen.store.node_id import Kind, NodeId
from kaizen.training.terms import TERMS
from kaizen.training.traces import Row

# Points of a curve; of more epochs so many are shown.
MOST_POINTS = 400
# Of a step's history; a larger one is not read.
_MOST_BYTES = 16 << 20
# Rows of a table; the rest is counted.
MOST_ROWS = 200


class States:
    """The states of a grid, one after the other; what ended while one looked is remembered."""

    def __init__(self, grid: Grid, name: str) -> None:
        """Nothing seen yet; ``name`` is what the page is headed by."""
        self.grid, self.name = grid, name
        self._finished: frozenset[NodeId] | None = None
        self._rows: dict[NodeId, Sequence[Row]] = {}
        self._ended: list[dict[str, Any]] = []

    def look(self) -> dict[str, Any]:
        """What the store shows now; every text is harmless, every number finite."""
        picture = self.grid.look()
        self._note_ended(picture)
        states = _state_of_nodes(picture)
        return {
            "name": printable(self.name),
            "at": picture.at,
            "done": len(picture.finished),
            "total": picture.total,
            "is_done": picture.is_done,
            "blocked": picture.blocked,
            "left": "" if picture.is_done else str(picture.left),
            "kinds": self._kinds(states),
            "running": [self._of_running(one, picture.at) for one in picture.running],
            "failed": [_of_stopped(one) for one in picture.failed[:MOST_ROWS]],
            "failed_count": len(picture.failed),
            "waiting": self._waiting(picture),
            "waiting_count": len(picture.waiting),
            "ended": self._ended[::-1][:MOST_ROWS],
        }

    def _note_ended(self, picture: Picture) -> None:
        before = picture.finished if self._finished is None else self._finished
        new = picture.finished - before
        for job in self.grid.jobs if new else ():
            if job.id in new:
                took = self.grid.took(job)
                known = took is not None and math.isfinite(took)
                text = duration(took) if took is not None and known else ""
                title = printable(job.title)
                entry = {"key": job.id.file_name, "title": title, "kind": job.id.kind, "took": text}
                rows = self._rows.get(job.id, ())
                self._ended.append(entry | {"curves": curves(self._completed(job.id, rows))})
        self._ended = self._ended[-MOST_ROWS:]
        self._finished = picture.finished
        self._rows = {one.job.id: one.rows for one in picture.running}

    def _completed(self, node: NodeId, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows of a step that has ended, with those of its history that came after the last
        look; of other nodes none.
        """
        path = self.grid.store.folder(node) / HISTORY_FILE
        # A curve that ends early is no reason to stop: others may write to the store.
        with contextlib.suppress(Exception):
            if node.kind is not Kind.STEP or path.stat().st_size > _MOST_BYTES:
                return rows
            import pyarrow.parquet

            found = pyarrow.parquet.read_table(path, columns=["epoch", "lr", "L", *TERMS])
            known = rows[-1].epoch if rows else 0
            newer = [row for row in found.to_pylist() if row["epoch"] >= known]
            return [*rows, *(_row_of(row, found.num_rows) for row in newer)]
        return rows

    def _kinds(self, states: dict[NodeId, str]) -> list[dict[str, Any]]:
        """How many nodes of each kind are in which state, and how far estimates of it go wrong."""
        counts: dict[Kind, Counter[str]] = {}
        for job in self.grid.jobs:
            counts.setdefault(job.id.kind, Counter())[states.get(job.id, "blocked")] += 1
        return [
            {"kind": kind, "error": self._error(kind), **counts[kind]}
            for kind in Kind
            if kind in counts
        ]

    def _of_running(self, one: Running, now: float) -> dict[str, Any]:
        last = one.rows[-1] if one.rows else None
        found: dict[str, Any] = {
            "key": one.job.id.file_name,
            "title": printable(one.job.title),
            "kind": one.job.id.kind,
            "where": where(one),
            "left": left_text(one, now),
            # By its own epochs it is known better.
            "range": "" if last or one.left is None else self._range(one.job.id.kind, one.left),
            "curves": curves(one.rows),
        }
        if last is not None:
            speed = round(last.images_per_second, 1)
            found |= {"done": last.epoch, "total": last.epochs, "what": "epoch", "speed": speed}
        elif one.amount is not None and one.amount.total:
            done = min(one.amount.done, one.amount.total)
            found |= {"done": done, "total": one.amount.total, "what": one.amount.what}
        return found

    def _error(self, kind: Kind) -> float | None:
        return _number(self.grid.times.error(kind)) if self.grid.times.says(kind) else None

    def _range(self, kind: Kind, seconds: float) -> str:
        """From what to what an estimate of a kind's node may be; nothing where that is the same, or
        too few have finished to say.
        """
        if not self.grid.times.says(kind):
            return ""
        error = self.grid.times.error(kind)
        low, high = duration(seconds / (1 + error)), duration(seconds * (1 + error))
        return f" ({low} to {high})" if low != high else ""

    def _waiting(self, picture: Picture) -> list[dict[str, Any]]:
        """The nodes that wait: those that are ready, then the others, each in the order in which
        they can be made.
        """
        halfway = {one.job.id: one.rows[-1] for one in picture.stopped if one.rows}
        rows = []
        for job in sorted(picture.waiting, key=lambda job: picture.needs(job) > 0)[:MOST_ROWS]:
            row = halfway.get(job.id)
            text = f"stopped after epoch {row.epoch} of {row.epochs}" if row else ""
            if not text:
                needs = picture.needs(job)
                text = f"needs {counted(needs, 'other')}" if needs else "ready"
            seconds, takes = picture.expected.get(job.id), ""
            if seconds is not None:
                takes = f"{duration(seconds)}{self._range(job.id.kind, seconds)}"
            rows.append({"title": printable(job.title), "state": text, "takes": takes})
        return rows


def curves(rows: Sequence[Row]) -> dict[str, Any]:
    """What the epochs' rows say, a list of values by name; "epoch" has the epochs. Of many every
    so-manieth, and the last.
    """
    if not rows:
        return {}
    every = math.ceil(len(rows) / MOST_POINTS)
    chosen = [*rows[:-1][::every], rows[-1]]
    found: dict[str, Any] = {
        "epoch": [row.epoch for row in chosen],
        "epochs": rows[-1].epochs,
        "values": {},
    }
    values = found["values"]
    for name in dict.fromkeys(name for row in chosen for name in row.terms):
        values[name] = [_number(row.terms.get(name)) for row in chosen]
    if any(row.accuracy is not None for row in chosen):
        values["accuracy"] = [_number(row.accuracy) for row in chosen]
    values["images/s"] = [_number(row.images_per_second) for row in chosen]
    values["learning rate"] = [_number(row.lr) for row in chosen]
    return found


def _row_of(found: dict[str, Any], epochs: int) -> Row:
    """A row of a step's history; how fast it was is not in it."""
    terms = {name: float(found[name]) for name in ("L", *TERMS)}
    return Row(int(found["epoch"]) + 1, epochs, 0.0, 0.0, math.nan, float(found["lr"]), terms)


def _of_stopped(one: Stopped) -> dict[str, Any]:
    reason = printable(one.reason.replace("\n", " "))
    key, title = one.job.id.file_name, printable(one.job.title)
    return {"key": key, "title": title, "reason": reason, "curves": curves(one.rows)}


def _state_of_nodes(picture: Picture) -> dict[NodeId, str]:
    """done, running, failed or waiting; the others wait for one that failed."""
    found = dict.fromkeys(picture.finished, "done")
    found |= {job.id: "waiting" for job in picture.waiting}
    found |= {one.job.id: "running" for one in picture.running}
    return found | {one.job.id: "failed" for one in picture.failed}


def _number(value: float | None) -> float | None:
    """A number with six digits, as JSON may have it."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
