"""Images in folders: train/<class>/*, and test/<class>/* or val/<class>/*."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

from kaizen.data.sources.base import Part, Row, dataset_checksum
from kaizen.errors import KaizenError
from kaizen.files import canonical_json, read_json, sha256_file, sha256_text, write_json
from kaizen.params import DatasetParams

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
_LAYOUT = "train/<class>/* and test/<class>/* (or val/<class>/*)"


class _File(NamedTuple):
    path: str
    size: int
    mtime_ns: int


class ImageFolder:
    """A folder of image files; classes are the sorted names of train's subfolders.

    Files whose name starts with a dot or has no image suffix are passed over; folders inside a class are
    walked. Symbolic links are followed.
    """

    name = "image_folder"

    def __init__(self, dataset: DatasetParams) -> None:
        """Check the layout; raises KaizenError that says what is missing. Files are listed when first needed."""
        if dataset.path is None:
            raise KaizenError(f"dataset.path: null, but image_folder needs the folder that holds {_LAYOUT}; set it")
        self.root = Path(dataset.path).expanduser().absolute()
        self._folders, self._classes = _layout(self.root)
        self._files: dict[Part, list[list[_File]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Workers only read files: leave out the listing."""
        return self.__dict__ | {"_files": {}}

    @property
    def classes(self) -> list[str]:
        """The names of train's subfolders, sorted by code point."""
        return list(self._classes)

    def checksums(self, cache: Path | None) -> dict[Part, list[str]]:
        """Per class: SHA-256 over sorted relative paths and content hashes; only changed classes are read again."""
        memory = cache / f"{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:32]}.json" if cache else None
        known = _remembered(memory)
        fresh: dict[str, list[str]] = {}
        result: dict[Part, list[str]] = {}
        for part in self._folders:
            result[part] = []
            for name, files in zip(self._classes, self._listing(part), strict=True):
                key, signature = f"{self._folders[part]}/{name}", sha256_text(canonical_json(files))
                if known.get(key, ["", ""])[0] != signature:
                    known[key] = [signature, self._content(files)]
                fresh[key] = known[key]
                result[part].append(fresh[key][1])
        if memory and fresh != _remembered(memory):
            # Remembering saves time only; a folder that cannot be written must not stop the plan.
            with contextlib.suppress(KaizenError):
                write_json(memory, {"root": str(self.root), "classes": fresh})
        return result

    def checksum(self, cache: Path | None) -> str:
        """See `Source.checksum`."""
        return dataset_checksum(self.classes, self.checksums(cache))

    def rows(self, part: Part) -> list[Row]:
        """Rows class by class, files sorted by relative path; the index is the position in the part."""
        listing = self._listing(part)
        labelled = ((label, file) for label, files in enumerate(listing) for file in files)
        return [Row(index, label, file.path) for index, (label, file) in enumerate(labelled)]

    def read(self, row: Row) -> bytes:
        """The bytes of the row's file."""
        return (self.root / row.path).read_bytes()

    def _content(self, files: list[_File]) -> str:
        digest = hashlib.sha256()
        for file in files:
            path = self.root / file.path
            try:
                digest.update(canonical_json([file.path, sha256_file(path)]).encode() + b"\n")
            except OSError as error:
                raise KaizenError(f"{path} cannot be read ({error.strerror}); mend or remove it") from error
        return digest.hexdigest()

    def _listing(self, part: Part) -> list[list[_File]]:
        """The files of each class, sorted; raises KaizenError on an empty class."""
        if part not in self._files:
            folder = self._folders[part]
            listing = [sorted(_walk(self.root, f"{folder}/{name}", ())) for name in self._classes]
            empty = [f"{folder}/{name}" for name, files in zip(self._classes, listing, strict=True) if not files]
            if len(empty) == len(listing):
                raise KaizenError(f"{self.root / folder} holds no images ({_suffixes()}); expected {_LAYOUT}")
            if empty:
                raise KaizenError(f"{self.root} has classes without images: {_names(empty)}; fill or remove them")
            self._files[part] = listing
        return self._files[part]


