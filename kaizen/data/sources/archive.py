"""Datasets that come as one published archive: its checksum is verified before anything in it is
read.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import sys
import tarfile
import urllib.request
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from kaizen.data.sources.base import PARTS, Part, Row, Source
from kaizen.data.sources.memory import ChecksumMemory
from kaizen.errors import KaizenError
from kaizen.files import atomic_path, sha256_text
from kaizen.store.places import main_checkout

_PIECE = 1 << 20
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Archive:
    """A published archive: file name, address, MD5 as its publisher or torchvision states it, and
    size in MB.
    """

    file: str
    url: str
    md5: str
    megabytes: int


class Images(NamedTuple):
    """Images uint8 [N, H, W, C] and their labels int64 [N], -1 where the class is not known."""

    pixels: np.ndarray
    labels: np.ndarray


# What an archive holds: the parts, and for some further training images without a class.
UNLABELLED_IMAGES = "unlabelled"
Content = dict[str, Images]


class ArchiveSource(Source):
    """A dataset in one archive, read into memory as a whole; downloaded where it is absent.

    The plan needs no archive: its content is known by its published checksum. One that is there is
    verified.
    """

    in_memory = True

    def __init__(self, archive: Archive, path: str | None) -> None:
        """``path`` is the archive or the folder that holds it; None: .kaizen/downloads of the
        checkout.

        Raises KaizenError where there is nothing at ``path`` and no archive was downloaded.
        """
        self.archive = archive
        self.path = Path(path).expanduser().absolute() if path else None
        # A slip of the pen must not start a download of hundreds of megabytes.
        if self.path and not self.path.exists() and self.local() is None:
            raise KaizenError(
                f"dataset.path: {self.path} does not exist; set it to "
                f"{archive.file} or its folder, or to null to download it "
                f"({archive.megabytes} MB)"
            )
        self._loaded: Content = {}

    def __getstate__(self) -> dict[str, object]:
        """Workers load the archive themselves."""
        return self.__dict__ | {"_loaded": {}}

    @abstractmethod
    def load(self) -> Content:
        """Read "train", "test" and perhaps "unlabelled"; called once per process."""

    def checksums(self, cache: Path | None) -> dict[Part, list[str]]:
        """The archive's published checksum for every class; raises KaizenError where a present
        archive has another.
        """
        self.verify(cache)
        return {
            part: [sha256_text(f"md5:{self.archive.md5}")] * len(self.classes) for part in PARTS
        }

    def verify(self, cache: Path | None) -> None:
        """Raise KaizenError where the archive is present and not as published."""
        path = self.local()
        if path is not None:
            verify_file(path, self.archive.md5, cache, f"fetch it again from {self.archive.url}")

    def rows(self, part: Part) -> list[Row]:
        """Rows class by class, unlabelled ones last; the index is the position in the part as
        published.
        """
        content = self._content()
        rows: list[Row] = []
        for name in (part, UNLABELLED_IMAGES) if part == "train" else (part,):
            if name in content:
                labels, first = content[name].labels, len(rows)
                order = np.argsort(labels, kind="stable").tolist()
                rows.extend(
                    Row(first + number, int(labels[number]), f"{name}/{number:06d}")
                    for number in order
                )
        return rows

    def read(self, row: Row) -> np.ndarray:
        """Pixels uint8 [H, W, C]."""
        name, _, number = row.path.partition("/")
        pixels: np.ndarray = self._content()[name].pixels[int(number)]
        return pixels

    def _content(self) -> Content:
        if not self._loaded:
            self._loaded = self.load()
        return self._loaded

    def local(self) -> Path | None:
        """Where the archive is, or None where it is absent."""
        for place in (self.path, _downloads()):
            found = place / self.archive.file if place and place.is_dir() else place
            if found and found.is_file():
                return found
        return None

    @contextlib.contextmanager
    def open(self) -> Iterator[tarfile.TarFile]:
        """Open the archive, downloading it if absent, once all of it is verified.

        Raises KaizenError where that fails, and where reading in the block does.
        """
        path = self.local() or download(self.archive, _downloads(), self.path)
        try:
            with open(path, "rb") as file:
                # The same open file is hashed and read, so it cannot be exchanged in between.
                _compare(
                    path, _md5(file), self.archive.md5, f"fetch it again from {self.archive.url}"
                )
                file.seek(0)
                with tarfile.open(fileobj=file, mode="r:gz") as tar:
                    yield tar
        except (OSError, EOFError, tarfile.TarError, ValueError, KeyError) as error:
            raise KaizenError(
                f"{path} cannot be read ({error}); fetch it again from {self.archive.url}"
            ) from error


def member(tar: tarfile.TarFile, name: str) -> BinaryIO:
    """A file in an archive; raises KeyError where it is absent and ValueError where it is no
    regular file.

    Links are none either: they may lead in circles.
    """
    entry = tar.getmember(name)
    if not entry.isreg():
        raise ValueError(f"{name} is not a regular file")
    return cast(BinaryIO, tar.extractfile(entry))


def verify_file(path: Path, md5: str, cache: Path | None, fix: str) -> None:
    """Raise KaizenError where a file's MD5 is another; remembered in ``cache`` by path, size and
    times.
    """

    def compute() -> str:
        with open(path, "rb") as file:
            return _md5(file)

    memory = ChecksumMemory(cache, path)
    try:
        status = path.stat()
        found = memory.checksum(
            "md5", [status.st_size, status.st_mtime_ns, status.st_ctime_ns], compute
        )
    except OSError as error:
        raise KaizenError(f"{path} cannot be read ({error.strerror}); {fix}") from error
    memory.save()
    _compare(path, found, md5, fix)


def download(archive: Archive, folder: Path, wanted: Path | None) -> Path:
    """Fetch an archive into ``folder``, verified before it appears there; ``wanted``: where the
    user said it is.

    Raises KaizenError that says how to fetch it by hand.
    """
    target = folder / archive.file
    absent = f"{wanted} holds no {archive.file}; " if wanted else ""
    print(
        f"{absent}downloading {archive.url} ({archive.megabytes} MB) to {target}", file=sys.stderr
    )
    by_hand = (
        f"fetch it by hand, as with `curl -L -o {target} {archive.url}`, or set dataset.path to "
        "where it is"
    )
    with atomic_path(target) as temporary:
        with open(temporary, "wb") as file:
            for piece in _pieces(archive.url, by_hand):
                file.write(piece)
        with open(temporary, "rb") as file:
            _compare(archive.url, _md5(file), archive.md5, by_hand)
    return target


def _pieces(url: str, by_hand: str) -> Iterator[bytes]:
    """The bytes at an address; a network's OSError must not be taken for one of the disk."""
    try:
        # The addresses are this package's own.
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            while piece := response.read(_PIECE):
                yield piece
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise KaizenError(f"{url} cannot be downloaded ({reason}); {by_hand}") from error


def _downloads() -> Path:
    return main_checkout(Path.cwd()) / ".kaizen" / "downloads"


def _md5(file: BinaryIO) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _compare(where: Path | str, found: str, md5: str, fix: str) -> None:
    if found != md5:
        raise KaizenError(f"{where} is not as published: its MD5 is {found}, not {md5}; {fix}")
