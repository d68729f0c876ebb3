"""The facts about the raw data that a plan is made from."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kaizen.data.arrivals import STREAM_FILE, Arrival, read_stream
from kaizen.data.schema import UNLABELLED
from kaizen.data.sources import open_source
from kaizen.data.sources.base import PARTS, Source
from kaizen.data.sources.present import holds_images
from kaizen.data.sources.walk import kept_apart, scan
from kaizen.data.tracking import tracked_by_dvc
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams
from kaizen.plan.nodes import DatasetFacts
from kaizen.store.places import main_checkout


def open_data(dataset: DatasetParams) -> Source:
    """As `open_source`; where data are absent that DVC tracks, the KaizenError says so.

    Raises KaizenError also where the locale is not UTF-8.
    """
    _check_locale()
    try:
        return open_source(dataset)
    except KaizenError as error:
        folder = Path(dataset.path).expanduser() if dataset.path else None
        tracked = tracked_by_dvc(folder) if folder and not folder.exists() else None
        if tracked is None:
            raise
        file = os.path.relpath(tracked.file)
        raise KaizenError(
            f"dataset.path: {folder} is not here, and the plan needs its checksums. {file} tracks "
            f"it: `dvc checkout {file}` takes it from DVC's cache, `dvc pull {file}` from the "
            "remote"
        ) from error


def dataset_facts(dataset: DatasetParams, root: Path, source: Source | None = None) -> DatasetFacts:
    """Names and checksums of the raw data, remembered under .kaizen by size and times.

    ``source`` is the dataset's, if it is open already. Raises KaizenError where the data are
    absent, badly laid out, or hold what cannot be meant.
    """
    source = source or open_data(dataset)
    cache = main_checkout(root) / ".kaizen" / "checksums"
    classes, domains = source.checksums(cache), source.domain_checksums(cache)
    return DatasetFacts(
        tuple(source.classes),
        tuple(classes["train"]),
        tuple(classes["test"]),
        tuple(source.domains),
        tuple(domains["train"]),
        tuple(domains["test"]),
        source.found(cache),
        source.unlabelled_checksum(cache) or "",
        sum(count for (label, _), count in source.train_counts().items() if label < 0),
        _by_class(source),
    )


def stream_facts(dataset: DatasetParams, root: Path) -> DatasetFacts:
    """The facts of a stream that grows, from data/stream.yaml.

    The images of an arrival may be gone. Raises KaizenError where there is no arrival yet, where
    the file is another stream's, and where images that are there are not those that arrived.
    """
    stream = read_stream(root)
    if stream is None or not stream.arrivals:
        raise KaizenError(
            f"dataset.source: stream, but {STREAM_FILE} names no arrival yet; `kaizen append "
            "FOLDER` takes a folder with the first task's images"
        )
    if dataset.path is None or _absolute(root, dataset.path) != _absolute(root, stream.path):
        raise KaizenError(
            f"dataset.path: {dataset.path} is not the folder of the stream in {STREAM_FILE}, "
            f"{stream.path}; set it to that"
        )
    classes = stream.classes
    for arrival in stream.arrivals:
        check_arrival(dataset, arrival, classes, root)
    return DatasetFacts(classes, (), (), arrivals=stream.arrivals)


def arrival_dataset(dataset: DatasetParams, arrival: Arrival, root: Path) -> DatasetParams:
    """The parameters that open an arrival as a source of its own, as it was divided when it was
    appended.
    """
    fraction = dataset.test_fraction if arrival.test_fraction is None else arrival.test_fraction
    return dataclasses.replace(
        dataset,
        path=str(_absolute(root, arrival.path)),
        test_fraction=fraction,
        seed=dataset.seed if arrival.seed is None else arrival.seed,
    )


def not_appended(dataset: DatasetParams, facts: DatasetFacts, root: Path) -> list[str]:
    """The names of the folders that lie where arrivals do, and are not in the stream yet."""
    folder = _absolute(root, dataset.path or "")
    if not facts.arrivals or not folder.is_dir():
        return []
    known = {_absolute(root, arrival.path) for arrival in facts.arrivals}
    # A link to a disk that is not mounted holds nothing to append.
    return sorted(
        entry.name
        for entry in scan(folder, "the folders of arrivals")
        if entry.is_dir() and not kept_apart(entry.name) and folder / entry.name not in known
    )


def newest_arrival(dataset: DatasetParams, facts: DatasetFacts, root: Path) -> Source | None:
    """The newest arrival whose images are there, as a source of its own; None: all are gone."""
    for arrival in reversed(facts.arrivals):
        if arrival.retired is None and holds_images(_absolute(root, arrival.path)):
            return open_source(arrival_dataset(dataset, arrival, root))
    return None


def check_arrival(
    dataset: DatasetParams, arrival: Arrival, names: tuple[str, ...], root: Path
) -> None:
    """Raise KaizenError where an arrival's images are there and are not those that were appended.

    ``names`` are the classes of the stream. Images that are gone are no fault: a folder may also
    be empty, as that of a disk that is not mounted, or be unreadable.
    """
    if arrival.retired is not None or not holds_images(_absolute(root, arrival.path)):
        return
    changed = changed_images(dataset, arrival, names, root)
    if changed:
        part, _, label = changed[0].partition("/")
        what = "unlabelled images" if label == str(UNLABELLED) else label
        what = f"class {names[int(label)]!r}" if label.isdecimal() else what
        raise KaizenError(
            f"{arrival.path}: the {part} images of arrival {arrival.name!r} ({what}) are not those "
            "that were appended; put back what it held, or bring what is new as another arrival "
            "(`kaizen append`)"
        )


def changed_images(
    dataset: DatasetParams, arrival: Arrival, names: Sequence[str], root: Path
) -> list[str]:
    """In which parts and labels the images that are there are not those that arrived, written as
    `arrival_checksums` does.

    Raises KaizenError where they are no arrival's.
    """
    expected = {
        f"{part}/{label}": checksum
        for part in PARTS
        for label, checksum in arrival.checksums(part).items()
    }
    found = arrival_checksums(arrival_dataset(dataset, arrival, root), names, root)
    return sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )


def arrival_checksums(dataset: DatasetParams, names: Sequence[str], root: Path) -> dict[str, str]:
    """The checksums of the images of one arrival, by part and label: "train/3", "train/-1".

    ``names`` are the classes of the stream in label order; a class that is none of them has in the
    place of the label "class " and its name, which may be digits.
    """
    from kaizen.data.sources.arrival import Arrival as ArrivalSource

    source = ArrivalSource(dataset)
    cache = main_checkout(root) / ".kaizen" / "checksums"
    label_of = {name: str(label) for label, name in enumerate(names)}
    checksums = source.checksums(cache)
    found = {
        f"{part}/{label_of.get(name, f'class {name!r}')}": checksums[part][place]
        for part in PARTS
        for place, name in enumerate(source.classes)
        if source.counts(part).get(place)
    }
    unlabelled = source.unlabelled_checksum(cache)
    return found | ({f"train/{UNLABELLED}": unlabelled} if unlabelled else {})


def _absolute(root: Path, path: str) -> Path:
    return Path(os.path.abspath(root / Path(path).expanduser()))


def _by_class(source: Source) -> tuple[int, ...]:
    """The number of training images of each class; none where it is not known unread."""
    counts = source.train_counts()
    by_class = [0] * (len(source.classes) if counts else 0)
    for (label, _), count in counts.items():
        if label >= 0:
            by_class[label] += count
    return tuple(by_class)


def _check_locale() -> None:
    """Raise KaizenError where names of files would be other names than elsewhere, with other
    keys.
    """
    encoding = sys.getfilesystemencoding()
    if encoding.lower() != "utf-8":
        raise KaizenError(
            f"the locale's encoding is {encoding}, in which names of classes would be other names; "
            "set PYTHONUTF8=1 in the environment, or LC_ALL=C.UTF-8, and run again"
        )
