"""What somebody asks about: a published file or folder, a path in the store, a node's key, or a
number.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import read_json
from kaizen.provenance.known import Known
from kaizen.store.layout import MANIFEST, METRICS
from kaizen.store.node_id import Kind, NodeId, is_key
from kaizen.store.records import RECORD

_KEY = re.compile(rf"(?:(?:{'|'.join(Kind)})/)?[0-9a-f]{{3,32}}")
_ASK = (
    f"ask about a file or folder of {MANIFEST}, a path in the store, a node's key or the "
    f"beginning of one, or a number as in {METRICS}:simclr.kaizen.CA"
)


@dataclass(frozen=True)
class Subject:
    """A node, and what of it was asked about: ``files`` (path -> name in the node), and a number in
    the only one.
    """

    node: NodeId
    files: dict[Path, str]
    is_file: bool = False
    number: tuple[tuple[str, ...], float] | None = None


def find_subject(asked: str, known: Known) -> Subject:
    """The node that ``asked`` belongs to; raises KaizenError where that is none, or not one."""
    path, colon, number = asked.partition(":")
    if not path:
        raise KaizenError(f"{asked!r} names nothing; {_ASK}")
    if colon and not number:
        raise KaizenError(f"{asked} names no number after the colon; {_ASK}")
    subject = _of_path(path, known)
    if subject is None and not number and _KEY.fullmatch(asked):
        subject = _of_key(asked, known)
    if subject is None:
        raise KaizenError(_no_subject(path, known))
    if not number:
        return subject
    if not subject.is_file or not path.endswith(".json"):
        raise KaizenError(f"{asked}: only a JSON file has numbers that can be named so; {_ASK}")
    (place,) = subject.files
    return Subject(subject.node, subject.files, True, _find_number(place, path, number))


def _of_path(text: str, known: Known) -> Subject | None:
    """By a path in the published tree or in the store; None where it is in neither."""
    # Not resolved: a published file may be a link into DVC's cache.
    path = Path(os.path.abspath(known.root / text))
    if path.is_relative_to(known.root):
        name = path.relative_to(known.root).as_posix()
        if entry := known.files.get(name):
            return Subject(entry.node, {path: entry.name}, is_file=True)
        inside = {p: entry for p, entry in known.files.items() if p.startswith(f"{name}/")}
        nodes = {entry.node for entry in inside.values()}
        if own := known.files.get(f"{name}/{RECORD}"):
            # The summary puts a card beside what it describes.
            nodes = {own.node}
            inside = {p: entry for p, entry in inside.items() if entry.node == own.node}
        if len(nodes) > 1:
            records = sorted(place for place in inside if place.endswith(f"/{RECORD}"))
            folders = ", ".join(place.removesuffix(f"/{RECORD}") for place in records)
            raise KaizenError(
                f"{text} holds the results of {len(nodes)} nodes; ask about one: {folders}"
            )
        for node in nodes:
            return Subject(node, {known.root / p: entry.name for p, entry in inside.items()})
    return _of_path_in_store(path, known)


def _of_path_in_store(path: Path, known: Known) -> Subject | None:
    store = Path(os.path.abspath(known.store.root))
    parts = path.relative_to(store).parts if path.is_relative_to(store) else ()
    if len(parts) < 2 or parts[0] not in list(Kind) or not is_key(parts[1]):
        return None
    node = NodeId(Kind(parts[0]), parts[1])
    if not known.store.has(node):
        return None
    name = "/".join(parts[2:])
    return Subject(node, {path: name}, True) if name else _of_node(node, known)


def _of_node(node: NodeId, known: Known) -> Subject:
    """A whole node, with its files in the store if they are there, else where they are
    published.
    """
    if known.store.has(node):
        found = known.node(node)
        names = found.record.files if found else {}
        return Subject(node, {known.store.folder(node) / name: name for name in names})
    published = {p: entry for p, entry in known.files.items() if entry.node.key == node.key}
    return Subject(node, {known.root / path: entry.name for path, entry in published.items()})


def _of_key(text: str, known: Known) -> Subject | None:
    found = known.named(text)
    if len(found) > 1:
        names = ", ".join(str(node) for node in found[:8])
        raise KaizenError(
            f"{len(found)} nodes have a key that begins with {text}: {names}; give more of it"
        )
    return _of_node(found[0], known) if found else None


def _no_subject(text: str, known: Known) -> str:
    if not known.files and not (known.root / MANIFEST).is_file():
        missing = (
            f"there is no {MANIFEST} here (`dvc pull` brings what was published, `snakemake` "
            "makes it)"
        )
        return f"{text} is not known: {missing}; {_ASK}"
    what = (
        "is none of the files that Kaizen made" if (known.root / text).exists() else "is not known"
    )
    close = difflib.get_close_matches(text, known.files, 1)
    return f"{text} {what}; " + (f"did you mean {close[0]}? " if close else "") + _ASK


def _find_number(place: Path, path: str, asked: str) -> tuple[tuple[str, ...], float]:
    """A number of a JSON file by its path, or by the end of it where only one has that; letters'
    ignoring case.
    """
    numbers = dict(_numbers(read_json(place)))
    wanted = asked.casefold()
    names = {".".join(steps): steps for steps in numbers}
    found = [name for name in names if name.casefold() == wanted]
    found = found or [name for name in names if name.casefold().endswith(f".{wanted}")]
    if len(found) == 1:
        return names[found[0]], numbers[names[found[0]]]
    if found:
        raise KaizenError(
            f"{path} has {len(found)} numbers of that name: {', '.join(found[:8])}; give more of it"
        )
    close = difflib.get_close_matches(asked, names, 3, 0.3)
    raise KaizenError(
        f"{path} has no number {asked}; "
        + (f"did you mean {' or '.join(close)}?" if close else _ASK)
    )


def _numbers(value: Any, steps: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every number in a JSON value, under the names and positions that lead to it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, (*steps, name))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _numbers(inner, (*steps, str(position)))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield steps, value
