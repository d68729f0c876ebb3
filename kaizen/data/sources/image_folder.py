"""Images in folders: train/<class>/*, and test/<class>/* or val/<class>/*; or <class>/*."""

from __future__ import annotations

from pathlib import Path

from kaizen.data.schema import UNLABELLED
from kaizen.data.sources.base import Part, names_text
from kaizen.data.sources.files import FileSource, Group
from kaizen.data.sources.held_out import HeldOut
from kaizen.data.sources.layout import (
    UNLABELLED_FOLDER,
    Layout,
    class_names,
    find_layout,
    refuse_two_test_parts,
)
from kaizen.data.sources.names import alike_text, chosen_classes, refuse_alike
from kaizen.data.sources.walk import Walk, below, scan, subfolders
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams


class ImageFolder(FileSource):
    """A folder of image files; classes are the sorted names of the class folders, or some of them.

    Without a test part `dataset.test_fraction` of every class is held out. Folders inside a class
    are walked, symbolic links followed. What is hidden, belongs to a network drive or desktop, or
    is no image, is left out and counted (`found`).
    """

    name = "image_folder"
    layout = (
        "train/<class>/* and test/<class>/* (or val/<class>/*), or <class>/* alone, in either case "
        f"with or without {UNLABELLED_FOLDER}/*, images without a class"
    )

    def __init__(self, dataset: DatasetParams) -> None:
        """Check the layout; raises KaizenError that says what is missing. Files are listed when
        first needed.
        """
        super().__init__(dataset)
        self._layout = self.find_layout()
        train, test, _ = self._layout
        found = class_names(self.root, train, self.layout)
        if test is not None:
            class_names(self.root, test, self.layout)
            folders: dict[Part, str] = {"train": train, "test": test}
            self._classes = class_folders(self.root, folders, dataset.classes, self.layout)
            return
        self.held_out = HeldOut(dataset.test_fraction, dataset.seed)
        if not found:
            raise KaizenError(
                f"dataset.path: {self.root / train} holds no class folders; expected {self.layout}"
            )
        self._classes = chosen_classes(found, dataset.classes, self.root / train)

    def find_layout(self) -> Layout:
        """The folder of each part; raises KaizenError where they cannot be told."""
        return find_layout(self.root, self.layout, "dataset.path: ")

    @property
    def classes(self) -> list[str]:
        """The names of the class folders, sorted by code point."""
        return list(self._classes)

    def groups(self, part: Part, walk: Walk) -> list[Group]:
        """The files of each class, then those without one."""
        folder = self._layout.train if part == "train" else self._layout.test or ""
        walk.outside(folder)
        if part == "train":
            self.note_beside(walk)
        keys = [below(folder, name) for name in self._classes]
        groups = [Group(key, label, 0, walk.images(key)) for label, key in enumerate(keys)]
        if part == "train" and self._layout.unlabelled:
            files = walk.images(UNLABELLED_FOLDER)
            groups += [Group(UNLABELLED_FOLDER, UNLABELLED, 0, files)] if files else []
        return groups

    def note_beside(self, walk: Walk) -> None:
        """Note the images that are in none of the layout's folders."""
        if self._layout.train:
            walk.beside(self._layout.folders())

    def refuse_empty(self, part: Part, groups: list[Group], walk: Walk) -> None:
        """Raise KaizenError where a class has no image, or one only of which a share would be held
        out.
        """
        super().refuse_empty(part, [g for g in groups if g.label != UNLABELLED], walk)
        single = [g.key for g in groups if g.label != UNLABELLED and len(g.files) == 1]
        if self.held_out is not None and single:
            raise KaizenError(
                f"{self.root} has classes of one image, and one of every class is held out for "
                f"testing: {names_text(single)}; add images, remove them, or make a test part "
                "(train/<class>/* and test/<class>/*)"
            )


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
    refuse_two_test_parts(root, held_out, "dataset.path: ")
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
