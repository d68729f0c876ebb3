"""Images that no training saw, to judge a new step by before it answers: of test shards, or of
folders of classes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kaizen.data.sources.walk import SUFFIXES
from kaizen.data.stored import decode_row
from kaizen.errors import KaizenError
from kaizen.inference.answering import Answering

_MOST_FILES = 10_000
_BATCH = 16

T = TypeVar("T")


@dataclass(frozen=True)
class HeldOut:
    """An image, as pixels or as a file's bytes, and the name of its class."""

    image: np.ndarray | bytes
    true_class: str
    name: str


def held_out(places: Sequence[Path], classes: Collection[str], most: int) -> list[HeldOut]:
    """At most ``most`` images of ``classes``, evenly from all places: shards, or folders that hold
    a folder for each class. Raises KaizenError where a place is neither.
    """
    share = max(1, most // max(1, len(places)))
    found: list[HeldOut] = []
    for place in places:
        if place.is_dir():
            found += _of_folder(place, classes, share)
        elif place.suffix.lower() == ".parquet":
            found += _of_shard(place, classes, share)
        else:
            raise KaizenError(
                f"--check: {place} is neither a shard (.parquet) nor a folder of class folders; "
                "name such"
            )
    return found[:most]


def _of_shard(path: Path, classes: Collection[str], most: int) -> list[HeldOut]:
    try:
        from kaizen.data.shards import iter_row_groups, read_table, shard_info
    except ModuleNotFoundError as error:
        raise KaizenError(
            f"{path} cannot be read without the package {error.name}; install it, or name folders "
            "of classes with --check"
        ) from error
    info = shard_info(path)
    names = dict(zip(info.classes, info.class_names, strict=True))
    labels = read_table(path, ["label"]).column("label").to_numpy()
    wanted = [row for row, label in enumerate(labels) if names.get(int(label)) in classes]
    chosen = set(evenly(wanted, most))
    found, first = [], 0
    for group, rows in enumerate(info.row_groups):
        inside = sorted(row - first for row in chosen if first <= row < first + rows)
        first += rows
        if inside:
            (table,) = iter_row_groups(path, [group])
            found += [_row(table.slice(row, 1).to_pylist()[0], names, path) for row in inside]
    return found


def _row(row: dict[str, Any], names: dict[int, str], path: Path) -> HeldOut:
    image = row["image"]
    if row["encoding"] == "raw":
        image = decode_row(image, "raw", row["height"], row["width"], row["channels"]).copy()
    return HeldOut(image, names[row["label"]], f"{path}:{row['path']}")


def _of_folder(folder: Path, classes: Collection[str], most: int) -> list[HeldOut]:
    def files() -> Iterator[tuple[str, Path]]:
        for name in sorted(classes):
            inside = folder / name
            # A class's name may be a path that leads elsewhere.
            if inside.parent == folder and inside.is_dir():
                for path in sorted(inside.iterdir())[:_MOST_FILES]:
                    if path.suffix.lower() in SUFFIXES and path.is_file():
                        yield name, path

    return [HeldOut(path.read_bytes(), name, str(path)) for name, path in evenly([*files()], most)]


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most ``most`` of the items, evenly spaced."""
    if len(items) <= most:
        return list(items)
    return [items[place * len(items) // most] for place in range(most)]


@dataclass(frozen=True)
class Answers:
    """What a model says of held-out images: how many it could be shown, the share that it got right
    (None of none), and whether all that it said are finite numbers.
    """

    images: int
    accuracy: float | None
    finite: bool


def answers(model: Answering, images: Sequence[HeldOut]) -> Answers:
    """Show held-out images to a model, a few at a time."""
    right = shown = 0
    finite = True
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        prepared = np.stack([model.prepare_numpy(one.image, one.name) for one in batch])
        probabilities, features = model.answer(prepared)
        finite = finite and bool(np.isfinite(probabilities).all() and np.isfinite(features).all())
        places = probabilities.argmax(axis=1)
        taken = [model.classes[place] for place in places]
        right += sum(one.true_class == name for one, name in zip(batch, taken, strict=True))
        shown += len(batch)
    return Answers(shown, right / shown if shown else None, finite)
