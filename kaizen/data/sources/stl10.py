"""STL-10 (Coates et al. 2011): 96 x 96 colour images, 5,000 to train and 8,000 to test on, and
100,000 unlabelled.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np

from kaizen.data.schema import UNLABELLED
from kaizen.data.sources.archive import (
    UNLABELLED_IMAGES,
    Archive,
    ArchiveSource,
    Content,
    Images,
    member,
    verify_file,
)
from kaizen.data.sources.base import ALL, PARTS, Looks
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams

_SIDE = 96
_FOLDER = "stl10_binary"
ARCHIVE = Archive(
    "stl10_binary.tar.gz",
    "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    "91f7769df0f17e558f3565bffb0c7dfb",
    2640,
)
# The archive's files and their MD5, for who has unpacked it (from torchvision).
FILES = {
    "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
    "train_y.bin": "5a34089d4802c674881badbb80307741",
    "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
    "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
    "unlabeled_X.bin": "5242ba1fed5e4be9e1e742405eb56ca4",
}


class STL10(ArchiveSource):
    """The binary archive or its folder; with `dataset.unlabelled` the unlabelled images join the
    train part.

    A folder's images stay on disk; an archive's are read into memory: 0.4 GB, and 2.8 GB more if
    unlabelled.
    """

    name = "stl10"

    def __init__(self, dataset: DatasetParams) -> None:
        """``dataset.path`` is the archive, a folder that holds it, or the folder of its files."""
        super().__init__(ARCHIVE, dataset.path)
        self.unlabelled = dataset.unlabelled

    @property
    def classes(self) -> list[str]:
        """The published names in label order."""
        return ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]

    def looks(self, most: int, decoded: int) -> Looks:
        """As published."""
        count = 113_000 if self.unlabelled else 13_000
        return Looks(count, count, (_SIDE, _SIDE), (_SIDE, _SIDE), count, ALL)

    def verify(self, cache: Path | None) -> None:
        """Raise KaizenError where the folder's files, or else the archive, are not as published."""
        folder = self._unpacked()
        if folder is None:
            super().verify(cache)
            return
        for name in self._names():
            verify_file(folder / name, FILES[name], cache, f"unpack {ARCHIVE.file} again")

    def load(self) -> Content:
        """Map the folder's files, or read the archive's."""
        folder = self._unpacked()
        if folder is not None:
            try:
                return self._decoded(
                    {name: np.memmap(folder / name, np.uint8, "r") for name in self._names()}
                )
            except (OSError, ValueError) as error:
                raise KaizenError(
                    f"{folder} cannot be read ({error}); unpack {ARCHIVE.file} again"
                ) from error
        with self.open() as tar:
            return self._decoded({name: _bytes(tar, f"{_FOLDER}/{name}") for name in self._names()})

    def _names(self) -> list[str]:
        return [name for name in FILES if self.unlabelled or not name.startswith("unlabeled")]

    def _unpacked(self) -> Path | None:
        """The folder of the archive's files, where dataset.path leads to one."""
        places = [self.path, self.path / _FOLDER] if self.path else []
        return next((place for place in places if (place / "train_X.bin").is_file()), None)

    def _decoded(self, files: dict[str, np.ndarray]) -> Content:
        """Images are stored column by column and channel by channel, labels from 1. Raises
        ValueError on odd sizes.
        """
        content: Content = {}
        for part in PARTS:
            pixels, labels = (
                _pixels(files[f"{part}_X.bin"]),
                files[f"{part}_y.bin"].astype(np.int64) - 1,
            )
            if len(labels) != len(pixels) or not 0 <= labels.min() <= labels.max() < len(
                self.classes
            ):
                raise ValueError(f"{part}_y.bin does not hold one label from 1 to 10 per image")
            content[part] = Images(pixels, labels)
        if self.unlabelled:
            pixels = _pixels(files["unlabeled_X.bin"])
            content[UNLABELLED_IMAGES] = Images(
                pixels, np.full(len(pixels), UNLABELLED, dtype=np.int64)
            )
        return content


def _pixels(data: np.ndarray) -> np.ndarray:
    """A view uint8 [N, 96, 96, 3] of a file's bytes."""
    return data.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 3, 2, 1)


def _bytes(tar: tarfile.TarFile, name: str) -> np.ndarray:
    return np.frombuffer(member(tar, name).read(), dtype=np.uint8)
