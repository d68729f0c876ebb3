"""The images of one task that arrived: the folder of one arrival of a stream that grows."""

from __future__ import annotations

import os

from kaizen.data.schema import UNLABELLED
from kaizen.data.sources.base import Part, names_text
from kaizen.data.sources.files import FileSource, Group, instead
from kaizen.data.sources.held_out import HeldOut
from kaizen.data.sources.labels_file import LABELS_FILE, read_labels
from kaizen.data.sources.layout import (
    UNLABELLED_FOLDER,
    Layout,
    class_names,
    find_layout,
    refuse_reserved,
)
from kaizen.data.sources.names import alike_text, refuse_alike
from kaizen.data.sources.walk import File, Walk, below, scan
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams


class Arrival(FileSource):
    """One arrival: images in folders of classes, with or without a test part, or listed by
    labels.csv; images without a class beside them, or nothing else.

    Classes are the sorted names of the arrival's own; `dataset.classes` does not choose from them.
    Where there is no test part, `dataset.test_fraction` of every class is held out; a class of one
    image keeps it for training. A test part may lack classes.
    """

    name = "stream"
    layout = (
        "<class>/*; or train/<class>/*, with or without test/<class>/* (or val/<class>/*); either "
        f"with {UNLABELLED_FOLDER}/*, images without a class, or these alone; or {LABELS_FILE} "
        "beside images"
    )

    def __init__(self, dataset: DatasetParams) -> None:
        """Find the classes; raises KaizenError where the layout is none of those described. Files
        are listed when first needed.
        """
        super().__init__(dataset)
        self._tested: set[str] = set()
        self._has_list = self._find_list()
        if self._has_list:
            self._layout = Layout("", None)
            names = set(self._labels().values()) - {""}
            for name in sorted(names):
                refuse_reserved(name, f"{self.root / LABELS_FILE}, label", self.root)
            refuse_alike(names, self.root / LABELS_FILE, case=True)
        else:
            self._layout = find_layout(self.root, self.layout)
            names = self._folder_names()
        if self._layout.test is None:
            self.held_out = HeldOut(dataset.test_fraction, dataset.seed)
        self._classes = sorted(names)

    @property
    def classes(self) -> list[str]:
        """The names of the labelled classes, sorted by code point; none where no image has one."""
        return list(self._classes)

    def counts(self, part: Part) -> dict[int, int]:
        """The number of images of each label in a part, of those without a class under -1; labels
        without an image are absent.
        """
        found: dict[int, int] = {}
        for row in self.rows(part):
            found[row.label] = found.get(row.label, 0) + 1
        return found

    def groups(self, part: Part, walk: Walk) -> list[Group]:
        """The files of each class, then those without one; what has no image has no group, unless
        it is a class to train on.
        """
        if self._has_list:
            return self._listed_groups(walk)
        folder = self._layout.train if part == "train" else self._layout.test or ""
        walk.outside(folder)
        if part == "train" and folder:
            walk.beside(self._layout.folders())
        groups = []
        for label, name in enumerate(self._classes):
            key = below(folder, name)
            if part == "train" or name in self._tested:
                groups.append(Group(key, label, 0, walk.images(key)))
        if part == "train" and self._layout.unlabelled:
            files = walk.images(UNLABELLED_FOLDER)
            groups.append(Group(UNLABELLED_FOLDER, UNLABELLED, 0, files))
        return [g for g in groups if g.files or (part == "train" and g.label != UNLABELLED)]

    def refuse_empty(self, part: Part, groups: list[Group], walk: Walk) -> None:
        """Raise KaizenError where a part has no image, or a class none to train on."""
        if any(group.files for group in groups):
            super().refuse_empty(part, groups, walk)
            return
        folder = self.root / (self._layout.test or "") if part == "test" else self.root
        mend = (
            f"add test images, or remove the folder: then a share of {self._layout.train} is held "
            "out"
            if part == "test"
            else f"expected {self.layout}"
        )
        raise KaizenError(f"{folder} holds no images{instead(walk)}; {mend}")

    def _find_list(self) -> bool:
        """Whether there is a labels.csv."""
        names = [entry.name for entry in scan(self.root, self.layout)]
        other = next((name for name in names if name.lower() == LABELS_FILE), LABELS_FILE)
        if LABELS_FILE not in names and other in names:
            raise KaizenError(f"{self.root / other} has a name in capitals; call it {LABELS_FILE}")
        return LABELS_FILE in names

    def _labels(self) -> dict[str, str]:
        """What labels.csv says. Not kept: it is as long as the listing, which keeps it."""
        labels = read_labels(self.root / LABELS_FILE)
        if not labels:
            raise KaizenError(
                f"{self.root / LABELS_FILE} lists no images; list those beside it, or remove it"
            )
        return labels

    def _folder_names(self) -> set[str]:
        """The names of train's class folders, which those of the test part must be among."""
        train = class_names(self.root, self._layout.train, self.layout)
        refuse_alike(train, self.root / self._layout.train, case=True)
        if self._layout.test is None:
            return train
        self._tested = class_names(self.root, self._layout.test, self.layout)
        refuse_alike(train | self._tested, self.root, case=True)
        only = sorted(self._tested - train)
        if only:
            raise KaizenError(
                f"{self.root / self._layout.test} has classes that {self._layout.train} lacks: "
                f"{names_text(only)}; add images to train on, or remove them"
            )
        return train

    def _listed_groups(self, walk: Walk) -> list[Group]:
        """The files that labels.csv lists, by their labels; raises KaizenError where these are not
        the images that are there.
        """
        labels = self._labels()
        files = {file.path: file for file in walk.images("")}
        self._forget_list(walk)
        there = set(files) | set(walk.unread_paths())
        self._refuse_missing(sorted(set(labels) - there), there)
        unlisted = sorted(there - set(labels))
        if unlisted:
            raise KaizenError(
                f"{self.root / LABELS_FILE} does not list {_images(unlisted)} beside it (the "
                f"first: {unlisted[0]!r}); list them, with a blank label where they have no class, "
                "or remove them"
            )
        by_name: dict[str, list[File]] = {name: [] for name in [*self._classes, ""]}
        for path, file in sorted(files.items()):
            by_name[labels[path]].append(file)
        groups = [
            Group(f"{LABELS_FILE}/{name}", label, 0, by_name[name])
            for label, name in enumerate(self._classes)
        ]
        rest = Group(LABELS_FILE, UNLABELLED, 0, by_name[""])
        return [*groups, rest] if rest.files else groups

    def _refuse_missing(self, missing: list[str], there: set[str]) -> None:
        """Raise KaizenError where files are listed that are no images here."""
        if not missing:
            return
        first = missing[0]
        problem = "is not here"
        if os.path.exists(self.root / first):
            problem = "is no image, is hidden, or lies in a folder that is passed over"
        elif alike := alike_text([first], there):
            problem += f" ({alike})"
        elif "\\" in first:
            problem += " (folders are divided by `/`)"
        raise KaizenError(
            f"{self.root / LABELS_FILE} lists {_images(missing)} that cannot be used; the first, "
            f"{first[:200]!r}, {problem}; add what is missing, or remove it from the list"
        )

    def _forget_list(self, walk: Walk) -> None:
        """labels.csv is read, and no file that was left out."""
        for what, paths in list(walk.skipped.items()):
            left = [path for path in paths if path != LABELS_FILE]
            walk.skipped[what] = left
            if not left:
                del walk.skipped[what]


def _images(paths: list[str]) -> str:
    return f"{len(paths)} image{'' if len(paths) == 1 else 's'}"
