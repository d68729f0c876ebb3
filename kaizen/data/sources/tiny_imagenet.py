"""Tiny ImageNet as published: 200 classes of 64 x 64 images; the labelled validation part serves as
the test part.
"""

from __future__ import annotations

from kaizen.data.sources.base import Part, names_text
from kaizen.data.sources.files import FileSource, Group
from kaizen.data.sources.names import chosen_classes, read_lines
from kaizen.data.sources.walk import File, Walk, image_file, scan, subfolders
from kaizen.errors import KaizenError
from kaizen.files import shortened
from kaizen.params import DatasetParams

_WORDNET_IDS, _ANNOTATIONS = "wnids.txt", "val/val_annotations.txt"


class TinyImageNet(FileSource):
    """The folder `tiny-imagenet-200`; classes are the WordNet ids of wnids.txt, sorted, or some of
    them.
    """

    name = "tiny_imagenet"
    layout = f"{_WORDNET_IDS}, train/<WordNet id>/images/*, val/images/* and {_ANNOTATIONS}"

    def __init__(self, dataset: DatasetParams) -> None:
        """Read the ids; raises KaizenError where they or their folders are missing."""
        super().__init__(dataset)
        folders = subfolders(self.root, self.layout)
        if not {"train", "val"} <= folders:
            raise KaizenError(
                f"dataset.path: {self.root} lacks `train` or `val`; expected {self.layout}"
            )
        ids = set(read_lines(self.root / _WORDNET_IDS, "dataset.path: "))
        missing = sorted(ids - subfolders(self.root / "train", self.layout))
        if missing or not ids:
            problem = f"names {names_text(missing)}, which train/ lacks" if missing else "is empty"
            raise KaizenError(f"{self.root / _WORDNET_IDS} {problem}; unpack the archive again")
        self._ids = sorted(ids)
        self._classes = chosen_classes(ids, dataset.classes, self.root / _WORDNET_IDS)

    @property
    def classes(self) -> list[str]:
        """WordNet ids, sorted."""
        return list(self._classes)

    def groups(self, part: Part, walk: Walk) -> list[Group]:
        """The files of each class; those of the validation part as val_annotations.txt assigns
        them, or as they lie in class folders, into which many sort them.
        """
        folder = "train" if part == "train" else "val"
        if part == "train" or self._sorted():
            walk.outside(folder)
            files = {name: walk.images(f"{folder}/{name}") for name in self._classes}
        else:
            files = self._annotated(walk)
        return [
            Group(f"{folder}/{name}", label, 0, files[name])
            for label, name in enumerate(self._classes)
        ]

    def _sorted(self) -> bool:
        """Whether the validation images lie in class folders; raises KaizenError where only some
        do, or both ways are there.
        """
        val = self.root / "val"
        folders = subfolders(val, self.layout)
        sorted_in = folders & set(self._ids)
        if not sorted_in:
            return False
        left = "images" in folders and any(scan(val / "images", self.layout))
        missing = sorted(set(self._classes) - sorted_in)
        if left or missing:
            problem = "images in val/images too" if left else f"no folder {names_text(missing)}"
            raise KaizenError(
                f"{val} has class folders, and {problem}; sort all of its images into "
                f"val/<WordNet id>/, or unpack the archive again for {self.layout}"
            )
        return True

    def _annotated(self, walk: Walk) -> dict[str, list[File]]:
        """Lines hold file name, WordNet id and a bounding box, separated by tabs."""
        files: dict[str, list[File]] = {name: [] for name in self._classes}
        listed: set[str] = set()
        path = self.root / _ANNOTATIONS
        for number, line in enumerate(read_lines(path, "dataset.path: "), start=1):
            name, _, rest = line.partition("\t")
            wordnet_id = rest.partition("\t")[0]
            if not wordnet_id or "/" in name:
                raise KaizenError(
                    f"{path}, entry {number}: {shortened(line)!r} is not a file's name, a tab and "
                    "a WordNet id"
                )
            if wordnet_id in files:
                files[wordnet_id].append(image_file(self.root, f"val/images/{name}"))
            listed.add(name)
        for entry in scan(path.parent / "images", self.layout):
            if entry.name not in listed and not entry.name.startswith("."):
                walk.skip(f"images that {path.name} does not list", f"val/images/{entry.name}")
        return {name: sorted(found) for name, found in files.items()}
