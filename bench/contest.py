"""Paired timings: contestants take turns in one process, and the order rotates from turn to turn.

On a machine that is throttled in bursts means and medians mislead, so the minimum and the 10th
percentile of many short repetitions are what is compared; the median is kept beside them. Where
others compute on the same cores, CPU seconds (``clock``) leave out what these take.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Contestant:
    """Something that is timed: ``work`` handles ``images`` images a call."""

    name: str
    images: int
    work: Work


@dataclass(frozen=True)
class Timing:
    """Seconds of one call of a contestant, over all its repetitions."""

    name: str
    images: int
    minimum: float
    p10: float
    median: float
    repetitions: int

    @property
    def images_per_second(self) -> float:
        """By the fastest repetition."""
        return self.images / self.minimum


def contest(
    contestants: Sequence[Contestant],
    repetitions: int,
    seconds: float,
    wait: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Time the contestants in turns, at most ``repetitions`` turns and about ``seconds`` in all,
    but two turns at least; the first turn, which warms up, does not count.

    ``wait`` ends a call: on a GPU it waits for the device. ``clock`` tells the seconds of a call.
    """
    found: list[list[float]] = [[] for _ in contestants]
    order = list(range(len(contestants)))
    end = 0.0
    for turn in range(repetitions + 1):
        for index in order:
            began = clock()
            contestants[index].work()
            wait()
            if turn:
                found[index].append(clock() - began)
        order = [*order[1:], order[0]]
        end = end or time.perf_counter() + seconds
        if turn >= 2 and time.perf_counter() > end:
            break
    return [_timing(one, times) for one, times in zip(contestants, found, strict=True)]


def _timing(contestant: Contestant, times: Sequence[float]) -> Timing:
    ordered = sorted(times)
    return Timing(
        name=contestant.name,
        images=contestant.images,
        minimum=ordered[0],
        p10=ordered[len(ordered) // 10],
        median=ordered[len(ordered) // 2],
        repetitions=len(ordered),
    )
