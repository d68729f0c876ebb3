"""Images of several requests in one batch: who comes while the model computes is answered with the
next batch. All images of a batch are answered by one model object.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from kaizen.errors import KaizenError
from kaizen.inference.answering import Answering


class Full(KaizenError):
    """More waits than there is room for; later there will be some again."""


@dataclass
class Waiting:
    """Prepared images [N, ...] of one request, the model that is to answer, and the answer to come:
    probabilities float32 [N, K] and features float32 [N, F].
    """

    model: Answering
    images: np.ndarray
    answer: Future[tuple[np.ndarray, np.ndarray]] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """A thread that computes batches of at most ``size`` images.

    A batch waits for others up to ``max_wait`` milliseconds, and only while `expect` says that some
    are being decoded: a client that is alone waits for nobody. At most ``room`` images wait.
    ``report`` gets the size of each batch.
    """

    def __init__(
        self,
        size: int,
        max_wait: float,
        room: int,
        report: Callable[[int], object] = lambda size: None,
    ) -> None:
        """Start the thread."""
        self._size, self._max_wait, self._room, self._report = size, max_wait / 1000, room, report
        self._queue: deque[Waiting] = deque()
        self._expected = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    def expect(self, requests: int) -> None:
        """So many more requests (fewer, if below 0) are being decoded, and will come."""
        with self._changed:
            self._expected += requests
            self._changed.notify()

    def submit(self, model: Answering, images: np.ndarray) -> Future[tuple[np.ndarray, np.ndarray]]:
        """Have prepared images [N, ...] answered by ``model``; raises Full where too many wait."""
        waiting = Waiting(model, images)
        with self._changed:
            if self._closed:
                raise Full("the server ends; ask the next one")
            if sum(len(other.images) for other in self._queue) + len(images) > self._room:
                raise Full("too many images wait already; try again in a moment")
            self._queue.append(waiting)
            self._changed.notify()
        return waiting.answer

    def close(self) -> None:
        """Answer what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            self._compute(batch)

    def _next(self) -> list[Waiting]:
        """The next batch: requests for one model, in the order in which they came. Empty at the
        end.
        """
        with self._changed:
            while True:
                while not self._queue:
                    if self._closed:
                        return []
                    self._changed.wait()
                until = self._queue[0].since + self._max_wait
                while self._expected > 0 and not self._closed and self._ready() < self._size:
                    left = until - time.monotonic()
                    if left <= 0:
                        break
                    self._changed.wait(left)
                if taken := self._take():
                    return taken

    def _ready(self) -> int:
        first = self._queue[0].model
        return sum(len(other.images) for other in self._queue if other.model is first)

    def _take(self) -> list[Waiting]:
        """Take the next batch from the queue; nothing where their clients have given them up."""
        first, count, full = self._queue[0], 0, False
        taken: list[Waiting] = []
        rest: deque[Waiting] = deque()
        for waiting in self._queue:
            own = waiting.model is first.model
            # Those of one model in the order in which they came.
            full = full or (own and bool(taken) and count + len(waiting.images) > self._size)
            if own and not full:
                # One that its client has given up is computed for nobody.
                if waiting.answer.set_running_or_notify_cancel():
                    taken.append(waiting)
                    count += len(waiting.images)
            else:
                rest.append(waiting)
        self._queue = rest
        return taken

    def _compute(self, batch: list[Waiting]) -> None:
        """Answer a batch, in pieces where one request alone is larger than a batch."""
        try:
            images = batch[0].images
            if len(batch) > 1:
                images = np.concatenate([waiting.images for waiting in batch])
            found = []
            for start in range(0, len(images), self._size):
                piece = images[start : start + self._size]
                self._report(len(piece))
                found.append(batch[0].model.answer(piece))
            probabilities = np.concatenate([one for one, _ in found])
            features = np.concatenate([one for _, one in found])
        except BaseException as error:
            for waiting in batch:
                waiting.answer.set_exception(error)
            return
        start = 0
        for waiting in batch:
            end = start + len(waiting.images)
            waiting.answer.set_result((probabilities[start:end], features[start:end]))
            start = end