def _layout(root: Path) -> tuple[dict[Part, str], list[str]]:
    """The folder of each part and the class names."""
    names = {entry.name for entry in _scan(root, "dataset.path: ")}
    if "train" not in names:
        raise KaizenError(f"dataset.path: {root} has no folder `train`; expected {_LAYOUT}")
    held_out = sorted({"test", "val"} & names)
    if not held_out:
        raise KaizenError(f"dataset.path: {root} has neither a folder `test` nor `val`; expected {_LAYOUT}")
    if len(held_out) == 2:
        raise KaizenError(
            f"dataset.path: {root} has both `test` and `val`, and only one can be the test part; rename the other"
        )
    folders: dict[Part, str] = {"train": "train", "test": held_out[0]}
    train, test = (_class_names(root / folder) for folder in folders.values())
    if not train:
        raise KaizenError(f"{root / 'train'} holds no class folders; expected {_LAYOUT}")
    problems = [
        f"only in {folder}: {_names(sorted(only))}"
        for folder, only in (("train", train - test), (held_out[0], test - train))
        if only
    ]
    if problems:
        raise KaizenError(
            f"dataset.path: the class folders of {root}/train and {root}/{held_out[0]} differ "
            f"({'; '.join(problems)}); both need the same"
        )
    return folders, sorted(train)


def _class_names(folder: Path) -> set[str]:
    return {entry.name for entry in _scan(folder) if not entry.name.startswith(".") and entry.is_dir()}


def _scan(folder: Path, prefix: str = "") -> list[os.DirEntry[str]]:
    """List a folder; every way in which that fails is a KaizenError."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except FileNotFoundError as error:
        raise KaizenError(f"{prefix}{folder} does not exist; give the folder that holds {_LAYOUT}") from error
    except NotADirectoryError as error:
        raise KaizenError(f"{prefix}{folder} is not a folder; give the folder that holds {_LAYOUT}") from error
    except PermissionError as error:
        raise KaizenError(f"{prefix}{folder} cannot be listed ({error.strerror}); make it readable for you") from error
    except (OSError, ValueError) as error:
        raise KaizenError(f"{prefix}{str(folder)!r} cannot be listed: {error}; mend the path or the disk") from error
    for entry in found:
        try:
            entry.name.encode()
        except UnicodeEncodeError as error:
            raise KaizenError(f"{folder} holds the name {entry.name!r}, which is not UTF-8; rename it") from error
    return found


def _walk(root: Path, folder: str, above: tuple[tuple[int, int], ...]) -> list[_File]:
    """All images under a class folder. ``above`` are the (device, inode) of the folders on the way here."""
    here = os.stat(root / folder)
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        raise KaizenError(f"{root / folder} is a link to a folder that holds it; remove the link")
    files: list[_File] = []
    for entry in _scan(root / folder):
        path = f"{folder}/{entry.name}"
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            files.extend(_walk(root, path, (*above, identity)))
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            try:
                status = entry.stat()
            except OSError as error:
                raise KaizenError(f"{root / path} cannot be read ({error.strerror}); mend or remove it") from error
            if not stat.S_ISREG(status.st_mode):
                raise KaizenError(f"{root / path} is not a regular file; remove it")
            files.append(_File(path, status.st_size, status.st_mtime_ns))
    return files


def _remembered(memory: Path | None) -> dict[str, list[str]]:
    """[signature, checksum] of each class folder as last seen; nothing where the memory is absent or damaged."""
    try:
        classes = read_json(memory)["classes"] if memory else {}
        return {str(key): [str(signature), str(checksum)] for key, (signature, checksum) in classes.items()}
    except (KaizenError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def _names(names: list[str]) -> str:
    """Names for a message, at most ten of them."""
    shown = ", ".join(repr(name) for name in names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def _suffixes() -> str:
    return " ".join(sorted(SUFFIXES))
