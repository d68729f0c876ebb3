"""Reading and decoding images in worker processes: in order, in chunks, with a bounded number under
way.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from kaizen.data.image_files import decode_file, encode_png, shrink
from kaizen.data.schema import ShardRow
from kaizen.data.sources.base import Row, Source
from kaizen.errors import NodeFailed

# Chunks are sized by what the last one took, so that large images do not fill the memory either.
_CHUNK_BYTES = 8_000_000
_MAX_CHUNK_ROWS = 256
_FIRST_CHUNK_ROWS = 16


@dataclass(frozen=True, slots=True)
class Corrupt:
    """An image that cannot be read, and why."""

    row: Row
    reason: str


Outcome = ShardRow | Corrupt


@dataclass(frozen=True)
class ReadImages:
    """What a worker does with a chunk of rows; sent to each worker once."""

    source: Source
    encoding: str
    raw_limit: int
    resize: int | None = None
    bit_depth: int | None = None

    def __call__(self, rows: Sequence[Row]) -> list[Outcome]:
        """Read and decode images; corrupt ones come back as such, in their places.

        Ends early, after one image at least, once their bytes are a chunk's: the rest has to be
        asked for again.
        """
        outcomes: list[Outcome] = []
        size = 0
        for row in rows:
            outcomes.append(self._one(row))
            size += _size(outcomes[-1])
            if size >= _CHUNK_BYTES:
                break
        return outcomes

    def _one(self, row: Row) -> Outcome:
        try:
            data = self.source.read(row)
            pixels = decode_file(data, self.bit_depth) if isinstance(data, bytes) else data
        except (OSError, ValueError) as error:
            return Corrupt(row, getattr(error, "strerror", None) or str(error))
        except MemoryError as error:
            raise MemoryError(f"the image {row.path} does not fit in memory") from error
        shrunk = pixels if self.resize is None else shrink(pixels, self.resize)
        height, width, channels = shrunk.shape
        # Pixels that come from no file have only themselves to be stored as.
        raw = self.encoding == "raw" or (self.encoding == "auto" and shrunk.size <= self.raw_limit)
        if raw or not isinstance(data, bytes):
            return ShardRow(
                shrunk.tobytes(), "raw", height, width, channels, row.label, row.index, row.path
            )
        if shrunk is not pixels or self.bit_depth is not None:
            # PNG keeps what was computed; JPEG would lose a second time, and differently with every
            # libjpeg. Who decodes a file's own bytes again knows nothing of a depth.
            data = encode_png(shrunk)
        return ShardRow(data, "file", height, width, channels, row.label, row.index, row.path)


class ChunkReader:
    """Reads rows in chunks, in order, in worker processes; few chunks are under way at any time."""

    def __init__(self, task: ReadImages, workers: int) -> None:
        self.task = task
        self.workers = workers
        self.chunk_rows = _FIRST_CHUNK_ROWS
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> ChunkReader:
        if self.workers > 1:
            # A fresh interpreter per worker: forking would copy locks that other threads hold.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, context, _start_worker, (self.task,))
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def read(self, lists: Iterator[list[Row]]) -> Iterator[list[Outcome]]:
        """Yield the outcomes of all rows, chunk by chunk; no chunk spans two lists."""
        if self._pool is None:
            for chunk in self._chunks(lists):
                while chunk:
                    outcomes = self._measured(self.task(chunk))
                    chunk = chunk[len(outcomes) :]
                    yield outcomes
            return
        waiting: deque[tuple[list[Row], Future[list[Outcome]]]] = deque()

        def first(pool: ProcessPoolExecutor) -> list[Outcome]:
            chunk, future = waiting.popleft()
            outcomes = self._measured(future.result())
            if rest := chunk[len(outcomes) :]:
                waiting.appendleft((rest, pool.submit(_read_chunk, rest)))
            return outcomes

        try:
            for chunk in self._chunks(lists):
                waiting.append((chunk, self._pool.submit(_read_chunk, chunk)))
                while len(waiting) > self.workers + 2:
                    yield first(self._pool)
            while waiting:
                yield first(self._pool)
        except BrokenProcessPool as error:
            raise NodeFailed(
                "a process that reads images was killed, most likely for lack of memory; "
                "lower runtime.ingest_workers or free memory, and run again"
            ) from error

    def _chunks(self, lists: Iterator[list[Row]]) -> Iterator[list[Row]]:
        for rows in lists:
            start = 0
            while start < len(rows):
                chunk = rows[start : start + self.chunk_rows]
                start += len(chunk)
                yield chunk

    def _measured(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Size the coming chunks by this one's bytes."""
        size = sum(map(_size, outcomes))
        self.chunk_rows = max(1, min(_MAX_CHUNK_ROWS, _CHUNK_BYTES * len(outcomes) // max(1, size)))
        return outcomes


def _size(outcome: Outcome) -> int:
    return len(outcome.image) if isinstance(outcome, ShardRow) else 0


_worker_task: ReadImages | None = None


def _start_worker(task: ReadImages) -> None:
    """Prepare a worker: it leaves interrupts to its parent, and ends when the parent is killed."""
    global _worker_task
    _worker_task = task
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _read_chunk(rows: Sequence[Row]) -> list[Outcome]:
    if _worker_task is None:
        raise RuntimeError("the worker was not started by _start_worker")
    return _worker_task(rows)
