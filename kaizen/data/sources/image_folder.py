"""Images in folders: train/<class>/*, and test/<class>/* or val/<class>/*."""

from __future__ import annotations

import os
from pathlib import Path

from kaizen.data.sources.base import Part, names_text
from kaizen.data.sources.files import FileSource, Group
from kaizen.data.sources.names import alike_text, chosen_classes, refuse_alike
from kaizen.data.sources.walk import Walk, scan, subfolders
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams


class ImageFolder(FileSource):
    """A folder of image files; classes are the sorted names of train's subfolders, or some of them.

    Folders inside a class are walked, symbolic links followed. What is hidden, belongs to a network
    drive or desktop, or is no image, is left out and counted (`found`).
    """

    name = "image_folder"
    layout = "train/<class>/* and test/<class>/* (or val/<class>/*)"

    def __init__(self, dataset: DatasetParams) -> None:
        """Check the layout; raises KaizenError that says what is missing. Files are listed when
        first needed.
        """
        super().__init__(dataset)
        self._folders = self.part_folders()
        self._classes = class_folders(self.root, self._folders, dataset.classes, self.layout)

    def part_folders(self) -> dict[Part, str]:
        """The folder of each part."""
        return train_and_test(self.root, self.layout)

    @property
    def classes(self) -> list[str]:
        """The names of train's subfolders, sorted by code point."""
        return list(self._classes)

    def groups(self, part: Part, walk: Walk) -> list[Group]:
        """The files of each class."""
        folder = self._folders[part]
        walk.outside(folder)
        keys = [f"{folder}/{name}" for name in self._classes]
        return [Group(key, label, 0, walk.images(key)) for label, key in enumerate(keys)]


def train_and_test(root: Path, layout: str) -> dict[Part, str]:
    """The folders of the parts: train, and test or val. Raises KaizenError where one is missing or
    both are there.
    """
    names = {entry.name for entry in scan(root, layout, "dataset.path: ")}
    if "train" not in names:
        raise KaizenError(f"dataset.path: {root} has no folder `train`; expected {layout}")
    held_out = sorted({"test", "val"} & names)
    if not held_out:
        raise KaizenError(
            f"dataset.path: {root} has neither a folder `test` nor `val`; expected {layout}"
        )
    if len(held_out) == 2:
        raise KaizenError(
            f"dataset.path: {root} has both `test` and `val`, and only one can be the test part; "
            "rename the other"
        )
    if os.path.realpath(root / "train") == os.path.realpath(root / held_out[0]):
        raise KaizenError(
            f"dataset.path: {root / held_out[0]} is the same folder as {root / 'train'} (a link), "
            "and what was trained on cannot be the test part; put other images there"
        )
    return {"train": "train", "test": held_out[0]}


def class_folders(
    root: Path, folders: dict[Part, str], wanted: list[str] | str | None, layout: str
) -> list[str]:
    """The sorted class names, which both parts must have; those of ``wanted`` (`dataset.classes`)
    if given.
    """
    train, test = (subfolders(root / folder, layout) for folder in folders.values())
    if not train:
        raise KaizenError(f"{root / folders['train']} holds no class folders; expected {layout}")
    _refuse_alike_parts(root, folders, train, test)
    classes = chosen_classes(train | test, wanted, root)
    problems = [
        f"only in {folder}: {names_text(only)}"
        for folder, only in (
            (folders["train"], [name for name in classes if name not in test]),
            (folders["test"], [name for name in classes if name not in train]),
        )
        if only
    ]
    if problems:
        raise KaizenError(
            f"dataset.path: the class folders of {root / folders['train']} and "
            f"{root / folders['test']} differ ({'; '.join(problems)}); both need the same"
        )
    return classes


def _refuse_alike_parts(
    root: Path, folders: dict[Part, str], train: set[str], test: set[str]
) -> None:
    """Raise KaizenError where names look alike within a part, or differ between them only so."""
    for folder, names in zip(folders.values(), (train, test), strict=True):
        refuse_alike(names, root / folder)
    alike = alike_text(sorted(test - train), train - test)
    if alike:
        raise KaizenError(
            f"dataset.path: the class folders of {root / folders['train']} and "
            f"{root / folders['test']} differ in characters that look alike: in "
            f"{folders['test']} {alike} in {folders['train']}; rename one"
        )
