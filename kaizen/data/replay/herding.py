"""Herding: the rows whose mean feature follows the class mean (iCaRL, arXiv:1611.07725, Alg. 4)."""

from __future__ import annotations

import functools

import numpy as np

from kaizen.data.replay.base import ClassRows, ReplayStream, Size, choose_by_group


def choose(stream: ReplayStream, size: Size) -> list[np.ndarray]:
    """The first rows of each class of each task in herding order, by the features right after the
    task was learnt.

    Later steps take a shorter part of the same order: nothing is chosen again. Of a task that the
    memory before held, that order is what it kept.
    """
    labels = {task.number: task.labels for task in stream.tasks}
    features = functools.lru_cache(maxsize=1)(stream.features)

    def pick(group: ClassRows, count: int) -> np.ndarray:
        if group.task in stream.kept:
            kept = stream.kept[group.task]
            before: np.ndarray = kept[labels[group.task][kept] == group.label][:count]
            return before
        if count == len(group.rows) and not stream.growing:
            return group.rows
        chosen: np.ndarray = group.rows[herding_order(features(group.task)[group.rows], count)]
        return chosen

    return choose_by_group(stream, size, pick)


def herding_order(features: np.ndarray, count: int) -> np.ndarray:
    """The first ``count`` rows of features float [N, F] in herding order: int64 [count], all
    different.

    The k-th row is the one of those left that brings the mean of the first k nearest to the mean of
    all, features scaled to length 1, means not (as in the authors' code). Of equally near rows the
    first is taken.
    """
    vectors = features.astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    squares = np.einsum("nf,nf->n", vectors, vectors)
    mean, total = vectors.mean(axis=0), np.zeros(vectors.shape[1])
    order = np.empty(count, dtype=np.int64)
    for k in range(count):
        # |mean - (total + x) / (k + 1)|^2 without what is the same for all x, times (k + 1)^2;
        # einsum, unlike BLAS, sums in the same order whatever the number of threads.
        distances = squares - 2 * np.einsum("nf,f->n", vectors, (k + 1) * mean - total)
        distances[order[:k]] = np.inf
        order[k] = distances.argmin()
        total += vectors[order[k]]
    return order
