"""A model over many images: decoded by threads, computed in batches, written in parts. Memory is
bounded by a few batches; the batches are the same after an interruption, and so are the bits.

Neither torch nor pyarrow is imported here: the model may be an exported one, on a host without.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kaizen.errors import KaizenError
from kaizen.inference.answering import Answering
from kaizen.inference.inputs import Inputs, Item

if TYPE_CHECKING:
    from kaizen.inference.outputs import Output

# Batches that are decoded ahead of the one that is computed, and batches in a part of the output.
_AHEAD = 2
_BATCHES_OF_PART = 16
_MOST_NAMED = 10

What = Literal["predict", "embed"]
# What is said of one image, by the names of `kaizen.inference.outputs.schema`.
Row = dict[str, Any]


@dataclass
class Seen:
    """What was seen so far: images read, images that could not be read (the first by name, with the
    reason), and how often a true class was taken for which.
    """

    read: int = 0
    unreadable: int = 0
    reasons: list[str] = field(default_factory=list)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, rows: Sequence[Row]) -> None:
        """Count the rows of a batch."""
        for row in rows:
            name, error, true = row["file"], row["error"], row["true_class"]
            if error is None:
                self.read += 1
                if true is not None and "class_1" in row:
                    self.pairs[true, row["class_1"]] += 1
            else:
                self.unreadable += 1
                if len(self.reasons) < _MOST_NAMED:
                    self.reasons.append(error if error.startswith(name) else f"{name}: {error}")


@dataclass(frozen=True)
class Work:
    """What is to be done: ``top`` classes of each image, or its features; in batches, with so many
    threads that decode.
    """

    what: What
    batch_size: int
    workers: int
    top: int = 1


def run_over(
    model: Answering,
    inputs: Inputs,
    work: Work,
    output: Output | None,
    report: Callable[[int, list[Row]], None] = lambda done, rows: None,
) -> Seen:
    """Look at all images; returns what was seen. ``report`` gets how many are done and the rows of
    each batch.

    With ``output`` the rows are written there, from the first part that is missing on. Raises
    KaizenError where the model gives what is no number.
    """
    seen = Seen()
    done = 0
    if output is not None:
        for rows in output.seen():
            seen.add(rows)
            done += len(rows)
    waiting: list[Row] = []
    for batch, rows in enumerate(_batches(model, inputs.items(done), work), 1):
        seen.add(rows)
        done += len(rows)
        if output is not None:
            waiting += rows
            if batch % _BATCHES_OF_PART == 0 or done == len(inputs):
                output.write(waiting)
                waiting = []
        report(done, rows)
    return seen


def _batches(model: Answering, items: Iterator[Item], work: Work) -> Iterator[list[Row]]:
    """The rows of each batch, in order."""
    waiting: deque[list[tuple[Item, Future[np.ndarray | str]]]] = deque()
    with ThreadPoolExecutor(work.workers) as pool:

        def prepare(item: Item) -> np.ndarray | str:
            try:
                return model.prepare_numpy(item.read(), item.name)
            except (KaizenError, ValueError) as error:
                return str(error)

        try:
            while batch := list(itertools.islice(items, work.batch_size)):
                waiting.append([(item, pool.submit(prepare, item)) for item in batch])
                if len(waiting) > _AHEAD:
                    yield _rows(model, waiting.popleft(), work)
            while waiting:
                yield _rows(model, waiting.popleft(), work)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _rows(
    model: Answering, batch: Sequence[tuple[Item, Future[np.ndarray | str]]], work: Work
) -> list[Row]:
    """The rows of one batch; what could not be read has the reason and nothing else."""
    found = [future.result() for _, future in batch]
    prepared = [one for one in found if isinstance(one, np.ndarray)]
    results = iter(_results(model, np.stack(prepared), work) if prepared else ())
    rows = []
    for (item, _), one in zip(batch, found, strict=True):
        row: Row = {"file": item.name, "true_class": item.true_class}
        rows.append(
            row | ({"error": one} if isinstance(one, str) else {"error": None} | next(results))
        )
    return rows


def _results(model: Answering, prepared: np.ndarray, work: Work) -> list[Row]:
    probabilities, features = model.answer(prepared)
    if not (np.isfinite(features).all() and np.isfinite(probabilities).all()):
        raise KaizenError(
            "the model gives what is no number for one of these images; try precision float32, or "
            "another step's model"
        )
    if work.what == "embed":
        return [{"features": row} for row in features]
    # Of equal probabilities the first class, on every machine.
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, : work.top]
    return [
        {
            name: value
            for number, place in enumerate(places, 1)
            for name, value in (
                (f"class_{number}", model.classes[place]),
                (f"probability_{number}", float(shares[place])),
            )
        }
        for shares, places in zip(probabilities, order.tolist(), strict=True)
    ]
