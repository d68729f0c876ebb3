"""Which classes form which task, and the seeded orders that choices of rows are made from."""

from __future__ import annotations

import numpy as np

from kaizen.errors import KaizenError
from kaizen.seeds import derive_seed


def class_tasks(num_classes: int, tasks: int, seed: int) -> list[list[int]]:
    """Divide the labels 0..num_classes-1 into ``tasks`` lists of equal length, in stream order.

    Equals ``torch.manual_seed(seed); torch.randperm(num_classes).chunk(tasks)`` without torch (fidelity.md §1).
    Raises KaizenError where ``tasks`` does not divide the classes.
    """
    if tasks < 1 or num_classes % tasks:
        divisors = [str(count) for count in range(1, num_classes + 1) if num_classes % count == 0]
        choice = f"{', '.join(divisors[:-1])} or {divisors[-1]}" if len(divisors) > 1 else "1"
        raise KaizenError(
            f"split.tasks: {tasks} does not divide the {num_classes} classes into tasks of equal size; choose {choice}"
        )
    order = _torch_randperm(num_classes, seed)
    size = num_classes // tasks
    return [order[start : start + size] for start in range(0, num_classes, size)]


def _torch_randperm(count: int, seed: int) -> list[int]:
    """torch.randperm on the CPU: a Fisher-Yates shuffle over raw 32-bit draws of mt19937.

    NumPy's legacy RandomState, whose stream is frozen, seeds the same generator in the same way.
    """
    draws = np.random.RandomState(seed).randint(0, 2**32, size=count, dtype=np.uint32).tolist()
    order = list(range(count))
    for position in range(count - 1):
        other = position + draws[position] % (count - position)
        order[position], order[other] = order[other], order[position]
    return order


def seeded_order(count: int, seed: int, *path: str | int) -> np.ndarray:
    """A permutation int64 [count] that depends on the seed and on what it is for (``path``) alone."""
    return np.argsort(seeded_keys(count, seed, *path), kind="stable")


def seeded_keys(count: int, seed: int, *path: str | int) -> np.ndarray:
    """Random numbers uint64 [count] that depend on the seed and on what they are for (``path``) alone.

    They are PCG64's raw draws, which NumPy keeps the same in all versions, unlike Generator.permutation.
    """
    return np.random.PCG64(derive_seed(seed, *path)).random_raw(count)
