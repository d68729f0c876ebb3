"""What a command is given to look at: folders, files, globs and shards, as one list of images in an
order that is always the same. torch is not imported here, and pyarrow for shards only.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kaizen.data.sources.names import look
from kaizen.data.sources.walk import SUFFIXES
from kaizen.data.stored import decode_row
from kaizen.errors import KaizenError
from kaizen.files import counted
from kaizen.inference.images import OneImage

_SHARD = ".parquet"


@dataclass(frozen=True, slots=True)
class Item:
    """An image to come: its name for the output, its class's where a folder or a shard says it, and
    how it is read (raises ValueError where that fails).
    """

    name: str
    true_class: str | None
    read: Callable[[], OneImage]


@dataclass(frozen=True)
class Files:
    """Image files, each with the name of its class folder, if it has one that counts."""

    paths: tuple[tuple[str, str | None], ...]

    def __len__(self) -> int:
        return len(self.paths)

    def identity(self) -> Iterator[str]:
        """What tells the files from others: path, size and time of change."""
        for path, _ in self.paths:
            status = os.stat(path) if os.path.exists(path) else None
            yield repr((path, status and (status.st_size, status.st_mtime_ns)))

    def items(self, start: int) -> Iterator[Item]:
        """The images from number ``start`` on."""
        for path, true_class in self.paths[start:]:
            yield Item(_text(path), true_class, lambda path=path: Path(path))  # type: ignore[misc]


@dataclass(frozen=True)
class Shard:
    """The rows of a shard; ``classes`` are the names by label."""

    path: Path
    row_groups: tuple[int, ...]
    classes: dict[int, str]
    content: str

    def __len__(self) -> int:
        return sum(self.row_groups)

    def identity(self) -> Iterator[str]:
        """What tells the rows from others: the hash of their content."""
        yield repr((str(self.path), self.content))

    def items(self, start: int) -> Iterator[Item]:
        """The rows from number ``start`` on; one row group is in memory at a time."""
        first = 0
        for group, rows in enumerate(self.row_groups):
            if first + rows > start:
                yield from self._group(group, max(0, start - first))
            first += rows

    def _group(self, group: int, start: int) -> Iterator[Item]:
        from kaizen.data.schema import UNLABELLED
        from kaizen.data.shards import iter_row_groups

        (table,) = iter_row_groups(self.path, [group])
        names = ("image", "encoding", "height", "width", "channels", "label", "path")
        for place in range(start, table.num_rows):
            data, encoding, height, width, channels, label, path = (
                table.column(name)[place].as_py() for name in names
            )

            def read(
                data: bytes = data,
                encoding: str = encoding,
                shape: tuple[int, int, int] = (height, width, channels),
            ) -> OneImage:
                return decode_row(data, encoding, *shape)

            name = f"{_text(str(self.path))}:{path}"
            yield Item(name, None if label == UNLABELLED else self.classes.get(label), read)


@dataclass(frozen=True)
class Inputs:
    """All images that were asked for, and the paths of the files that are left out as no images."""

    parts: tuple[Files | Shard, ...]
    left_out: tuple[str, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def identity(self) -> str:
        """A hash that another list of images, or another content of them, does not have."""
        digest = hashlib.sha256()
        for part in self.parts:
            for text in part.identity():
                digest.update(text.encode("utf-8", "surrogateescape") + b"\n")
        return digest.hexdigest()

    def items(self, start: int = 0) -> Iterator[Item]:
        """The images in order, from number ``start`` on."""
        for part in self.parts:
            if start < len(part):
                yield from part.items(start)
            start = max(0, start - len(part))


def find_inputs(what: Sequence[str], classes: Collection[str]) -> Inputs:
    """The images that the arguments ``what`` name: files, shards, folders with all below them (in
    the order of their names), or globs.

    In a folder of which at least one subfolder has the name of one of ``classes``, and that holds
    no image itself, the subfolders' names are the true classes. Raises KaizenError where an
    argument names nothing, or there is no image at all.
    """
    parts: list[Files | Shard] = []
    left_out: list[str] = []
    for argument in what:
        for path in _places(argument):
            if os.path.isdir(path):
                files, others = _folder(path, classes)
                parts.append(files)
                left_out += others
            elif path.lower().endswith(_SHARD):
                parts.append(_shard(Path(path)))
            else:
                parts.append(Files(((path, None),)))
    inputs = Inputs(tuple(parts), tuple(left_out))
    if not len(inputs):
        raise KaizenError(
            f"there is no image in {', '.join(what)}; name image files "
            f"({', '.join(sorted(SUFFIXES)[:6])}, …), a folder with some, or a shard"
        )
    return inputs


def _places(argument: str) -> list[str]:
    """The paths that an argument names: itself, or what it matches as a glob."""
    if os.path.exists(argument):
        return [argument]
    if glob.has_magic(argument):
        found = sorted(glob.glob(argument, recursive=True))
        if found:
            return found
        raise KaizenError(f"{argument} matches no file; name files, folders, or another pattern")
    raise KaizenError(f"{argument} does not exist; name an image, a folder, a glob or a shard")


def _folder(root: str, classes: Collection[str]) -> tuple[Files, list[str]]:
    """The images below a folder, and the files and linked folders that are left out."""
    images: list[str] = []
    left_out: list[str] = []

    def failed(error: OSError) -> None:
        raise KaizenError(
            f"{error.filename} cannot be read ({error.strerror}); make it readable for you, or "
            "name other folders"
        )

    for folder, folders, names in os.walk(root, onerror=failed):
        folders.sort()
        left_out += [path for name in folders if os.path.islink(path := os.path.join(folder, name))]
        for name in sorted(names):
            path = os.path.join(folder, name)
            is_image = os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")
            (images if is_image else left_out).append(path)
    tops = [path[len(root) :].lstrip(os.sep).split(os.sep) for path in images]
    known = {look(name): name for name in classes}
    of_classes = any(look(top[0]) in known for top in tops) and all(len(top) > 1 for top in tops)
    true = [known.get(look(top[0]), _text(top[0])) if of_classes else None for top in tops]
    return Files(tuple(zip(images, true, strict=True))), left_out


def _shard(path: Path) -> Shard:
    from kaizen.data.shards import shard_info

    info = shard_info(path)
    classes = dict(zip(info.classes, info.class_names, strict=True))
    return Shard(path, info.row_groups, classes, info.content_sha256)


def _text(path: str) -> str:
    """A path as text that can be written, whatever bytes it has."""
    return os.fsencode(path).decode("utf-8", "replace")


def left_out_text(paths: Sequence[str]) -> str:
    """One line on the files that were left out."""
    names = ", ".join(_text(path) for path in paths[:3])
    return f"{counted(len(paths), 'file')} left out as no images: {names}" + (
        ", …" if len(paths) > 3 else ""
    )
