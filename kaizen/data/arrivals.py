"""The file of a stream that grows, data/stream.yaml: which tasks arrived, and what each holds.

`kaizen append` writes it and people commit it. A plan reads it instead of the raw images, which may
be gone. It also says what a label is: the position of a class in the order in which the stream
first brings it, by name within an arrival.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaizen.data.schema import UNLABELLED
from kaizen.errors import KaizenError
from kaizen.files import printable, write_text
from kaizen.params.reading import read_yaml
from kaizen.params.typed import from_dict

STREAM_FILE = "data/stream.yaml"
_VERSION = 1
_NAME = re.compile(r"(?!\.{1,2}$)[^/\\\0]{1,200}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_MOST = 10_000
_HEAD = """\
# The tasks that arrived, in order. `kaizen append` writes this file: commit it, and do not edit it.
"""


@dataclass(frozen=True)
class ArrivedClass:
    """A class as one arrival holds it: its label, and numbers and checksums of its images by part.

    ``test_sha256`` is None where none of them is a test image.
    """

    name: str
    label: int
    train: int
    train_sha256: str
    test: int = 0
    test_sha256: str | None = None


@dataclass(frozen=True)
class Arrival:
    """A task that arrived: where its images lay, and what they were.

    ``classes`` are sorted by name. ``unlabelled`` is the number of images without a class.
    ``test_fraction`` and ``seed`` tell which images are held out for testing; None: the arrival has
    a test part of its own, or no test images. ``retired`` is the number of arrivals when its
    training images were given up (`kaizen retire`), ``replay_retired`` the same of its rows in
    replay shards; None: they are still there.
    """

    name: str
    path: str
    date: str
    classes: tuple[ArrivedClass, ...] = ()
    unlabelled: int = 0
    unlabelled_sha256: str | None = None
    test_fraction: float | None = None
    seed: int | None = None
    retired: int | None = None
    replay_retired: int | None = None

    @property
    def labels(self) -> list[int]:
        """The labels of its classes, ascending."""
        return sorted(each.label for each in self.classes)

    def counts(self, part: str) -> dict[int, int]:
        """The number of images of each label in a part, `UNLABELLED` included where there are
        some.
        """
        found = {each.label: each.train if part == "train" else each.test for each in self.classes}
        if part == "train" and self.unlabelled:
            found[UNLABELLED] = self.unlabelled
        return {label: count for label, count in sorted(found.items()) if count}

    def checksums(self, part: str) -> dict[str, str]:
        """What a part consists of: label, or -1 -> the checksum of its images."""
        found = {
            str(each.label): each.train_sha256 if part == "train" else each.test_sha256
            for each in sorted(self.classes, key=lambda each: each.label)
        }
        if part == "train" and self.unlabelled_sha256:
            found[str(UNLABELLED)] = self.unlabelled_sha256
        return {label: checksum for label, checksum in found.items() if checksum is not None}


@dataclass(frozen=True)
class ArrivalStream:
    """All arrivals in order; ``path`` is `dataset.path`, where new ones are looked for."""

    path: str
    arrivals: tuple[Arrival, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of all classes in label order."""
        return class_names(self.arrivals)


def class_names(arrivals: tuple[Arrival, ...]) -> tuple[str, ...]:
    """The names of the classes that arrivals have brought, in label order."""
    names = {each.label: each.name for arrival in arrivals for each in arrival.classes}
    return tuple(names[label] for label in sorted(names))


def labels_of(names: tuple[str, ...], new: list[str]) -> dict[str, int]:
    """The labels of an arrival's classes ``new``, after those of ``names`` were seen."""
    known = {name: label for label, name in enumerate(names)}
    for name in sorted(new):
        known.setdefault(name, len(known))
    return {name: known[name] for name in new}


def read_stream(root: Path) -> ArrivalStream | None:
    """The stream of the checkout ``root``; None where it has none.

    Raises KaizenError where the file is not what `kaizen append` writes.
    """
    path = root / STREAM_FILE
    if not path.exists():
        return None
    values = read_yaml(path, written_by_us=True)
    if values.pop("version", None) != _VERSION:
        raise _broken(path, f"version must be {_VERSION}")
    try:
        stream = from_dict(ArrivalStream, values)
    except TypeError as error:
        raise _broken(path, str(error)) from None
    _check(path, stream)
    return stream


