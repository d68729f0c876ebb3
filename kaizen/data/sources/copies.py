"""Images that stand in a dataset more than once, told by their files' checksums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kaizen.data.found import Finding
from kaizen.errors import KaizenError


@dataclass(frozen=True)
class Files:
    """The files of a part: ``digests`` uint64 [N] of their content, ``labels`` int64 [N], paths."""

    digests: np.ndarray
    labels: np.ndarray
    paths: Sequence[str]


def copies(root: Path, train: Files, test: Files, classes: Sequence[str]) -> list[Finding]:
    """What stands more than once; the first of it is a pair of paths.

    Raises KaizenError where it cannot be meant: half of the test images or more are training
    images, or all of a class's; half of the training images or more stand in several classes, or
    all of a class's. Fewer are told, as published benchmarks have some.
    """
    shared = np.isin(test.digests, train.digests)
    several = _in_several_classes(train)
    first_shared = _pair(test, train, shared)
    first_several = _pair(train, train, several, another_label=True)
    if of := _too_many(test, shared, classes):
        raise KaizenError(
            f"{root}: {int(shared.sum())} test images, {of}, are training images too (such as "
            f"{first_shared}), so that accuracy on them says nothing; remove them from one part"
        )
    if of := _too_many(train, several, classes):
        raise KaizenError(
            f"{root}: {int(several.sum())} training images, {of}, stand in several classes (such "
            f"as {first_several}), so that their labels contradict each other; remove the wrong "
            "ones"
        )
    repeated = _again(train) & ~several
    told = [
        ("test images that are training images too", shared, first_shared),
        ("training images that stand in several classes", several, first_several),
        (
            "training images that stand in their class again",
            repeated,
            _pair(train, train, repeated),
        ),
    ]
    return [Finding(what, int(found.sum()), first) for what, found, first in told if found.any()]


def _again(files: Files) -> np.ndarray:
    """bool [N]: which files stand in the part before."""
    first = np.zeros(len(files.digests), dtype=bool)
    first[np.unique(files.digests, return_index=True)[1]] = True
    return ~first


def _in_several_classes(files: Files) -> np.ndarray:
    """bool [N]: which files also stand under another label."""
    pairs = np.unique(np.stack([files.digests, files.labels.astype(np.uint64)], axis=1), axis=0)
    digests, counts = np.unique(pairs[:, 0], return_counts=True)
    return np.isin(files.digests, digests[counts > 1])


def _too_many(files: Files, found: np.ndarray, classes: Sequence[str]) -> str:
    """Of what so many were found that it cannot be meant: a class of two images or more as a whole,
    or half of the files; else empty.
    """
    count = np.bincount(files.labels)
    whole = np.flatnonzero((count >= 2) & (np.bincount(files.labels, weights=found) == count))
    if len(whole):
        return f"all of class {classes[whole[0]]!r}"
    return f"of {len(found)}" if 2 * found.sum() >= len(found) else ""


def _pair(files: Files, others: Files, found: np.ndarray, another_label: bool = False) -> str:
    """The first of the files that were found, and an equal one of ``others``."""
    if not found.any():
        return ""
    place = int(np.flatnonzero(found)[0])
    equal = others.digests == files.digests[place]
    if another_label:
        equal &= others.labels != files.labels[place]
    other = int(np.flatnonzero(equal)[0])
    return f"{files.paths[place]} = {others.paths[other]}"
