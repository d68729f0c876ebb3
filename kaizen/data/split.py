"""What each task of the stream holds, and the seeded orders that choices of rows are made from."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kaizen.compute.seeds import derive_seed
from kaizen.data.sources.names import alike_text
from kaizen.errors import KaizenError
from kaizen.params import SplitParams


@dataclass(frozen=True)
class Stream:
    """The tasks in order: the labels of each, in the task's own order, and for a split by domain
    its domain.

    Labels are positions in the dataset's list of classes, also where the stream has only some of
    them; of arrivals, positions in the order in which the stream brought the classes.
    """

    by: Literal["class", "data", "domain", "arrival"]
    classes: list[list[int]]
    domains: list[int]

    def __len__(self) -> int:
        """The number of tasks."""
        return len(self.classes)


def make_stream(split: SplitParams, classes: Sequence[str], domains: Sequence[str] = ()) -> Stream:
    """Divide a dataset of the given classes and domains into tasks.

    Raises KaizenError where the parameters do not fit them.
    """
    if split.by == "data":
        return Stream("data", [list(range(len(classes)))] * split.tasks, [])
    if split.by == "domain":
        order = _domain_order(split, domains)
        return Stream("domain", [list(range(len(classes)))] * len(order), order)
    if split.classes is not None:
        return Stream(
            "class", [_positions("split.classes", names, classes) for names in split.classes], []
        )
    if split.sizes is None:
        return Stream("class", class_tasks(len(classes), split.tasks, split.seed, split.order), [])
    if sum(split.sizes) > len(classes):
        raise KaizenError(
            f"split.sizes: {list(split.sizes)} takes {sum(split.sizes)} classes, and there are "
            f"{len(classes)}; lower the sizes"
        )
    order = _class_order(len(classes), split.seed, split.order)
    ends = np.cumsum(split.sizes).tolist()
    return Stream(
        "class", [order[end - size : end] for end, size in zip(ends, split.sizes, strict=True)], []
    )


def class_tasks(
    num_classes: int, tasks: int, seed: int, order: Literal["shuffled", "given"] = "shuffled"
) -> list[list[int]]:
    """Divide the labels 0..num_classes-1 into ``tasks`` lists of equal length, in stream order.

    Shuffled, it equals ``torch.manual_seed(seed); torch.randperm(num_classes).chunk(tasks)``
    without torch (fidelity.md §1). Raises KaizenError where ``tasks`` does not divide the classes.
    """
    if tasks < 1 or num_classes % tasks:
        divisors = [str(count) for count in range(1, num_classes + 1) if num_classes % count == 0]
        choice = f"{', '.join(divisors[:-1])} or {divisors[-1]}" if len(divisors) > 1 else "1"
        raise KaizenError(
            f"split.tasks: {tasks} does not divide the {num_classes} classes into tasks of equal "
            f"size; choose {choice} (or list unequal split.sizes)"
        )
    labels = _class_order(num_classes, seed, order)
    size = num_classes // tasks
    return [labels[start : start + size] for start in range(0, num_classes, size)]


def deal(count: int, tasks: int, seed: int, part: str, label: int) -> np.ndarray:
    """The task of each of a class's ``count`` rows: int64 [count], i.i.d. parts that differ by one
    row at most.

    The first rows of the seed's order go to task ``label`` modulo ``tasks``, so that what is left
    over by division does not end up in the same task for every class.
    """
    found = np.empty(count, dtype=np.int64)
    found[seeded_order(count, seed, "part", part, label)] = turns(count, tasks, label)
    return found


def turns(count: int, tasks: int, label: int) -> np.ndarray:
    """The tasks to which the rows of a class go in the seed's order: int64 [count]."""
    return (np.arange(count, dtype=np.int64) + label) % tasks


def _class_order(num_classes: int, seed: int, order: Literal["shuffled", "given"]) -> list[int]:
    return _torch_randperm(num_classes, seed) if order == "shuffled" else list(range(num_classes))


def _domain_order(split: SplitParams, domains: Sequence[str]) -> list[int]:
    if not domains:
        raise KaizenError(
            "split.by: domain needs a source with domains, as dataset.source: domain_folder; use "
            "one, or by: class"
        )
    if split.domains is not None:
        return _positions("split.domains", split.domains, domains)
    if split.order == "given":
        return list(range(len(domains)))
    # By name, so that a domain's place does not depend on how many there are before it in the
    # alphabet.
    return sorted(
        range(len(domains)),
        key=lambda position: derive_seed(split.seed, "domain", domains[position]),
    )


def _positions(path: str, names: Sequence[str], known: Sequence[str]) -> list[int]:
    """Positions of names in the dataset's list; raises KaizenError on an unknown one."""
    place = {name: position for position, name in enumerate(known)}
    for name in names:
        if name not in place:
            close = difflib.get_close_matches(name, known, n=1)
            alike = alike_text([name], known)
            if alike:
                raise KaizenError(f"{path}: {alike}, which the dataset has; write it so")
            fix = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known[:20])}"
            raise KaizenError(f"{path}: {name!r} is not in the dataset; {fix}")
    return [place[name] for name in names]


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
    """A permutation int64 [count] that depends on the seed and on what it is for (``path``)
    alone.
    """
    return np.argsort(seeded_keys(count, seed, *path), kind="stable")


def seeded_keys(count: int, seed: int, *path: str | int) -> np.ndarray:
    """Random numbers uint64 [count] that depend on the seed and on what they are for (``path``)
    alone.

    They are PCG64's raw draws, which NumPy keeps the same in all versions, unlike
    Generator.permutation.
    """
    return np.random.PCG64(derive_seed(seed, *path)).random_raw(count)
