"""A model over many images: decoded by threads, computed in batches, written in parts. Memory is
bounded by a few batches; the batches are the same after an interruption, and so are the bits.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
import torch
from torch import Tensor

from kaizen.errors import KaizenError
from kaizen.inference.inputs import Inputs, Item
from kaizen.inference.model import Model
from kaizen.inference.outputs import Output

# Batches that are decoded ahead of the one that is computed, and batches in a part of the output.
_AHEAD = 2
_BATCHES_OF_PART = 16
_MOST_NAMED = 10

What = Literal["predict", "embed"]


@dataclass
class Seen:
    """What was seen so far: images read, images that could not be read (the first by name, with the
    reason), and how often a true class was taken for which.
    """

    read: int = 0
    unreadable: int = 0
    reasons: list[str] = field(default_factory=list)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, table: pa.Table) -> None:
        """Count the rows of a table."""
        columns = [table.column(name).to_pylist() for name in ("file", "error", "true_class")]
        taken = table.column("class_1").to_pylist() if "class_1" in table.column_names else None
        for place, (name, error, true) in enumerate(zip(*columns, strict=True)):
            if error is None:
                self.read += 1
                if taken is not None and true is not None:
                    self.pairs[true, taken[place]] += 1
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

    def schema(self, model: Model) -> pa.Schema:
        """The columns of the output: the image's file, its true class and why it could not be read
        (null where there is none), and class_1, probability_1, … or features.
        """
        fields = [("file", pa.string()), ("true_class", pa.string()), ("error", pa.string())]
        if self.what == "embed":
            size = model.encoder.feature_dim
            return pa.schema([*fields, ("features", pa.list_(pa.float32(), size))])
        for place in range(1, self.top + 1):
            fields += [(f"class_{place}", pa.string()), (f"probability_{place}", pa.float32())]
        return pa.schema(fields)


def run_over(
    model: Model,
    inputs: Inputs,
    work: Work,
    output: Output | None,
    report: Callable[[int, pa.Table], None] = lambda done, table: None,
) -> Seen:
    """Look at all images; returns what was seen. ``report`` gets how many are done and the rows of
    each batch.

    With ``output`` the rows are written there, from the first part that is missing on. Raises
    KaizenError where the model gives what is no number.
    """
    seen = Seen()
    done = 0
    if output is not None:
        for table in output.read():
            seen.add(table)
            done += table.num_rows
    waiting: list[pa.Table] = []
    for table in _tables(model, inputs.items(done), work):
        seen.add(table)
        done += table.num_rows
        waiting.append(table)
        if output is None:
            waiting = []
        elif len(waiting) == _BATCHES_OF_PART or done == len(inputs):
            output.write(pa.concat_tables(waiting))
            waiting = []
        report(done, table)
    return seen


def _tables(model: Model, items: Iterator[Item], work: Work) -> Iterator[pa.Table]:
    """The rows of each batch, in order."""
    schema = work.schema(model)
    waiting: deque[list[tuple[Item, Future[Tensor | str]]]] = deque()
    with ThreadPoolExecutor(work.workers) as pool:

        def prepare(item: Item) -> Tensor | str:
            try:
                return model.prepare_one(item.read(), item.name)
            except (KaizenError, ValueError) as error:
                return str(error)

        try:
            while batch := list(itertools.islice(items, work.batch_size)):
                waiting.append([(item, pool.submit(prepare, item)) for item in batch])
                if len(waiting) > _AHEAD:
                    yield _table(model, waiting.popleft(), work, schema)
            while waiting:
                yield _table(model, waiting.popleft(), work, schema)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _table(
    model: Model,
    batch: Sequence[tuple[Item, Future[Tensor | str]]],
    work: Work,
    schema: pa.Schema,
) -> pa.Table:
    """The rows of one batch; what could not be read has the reason and nothing else."""
    found = [future.result() for _, future in batch]
    prepared = [one for one in found if isinstance(one, Tensor)]
    results = iter(_results(model, torch.stack(prepared), work) if prepared else ())
    rows = []
    for (item, _), one in zip(batch, found, strict=True):
        row: dict[str, Any] = {"file": item.name, "true_class": item.true_class}
        rows.append(row | ({"error": one} if isinstance(one, str) else next(results)))
    return pa.Table.from_pylist(rows, schema)


def _results(model: Model, prepared: Tensor, work: Work) -> list[dict[str, Any]]:
    features, logits = model.run(prepared)
    if not (torch.isfinite(features).all() and torch.isfinite(logits).all()):
        raise KaizenError(
            "the model gives what is no number for one of these images; try precision float32, or "
            "another step's model"
        )
    if work.what == "embed":
        return [{"features": row} for row in features.numpy()]
    values, places = logits.softmax(dim=1).topk(work.top, dim=1)
    return [
        {
            name: value
            for number, (share, place) in enumerate(zip(shares, of_image, strict=True), 1)
            for name, value in (
                (f"class_{number}", model.classes[place]),
                (f"probability_{number}", share),
            )
        }
        for shares, of_image in zip(values.tolist(), places.tolist(), strict=True)
    ]
