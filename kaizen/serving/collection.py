"""Images that people gave with their feedback, in a folder as `kaizen append` takes it: labels.csv
beside the images, whose label is blank where no class was named.

FOLDER/next holds what is collected for the next arrival. `hand_over` renames it, whole, into the
stream's folder. The server and a command may be at it at once: each changes it under a lock.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import hashlib
import io
import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Collection as Names
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kaizen.data.sources.labels_file import LABELS_FILE, read_labels
from kaizen.data.sources.layout import refuse_reserved
from kaizen.data.sources.names import look
from kaizen.data.sources.walk import SUFFIXES
from kaizen.errors import KaizenError
from kaizen.files import (
    atomic_path,
    counted,
    explain_write_errors,
    printable,
    temporary_beside,
    write_text,
)

NEXT = "next"
_LOCK = ".lock"
# What is not a class in any layout of a folder.
_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation"}
_LONGEST_NAME, _MOST_NAMES = 200, 1000
_MOST_LABELS_BYTES = 1 << 26


class CollectionFull(KaizenError):
    """What was collected has reached its bounds."""


@dataclass(frozen=True)
class Bounds:
    """How much is collected at most: images, and their bytes."""

    images: int = 10_000
    bytes: int = 1_000_000_000

    def __post_init__(self) -> None:
        """Raises KaizenError that names the option where a bound is none."""
        for name, value in (("images", self.images), ("bytes", self.bytes)):
            if value < 1:
                raise KaizenError(f"--collect-{name}: {value} is too few; at least 1")


@dataclass(frozen=True)
class Collected:
    """What a collection holds: how many images of each class, without a class, and their bytes."""

    classes: dict[str, int]
    unlabelled: int
    bytes: int

    @property
    def images(self) -> int:
        """All of them."""
        return sum(self.classes.values()) + self.unlabelled


def class_name(text: str, known: Names[str]) -> str:
    """The name that a class is given, which may be one of ``known``; raises KaizenError where no
    class may have it.
    """
    name = text.strip()
    shown = repr(printable(name[:60]))
    if not name or len(name) > _LONGEST_NAME or len(name.encode()) > 255:
        raise KaizenError(f"the class {shown} must have from 1 to {_LONGEST_NAME} characters")
    odd = any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for c in name)
    if odd or any(c in name for c in "/\\") or name.startswith((".", "=", "+", "@")):
        raise KaizenError(
            f"the class {shown} cannot be a class's name: no slashes, no control or invisible "
            "characters, and no `.`, `=`, `+` or `@` at its beginning"
        )
    refuse_reserved(name, "class", Path(NEXT))
    if name.casefold() in _PARTS and name not in known:
        raise KaizenError(f"the class {shown} has the name of a part of a dataset; call it other")
    like = {look(other).casefold(): other for other in known}
    other = like.get(look(name).casefold(), name)
    if other != name:
        raise KaizenError(f"the class {shown} looks like {printable(other)!r}; use that name")
    return name


class Collection:
    """The folder where images are collected."""

    def __init__(self, folder: Path, bounds: Bounds) -> None:
        """Make the folder, if it is not there; raises KaizenError where it cannot be, or holds what
        was not collected.
        """
        self.folder, self.bounds = folder, bounds
        self.next = folder / NEXT
        self._labels: dict[str, str] = {}
        self._bytes = 0
        self._read: tuple[int, int, int] | None = None
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        others = [name for name in os.listdir(folder) if name != NEXT and not name.startswith(".")]
        if others:
            raise KaizenError(
                f"{folder} holds other things ({printable(others[0])}, …); name a new folder, or "
                "one that was collected into"
            )
        with self._locked():
            self._list_unlisted()

    def add(self, data: bytes, suffix: str, label: str | None, known: Names[str]) -> str:
        """Keep an image that could be read, the bytes of a file of kind ``suffix``, with its class
        (None: not known); returns its name. The same image again is given the class named last.

        Raises CollectionFull where the bounds are reached, and KaizenError where no class may have
        that name, or the disk is full.
        """
        if suffix not in SUFFIXES:
            raise KaizenError(f"images that end in {suffix} are not collected")
        name = f"{hashlib.sha256(data).hexdigest()[:32]}{suffix}"
        with self._locked():
            self._reread()
            named = set(self._labels.values()) - {""}
            kept = "" if label is None else class_name(label, {*known, *named})
            if kept and kept not in named | {*known} and len(named) >= _MOST_NAMES:
                raise CollectionFull(f"more than {_MOST_NAMES} classes were named already")
            if name not in self._labels:
                self._need_room(len(data))
                with atomic_path(self.next / name) as temporary:
                    temporary.write_bytes(data)
                self._bytes += len(data)
            elif not kept:
                return name
            self._labels[name] = kept
            self._write()
        return name

    def collected(self) -> Collected:
        """What it holds now."""
        with self._locked():
            self._reread()
            counts = Counter(self._labels.values())
            unlabelled = counts.pop("", 0)
            return Collected(dict(sorted(counts.items())), unlabelled, self._bytes)

    def hand_over(self, place: Path) -> None:
        """Move all that was collected to ``place``, a folder that does not exist yet; raises
        KaizenError where there is nothing, or it cannot be moved.
        """
        with self._locked():
            self._reread()
            if not self._labels:
                raise KaizenError(f"{self.folder} holds no image yet; nothing was handed over")
            if os.path.lexists(place):
                raise KaizenError(f"{place} exists already; name another folder with --to")
            with explain_write_errors(place):
                place.parent.mkdir(parents=True, exist_ok=True)
                _move(self.next, place)

    def take_back(self, place: Path) -> bool:
        """Undo `hand_over`; False where others were collected meanwhile, and it stays."""
        with self._locked():
            if self.next.exists():
                return False
            with explain_write_errors(self.next):
                _move(place, self.next)
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with explain_write_errors(self.folder), open(self.folder / _LOCK, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _need_room(self, size: int) -> None:
        if len(self._labels) >= self.bounds.images:
            raise CollectionFull(
                f"{counted(len(self._labels), 'image')} are collected, and no more are taken; "
                "`kaizen feedback` hands them on"
            )
        if self._bytes + size > self.bounds.bytes:
            raise CollectionFull(
                f"{self._bytes} bytes are collected, and no more than {self.bounds.bytes} are "
                "taken; `kaizen feedback` hands them on"
            )

    def _reread(self) -> None:
        """Follow what another process changed."""
        path = self.next / LABELS_FILE
        if not path.exists():
            self._labels, self._bytes, self._read = {}, 0, None
            return
        if self._state(path) == self._read:
            return
        self._labels = read_labels(path, _MOST_LABELS_BYTES)
        self._bytes = sum(_size(self.next / name) for name in self._labels)
        self._read = self._state(path)

    @staticmethod
    def _state(path: Path) -> tuple[int, int, int]:
        status = path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _list_unlisted(self) -> None:
        """An image that was written by a process that was killed before it wrote the list."""
        self._reread()
        if not self.next.is_dir():
            return
        names = {
            name
            for name in os.listdir(self.next)
            if Path(name).suffix in SUFFIXES and not name.startswith(".")
        }
        listed = {name: label for name, label in self._labels.items() if name in names}
        if listed.keys() != names or listed.keys() != self._labels.keys():
            self._labels = {**dict.fromkeys(sorted(names), ""), **listed}
            self._bytes = sum(_size(self.next / name) for name in self._labels)
            self._write()

    def _write(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["path", "label"])
        writer.writerows(self._labels.items())
        write_text(self.next / LABELS_FILE, text.getvalue())
        self._read = self._state(self.next / LABELS_FILE)


def _move(source: Path, place: Path) -> None:
    """Rename a folder, also to another disk: there it appears whole, or not at all."""
    try:
        os.rename(source, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = temporary_beside(place)
        try:
            shutil.copytree(source, beside)
            os.rename(beside, place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(source)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
