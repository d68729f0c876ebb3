"""Taking an arrival into a stream that grows: its images are checked, and data/stream.yaml names
it.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from kaizen.data.arrivals import (
    STREAM_FILE,
    ArrivalStream,
    ArrivedClass,
    class_names,
    labels_of,
    read_stream,
    write_stream,
)
from kaizen.data.arrivals import Arrival as Arrived
from kaizen.data.looks import describe, refuse_loss_of_colour
from kaizen.data.reading import ChunkReader, Corrupt, ReadImages
from kaizen.data.schema import UNLABELLED
from kaizen.data.sources.arrival import Arrival
from kaizen.data.sources.base import PARTS, names_text
from kaizen.data.sources.names import alike_text
from kaizen.errors import KaizenError
from kaizen.files import printable
from kaizen.jobs.foresight import FEWEST, refuse_early
from kaizen.jobs.raw_data import stream_facts
from kaizen.params import Params
from kaizen.params.registry import STREAM
from kaizen.plan.nodes import DatasetFacts
from kaizen.store.layout import check_places
from kaizen.store.places import main_checkout

_MOST_NAMED = 10


def append(
    params: Params,
    root: Path,
    store: Path,
    folder: Path,
    name: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Arrived, list[str]]:
    """Take the images of ``folder`` into the stream of the checkout ``root`` as its newest arrival,
    ``name`` (None: the folder's).

    Every image is read: ``progress(done, total)`` is called in images. Returns the arrival, and
    lines that say what it holds and what the network will see. Raises KaizenError, and changes
    nothing, where the folder cannot be what was meant.
    """
    dataset = params.dataset
    if dataset.source != STREAM or dataset.path is None:
        raise KaizenError(
            f"dataset.source: {dataset.source} is no stream that grows; in params.yaml set "
            "dataset.source: stream and dataset.path: data/raw/<name>, the folder of its arrivals"
        )
    stream = read_stream(root) or ArrivalStream(dataset.path)
    place = _folder(root, folder, dataset.path)
    arrived_as = place.name if name is None else name
    _refuse_name(stream, arrived_as)
    check_places(root, store, place)
    _refuse_place(stream, root, place, dataset.path)
    if stream.arrivals:
        # Nothing can be made of a stream that is not what the file says.
        stream_facts(dataset, root)
    source = Arrival(dataclasses.replace(dataset, path=str(place)))
    _refuse_classes(stream, source, place)
    refuse_loss_of_colour(source, params.image)
    arrival = _arrival(source, stream, root, place, arrived_as, params)
    _refuse_again(stream, arrival, place)
    arrivals = (*stream.arrivals, arrival)
    refuse_early(params, DatasetFacts(class_names(arrivals), (), (), arrivals=arrivals), source)
    found = source.found(main_checkout(root) / ".kaizen" / "checksums")
    unread = _read_all(source, params, progress)
    lines = [_summary(arrival, len(stream.arrivals), stream)]
    lines += describe(source, params.image, found)
    if unread:
        lines.append(f"{len(unread)} images cannot be read and will be skipped: {_named(unread)}")
    write_stream(root, dataclasses.replace(stream, arrivals=arrivals))
    return arrival, lines


def _folder(root: Path, folder: Path, path: str) -> Path:
    """The folder that is meant: as given, or of that name where arrivals are looked for."""
    given = Path(os.path.abspath(root / folder.expanduser()))
    inside = Path(os.path.abspath(root / Path(path).expanduser() / folder))
    if not given.exists() and inside.is_dir():
        return inside
    if not given.is_dir():
        raise KaizenError(f"{given} is no folder; name the folder with the images that arrived")
    return given


def _refuse_name(stream: ArrivalStream, name: str) -> None:
    odd = printable(name) != name or any(c in name for c in "/\\") or len(name) > 200
    if odd or name in ("", ".", ".."):
        raise KaizenError(
            f"--name {name!r:.80}: a name has no slashes, can be printed and is not `..`; give "
            "another"
        )
    for number, arrival in enumerate(stream.arrivals):
        if arrival.name.casefold() == name.casefold():
            raise KaizenError(
                f"{name!r} is the name of arrival {number} already ({arrival.path}); give another "
                "with --name"
            )


def _refuse_place(stream: ArrivalStream, root: Path, place: Path, path: str) -> None:
    """Raise KaizenError where the folder holds others' arrivals, or lies in one: what is in it
    would be two arrivals', and would go when one of them is retired.
    """
    real = Path(os.path.realpath(place))
    arrivals = Path(os.path.realpath(root / Path(path).expanduser()))
    if arrivals.is_relative_to(real):
        raise KaizenError(
            f"{place} holds {arrivals}, where all arrivals lie (dataset.path); name the folder of "
            "one of them"
        )
    for earlier in stream.arrivals:
        other = Path(os.path.realpath(root / Path(earlier.path).expanduser()))
        if real == other:
            raise KaizenError(
                f"{place} is the folder of arrival {earlier.name!r} already; move what is new into "
                "a folder of its own"
            )
        if real.is_relative_to(other) or other.is_relative_to(real):
            raise KaizenError(
                f"{place} and the folder of arrival {earlier.name!r} ({earlier.path}) lie in each "
                "other; move what is new into a folder of its own"
            )


def _refuse_classes(stream: ArrivalStream, source: Arrival, place: Path) -> None:
    """Raise KaizenError where a class cannot be told from one that arrived before, and where the
    first arrival has none.
    """
    known = stream.classes
    if not known and not source.classes:
        raise KaizenError(
            f"{place} holds unlabelled images only, and the first arrival needs a class: append "
            "one that has labels first"
        )
    new = [name for name in source.classes if name not in known]
    if alike := alike_text(new, known):
        raise KaizenError(
            f"{place}: {alike}, which arrived before; rename the folder or use its name"
        )
    by_case = {name.casefold(): name for name in known}
    for name in new:
        other = by_case.get(name.casefold())
        if other is not None:
            raise KaizenError(
                f"{place}: class {name!r} differs from {other!r}, which arrived before, in the "
                "case of letters only; rename it to the same, or to another name"
            )


def _arrival(
    source: Arrival, stream: ArrivalStream, root: Path, place: Path, name: str, params: Params
) -> Arrived:
    """What stands in data/stream.yaml of the new arrival."""
    cache = main_checkout(root) / ".kaizen" / "checksums"
    checksums, unlabelled = source.checksums(cache), source.unlabelled_checksum(cache)
    train, test = (source.counts(part) for part in PARTS)
    total = sum(train.values())
    if total < FEWEST:
        raise KaizenError(
            f"{place} has {total} training image{'' if total == 1 else 's'}, and a step needs at "
            f"least {FEWEST}; add images, or wait for more to arrive"
        )
    labels = labels_of(stream.classes, source.classes)
    classes = [
        ArrivedClass(
            name=class_name,
            label=labels[class_name],
            train=train[position],
            train_sha256=checksums["train"][position],
            test=test.get(position, 0),
            test_sha256=checksums["test"][position] if test.get(position) else None,
        )
        for position, class_name in enumerate(source.classes)
    ]
    held_out = source.held_out is not None and any(each.test for each in classes)
    return Arrived(
        name=name,
        path=os.path.relpath(place, root) if place.is_relative_to(root.absolute()) else str(place),
        date=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        classes=tuple(classes),
        unlabelled=train.get(UNLABELLED, 0),
        unlabelled_sha256=unlabelled,
        test_fraction=params.dataset.test_fraction if held_out else None,
        seed=params.dataset.seed if held_out else None,
    )


def _refuse_again(stream: ArrivalStream, arrival: Arrived, place: Path) -> None:
    """Raise KaizenError where all of the folder's images arrived before."""
    for earlier in stream.arrivals:
        same = [set(each.checksums("train").values()) for each in (earlier, arrival)]
        if same[0] == same[1]:
            raise KaizenError(
                f"{place} holds the images of arrival {earlier.name!r} ({earlier.path}), which the "
                "stream has already; nothing was appended"
            )


def _read_all(
    source: Arrival, params: Params, progress: Callable[[int, int], None]
) -> list[Corrupt]:
    """Read every image as ingestion will; return those that cannot be read.

    Raises KaizenError naming them, unless they are to be skipped.
    """
    dataset = params.dataset
    rows = [source.rows(part) for part in PARTS]
    total, done = sum(map(len, rows)), 0
    read = ReadImages(
        source, dataset.encoding, dataset.raw_limit, dataset.resize, dataset.bit_depth
    )
    unread: list[Corrupt] = []
    with ChunkReader(read, params.runtime.ingest_workers) as reader:
        for outcomes in reader.read(iter(rows)):
            unread += [outcome for outcome in outcomes if isinstance(outcome, Corrupt)]
            done += len(outcomes)
            progress(done, total)
    if unread and dataset.on_corrupt == "stop":
        raise KaizenError(
            f"{source.root}: {len(unread)} of {total} images cannot be read: {_named(unread)}; "
            "replace or remove them, or set dataset.on_corrupt: skip. Nothing was appended"
        )
    return unread


def _named(unread: Sequence[Corrupt]) -> str:
    named = "; ".join(f"{each.row.path} ({each.reason})" for each in unread[:_MOST_NAMED])
    more = len(unread) - _MOST_NAMED
    return f"{named}; and {more} more" if more > 0 else named


def _summary(arrival: Arrived, task: int, stream: ArrivalStream) -> str:
    """One line: the task's number, its classes and images."""
    new = [each.name for each in arrival.classes if each.name not in stream.classes]
    back = [each.name for each in arrival.classes if each.name in stream.classes]
    parts = [f"new classes: {names_text(new)}"] if new else []
    parts += [f"classes that came back: {names_text(back)}"] if back else []
    parts += [f"{sum(each.train for each in arrival.classes)} labelled training images"]
    parts += [f"{arrival.unlabelled} unlabelled ones"] if arrival.unlabelled else []
    parts += [f"{sum(each.test for each in arrival.classes)} test images"]
    if arrival.test_fraction is not None:
        share = f"{100 * arrival.test_fraction:g} % of each class"
        parts[-1] += f" (held out: {share}, seed {arrival.seed})"
    return f"task {task}, {arrival.name}: {'; '.join(parts)}. {STREAM_FILE} names it: commit that"
