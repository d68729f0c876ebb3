"""What the sources that consist of image files share: walking folders, checksums per class,
choosing classes.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
from abc import abstractmethod
from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from kaizen.data.sources.base import PARTS, Part, Row, Source, names_text
from kaizen.data.sources.memory import ChecksumMemory
from kaizen.errors import KaizenError
from kaizen.files import canonical_json, sha256_file, sha256_text
from kaizen.params import DatasetParams

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
)


class File(NamedTuple):
    """An image file: its path relative to the dataset, its size in bytes, and its times of
    modification and change.

    The first can be set, as tar and rsync do; the second cannot, so a file of the same size and
    time is still seen.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int


class Group(NamedTuple):
    """The files of one class in one domain and part, sorted by path; ``key`` names it among all
    groups.
    """

    key: str
    label: int
    domain: int
    files: list[File]


class FileSource(Source):
    """A dataset of image files under ``root``; a subclass says which files form which class and
    domain.
    """

    layout: str

    def __init__(self, dataset: DatasetParams) -> None:
        """Note the folder; raises KaizenError where there is none. Files are listed when first
        needed.
        """
        if dataset.path is None:
            raise KaizenError(
                f"dataset.path: null, but {dataset.source} needs the folder that holds "
                f"{self.layout}; set it"
            )
        self.root = Path(dataset.path).expanduser().absolute()
        self._listed: dict[Part, list[Group]] = {}
        self._checked: dict[Part, list[tuple[Group, str]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Workers only read files: leave out the listing."""
        return self.__dict__ | {"_listed": {}, "_checked": {}}

    @abstractmethod
    def groups(self, part: Part) -> list[Group]:
        """List a part's files, grouped, in the order of labels and then domains; raises KaizenError
        on faults.
        """

    def checksums(self, cache: Path | None) -> dict[Part, list[str]]:
        """Per class: SHA-256 over sorted relative paths and content hashes; only changed classes
        are read again.
        """
        return {
            part: [
                _joined([text for group, text in found if group.label == label])
                for label in range(len(self.classes))
            ]
            for part, found in self._group_checksums(cache).items()
        }

    def domain_checksums(self, cache: Path | None) -> dict[Part, list[str]]:
        """Per domain: SHA-256 over the names and checksums of its classes."""
        return {
            part: [
                sha256_text(
                    canonical_json(
                        [[self.classes[g.label], text] for g, text in found if g.domain == domain]
                    )
                )
                for domain in range(len(self.domains))
            ]
            for part, found in self._group_checksums(cache).items()
        }

    def rows(self, part: Part) -> list[Row]:
        """Rows class by class, files sorted by relative path; the index is the position in the
        part.
        """
        files = ((group, file) for group in self._listing(part) for file in group.files)
        return [
            Row(index, group.label, file.path, group.domain)
            for index, (group, file) in enumerate(files)
        ]

    def train_counts(self) -> list[int]:
        """Files per class, from the listing that the checksums need anyway."""
        counts = [0] * len(self.classes)
        for group in self._listing("train"):
            if group.label >= 0:
                counts[group.label] += len(group.files)
        return counts

    def read(self, row: Row) -> bytes:
        """The bytes of the row's file."""
        return (self.root / row.path).read_bytes()

    def _listing(self, part: Part) -> list[Group]:
        if part not in self._listed:
            self._listed[part] = self.groups(part)
        return self._listed[part]

    def _group_checksums(self, cache: Path | None) -> dict[Part, list[tuple[Group, str]]]:
        if self._checked:
            return self._checked
        memory = ChecksumMemory(cache, self.root)
        self._checked = {
            part: [
                (
                    group,
                    memory.checksum(
                        group.key, group.files, functools.partial(self._content, group.files)
                    ),
                )
                for group in self._listing(part)
            ]
            for part in PARTS
        }
        memory.save()
        return self._checked

    def _content(self, files: list[File]) -> str:
        digest = hashlib.sha256()
        for file in files:
            path = self.root / file.path
            try:
                digest.update(canonical_json([file.path, sha256_file(path)]).encode() + b"\n")
            except OSError as error:
                raise KaizenError(
                    f"{path} cannot be read ({error.strerror}); fix or remove it"
                ) from error
        return digest.hexdigest()


def _joined(checksums: list[str]) -> str:
    return checksums[0] if len(checksums) == 1 else sha256_text(canonical_json(checksums))


def scan(folder: Path, layout: str, prefix: str = "") -> list[os.DirEntry[str]]:
    """List a folder; every way in which that fails is a KaizenError, which names the layout
    expected.
    """
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except FileNotFoundError as error:
        raise KaizenError(
            f"{prefix}{folder} does not exist; give the folder that holds {layout}"
        ) from error
    except NotADirectoryError as error:
        raise KaizenError(
            f"{prefix}{folder} is not a folder; give the folder that holds {layout}"
        ) from error
    except PermissionError as error:
        raise KaizenError(
            f"{prefix}{folder} cannot be listed ({error.strerror}); make it readable for you"
        ) from error
    except (OSError, ValueError) as error:
        raise KaizenError(
            f"{prefix}{str(folder)!r} cannot be listed: {error}; fix the path or the disk"
        ) from error
    for entry in found:
        try:
            entry.name.encode()
        except UnicodeEncodeError as error:
            raise KaizenError(
                f"{folder} holds the name {entry.name!r}, which is not UTF-8; rename it"
            ) from error
    return found


def subfolders(folder: Path, layout: str) -> set[str]:
    """The names of a folder's subfolders but the hidden ones."""
    return {
        entry.name
        for entry in scan(folder, layout)
        if not entry.name.startswith(".") and entry.is_dir()
    }


def image_files(root: Path, folder: str, layout: str) -> list[File]:
    """All images under ``root/folder``, sorted by path; hidden files and those without an image
    suffix skipped.
    """
    return sorted(_walk(root, folder, layout, ()))


def _walk(root: Path, folder: str, layout: str, above: tuple[tuple[int, int], ...]) -> list[File]:
    """``above`` are the (device, inode) of the folders on the way here."""
    here = os.stat(root / folder)
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        raise KaizenError(f"{root / folder} is a link to a folder that holds it; remove the link")
    files: list[File] = []
    for entry in scan(root / folder, layout):
        path = f"{folder}/{entry.name}"
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            files.extend(_walk(root, path, layout, (*above, identity)))
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            files.append(image_file(root, path))
    return files


def image_file(root: Path, path: str) -> File:
    """A file's size and time; raises KaizenError where it is absent or not a regular file."""
    try:
        status = os.stat(root / path)
    except OSError as error:
        raise KaizenError(
            f"{root / path} cannot be read ({error.strerror}); fix or remove it"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise KaizenError(f"{root / path} is not a regular file; remove it")
    return File(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def refuse_empty(root: Path, groups: list[Group], layout: str) -> None:
    """Raise KaizenError where a class (of a domain) has no image in the part that ``groups``
    list.
    """
    empty = [group.key for group in groups if not group.files]
    if len(empty) == len(groups):
        folder = root / groups[0].key.split("/")[0]
        raise KaizenError(
            f"{folder} holds no images ({' '.join(sorted(SUFFIXES))}); expected {layout}"
        )
    if empty:
        raise KaizenError(
            f"{root} has classes without images: {names_text(empty)}; fill or remove them"
        )


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a text file without those that are blank or start with "#"; raises
    KaizenError.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise KaizenError(
            f"{what}{path} cannot be read ({reason}); fix the path or the file"
        ) from error
    return [line for line in lines if line and not line.startswith("#")]


def chosen_classes(
    found: Collection[str], wanted: list[str] | str | None, where: Path
) -> list[str]:
    """The sorted classes of ``found`` that ``dataset.classes`` names: all where it is None.

    A text is the name of a list in class_lists/ or the path of a text file with one class a line.
    Raises KaizenError where the list is empty, or names a class twice or one that ``where`` lacks.
    """
    if wanted is None:
        return sorted(found)
    names = _class_list(wanted) if isinstance(wanted, str) else wanted
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        problem = f"names {names_text(twice)} twice" if twice else "names no class"
        raise KaizenError(
            f"dataset.classes: the list {problem}; name each class once, or set it to null for all"
        )
    missing = sorted(set(names) - set(found))
    if missing:
        raise KaizenError(
            f"dataset.classes: {names_text(missing)} not found in {where}; fix the list or add "
            "the folders"
        )
    return sorted(names)


def _class_list(name: str) -> list[str]:
    packaged = resources.files("kaizen.data.sources") / "class_lists"
    known = sorted(file.name.removesuffix(".txt") for file in packaged.iterdir())
    if name in known:
        with resources.as_file(packaged / f"{name}.txt") as file:
            return read_lines(file, "dataset.classes: ")
    path = Path(name).expanduser()
    if not path.is_file():
        raise KaizenError(
            f"dataset.classes: {name!r} is neither a list that comes with Kaizen "
            f"({', '.join(known)}) nor a text file; "
            "fix it"
        )
    return read_lines(path, "dataset.classes: ")
