"""Images that are in a dataset more than once, found by their files' checksums."""

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


def copies(
    root: Path,
    train: Files,
    test: Files,
    classes: Sequence[str],
    mend: str = "remove them from one part",
) -> list[Finding]:
    """What is there more than once; the first of it is a pair of paths.

    Images without a class (label -1) are training images, but in no class. ``mend`` says what to do
    where test images are training images.

    Raises KaizenError where it cannot be meant: half of the test images or more are training
    images, or all of a class's; half of the training images or more are in several classes, or
    all of a class's. Fewer are only reported, as published benchmarks have some.
    """
    shared = np.isin(test.digests, train.digests)
    several = _in_several_classes(train)
    first_shared = _pair(test, train, shared)
    first_several = _pair(train, train, several, another_label=True)
    if of := _too_many(test, shared, classes):
        raise KaizenError(
            f"{root}: {int(shared.sum())} test images, {of}, are training images too (such as "
            f"{first_shared}), so that accuracy on them says nothing; {mend}"
        )
    if of := _too_many(train, several, classes):
        raise KaizenError(
            f"{root}: {int(several.sum())} training images, {of}, are in several classes (such "
            f"as {first_several}), so that their labels contradict each other; remove the wrong "
            "ones"
        )
    repeated = _again(train) & ~several
    labelled = train.labels >= 0
    reported = [
        ("test images that are training images too", shared, first_shared),
        ("training images that are in several classes", several, first_several),
        (
            "training images that are in their class again",
            repeated & labelled,
            _pair(train, train, repeated & labelled),
        ),
        (
            "images without a class that are training images already",
            repeated & ~labelled,
            _pair(train, train, repeated & ~labelled),
        ),
    ]
    return [
        Finding(what, int(found.sum()), first) for what, found, first in reported if found.any()
    ]


def _again(files: Files) -> np.ndarray:
    """bool [N]: which files are in the part before."""
    first = np.zeros(len(files.digests), dtype=bool)
    first[np.unique(files.digests, return_index=True)[1]] = True
    return ~first


def _in_several_classes(files: Files) -> np.ndarray:
    """bool [N]: which files are also under another label."""
    labelled = files.labels >= 0
    pairs = np.stack([files.digests[labelled], files.labels[labelled].astype(np.uint64)], axis=1)
    digests, counts = np.unique(np.unique(pairs, axis=0)[:, 0], return_counts=True)
    return np.isin(files.digests, digests[counts > 1]) & labelled


def _too_many(files: Files, found: np.ndarray, classes: Sequence[str]) -> str:
    """Of what so many were found that it cannot be meant: a class of two images or more as a whole,
    or half of the files; else empty.
    """
    labelled = files.labels >= 0
    labels, found = files.labels[labelled], found[labelled]
    count = np.bincount(labels)
    whole = np.flatnonzero((count >= 2) & (np.bincount(labels, weights=found) == count))
    if len(whole):
        return f"all of class {classes[whole[0]]!r}"
    return f"of {len(found)}" if len(found) and 2 * found.sum() >= len(found) else ""


def _pair(files: Files, others: Files, found: np.ndarray, another_label: bool = False) -> str:
    """The first of the files that were found, and an equal one of ``others``."""
    if not found.any():
        return ""
    place = int(np.flatnonzero(found)[0])
    equal = others.digests == files.digests[place]
    if another_label:
        equal &= (others.labels != files.labels[place]) & (others.labels >= 0)
    other = int(np.flatnonzero(equal)[0])
    return f"{files.paths[place]} = {others.paths[other]}"