def write_stream(root: Path, stream: ArrivalStream) -> None:
    """Write data/stream.yaml atomically; raises KaizenError where it cannot be."""
    lines = [_HEAD + f"version: {_VERSION}", f"path: {_text(stream.path)}", "arrivals:"]
    for arrival in stream.arrivals:
        values = dataclasses.asdict(arrival)
        values.pop("classes")
        start = "  - "
        for name, value in values.items():
            if value is not None and not (name == "unlabelled" and value == 0):
                lines.append(f"{start}{name}: {_text(value)}")
                start = "    "
        lines += ["    classes:"] if arrival.classes else []
        for each in arrival.classes:
            given = {n: v for n, v in dataclasses.asdict(each).items() if v is not None}
            flow = ", ".join(f"{name}: {_text(value)}" for name, value in given.items())
            lines.append(f"      - {{ {flow} }}")
    if not stream.arrivals:
        lines[-1] = "arrivals: []"
    write_text(root / STREAM_FILE, "\n".join(lines) + "\n")


def _text(value: Any) -> str:
    """A value as YAML: as JSON, which is YAML, whatever a text looks like."""
    return json.dumps(value, ensure_ascii=False)


def _check(path: Path, stream: ArrivalStream) -> None:
    """Raise KaizenError where the arrivals cannot be those that were appended."""
    if len(stream.arrivals) > _MOST:
        raise _broken(path, f"more than {_MOST} arrivals")
    known: dict[str, int] = {}
    names = set[str]()
    for number, arrival in enumerate(stream.arrivals):
        where = f"arrivals.{number} ({printable(arrival.name)[:50]})"
        if arrival.name in names:
            raise _broken(path, f"{where}: an arrival of this name stands before it")
        names.add(arrival.name)
        problem = _problem(arrival, number, len(stream.arrivals))
        if problem:
            raise _broken(path, f"{where}: {problem}")
        expected = dict(known)
        for each in arrival.classes:
            expected.setdefault(each.name, len(expected))
        for each in arrival.classes:
            if each.label != expected[each.name]:
                raise _broken(
                    path,
                    f"{where}: class {printable(each.name)[:50]} has label {each.label}, but would "
                    f"be the stream's {expected[each.name]}: an arrival before it was removed, "
                    "added or moved",
                )
        known = expected
    if list(known) != list(stream.classes):
        raise _broken(path, "labels are given twice")


def _problem(arrival: Arrival, number: int, count: int) -> str:
    """What is wrong with one arrival; "" where nothing is."""
    texts = (arrival.name, arrival.path, *(each.name for each in arrival.classes))
    hashes = [each.train_sha256 for each in arrival.classes]
    hashes += [each.test_sha256 for each in arrival.classes if each.test_sha256 is not None]
    hashes += [arrival.unlabelled_sha256] if arrival.unlabelled_sha256 is not None else []
    numbers = [
        arrival.unlabelled,
        *(n for each in arrival.classes for n in (each.train, each.test)),
    ]
    listed = [each.name for each in arrival.classes]
    fraction = arrival.test_fraction
    checks = {
        "a name or path holds what cannot be printed": any(printable(t) != t for t in texts),
        "its name cannot be a folder's": not _NAME.fullmatch(arrival.name),
        "its date is not written as 2026-01-31": not _DATE.fullmatch(arrival.date),
        "a checksum is no SHA-256": not all(_SHA256.fullmatch(text) for text in hashes),
        "a number of images is below 0": min(numbers) < 0,
        "its classes are not sorted by name": listed != sorted(set(listed)),
        "a class has no training image": any(each.train < 1 for each in arrival.classes),
        "a class's number of test images and their checksum do not go together": any(
            (each.test > 0) != (each.test_sha256 is not None) for each in arrival.classes
        ),
        "unlabelled and unlabelled_sha256 do not go together": (arrival.unlabelled > 0)
        != (arrival.unlabelled_sha256 is not None),
        "it holds no image": not arrival.classes and not arrival.unlabelled,
        "test_fraction and seed do not go together": (fraction is None) != (arrival.seed is None),
        "test_fraction must be above 0 and below 1": fraction is not None and not 0 < fraction < 1,
        "retired must be the number of arrivals at the time": arrival.retired is not None
        and not number < arrival.retired <= count,
        "replay_retired must be the number of arrivals when replay rows went, not before retired": (
            arrival.replay_retired is not None
            and not (arrival.retired or count + 1) <= arrival.replay_retired <= count
        ),
    }
    return next((text for text, wrong in checks.items() if wrong), "")


def _broken(path: Path, what: str) -> KaizenError:
    return KaizenError(
        f"{path}: {what}; it is written by `kaizen append`: take the committed version back "
        f"(git checkout -- {STREAM_FILE})"
    )


def by_name(stream: ArrivalStream) -> Mapping[str, Arrival]:
    """Arrivals by their names."""
    return {arrival.name: arrival for arrival in stream.arrivals}
