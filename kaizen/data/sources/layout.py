"""Which folders of a dataset are its parts, its classes, and its images without a class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from kaizen.data.sources.base import names_text
from kaizen.data.sources.names import look
from kaizen.data.sources.walk import below, scan, subfolders
from kaizen.errors import KaizenError

# The folder of the images without a class.
UNLABELLED_FOLDER = "unlabelled"
_TEST_FOLDERS = {"test", "val"}
# Folders of these names hold a part of a dataset, and would be learnt as classes by mistake.
_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation"}
# No class has one of these names: what is in it would be learnt as a class by mistake.
_NO_CLASSES = {UNLABELLED_FOLDER, "unlabeled"}


class Layout(NamedTuple):
    """The folders of the parts, relative to the dataset.

    ``train`` is "" where the class folders lie in the dataset's folder itself; ``test`` is None
    where there is none; ``unlabelled`` says whether there is a folder of images without a class.
    """

    train: str
    test: str | None
    unlabelled: bool = False

    def folders(self) -> list[str]:
        """Those of the three that are folders of the dataset's own."""
        names = [self.train, self.test, UNLABELLED_FOLDER if self.unlabelled else None]
        return [name for name in names if name]


def find_layout(root: Path, layout: str, prefix: str = "") -> Layout:
    """The layout that a folder has; ``layout`` describes those that are accepted, for messages,
    which begin with ``prefix``.

    Raises KaizenError where it could be two of them: both `test` and `val`, one of these without
    `train`, or class folders beside a `train` without a test part; and where folders have nearly
    the names that say what they are.
    """
    names = {entry.name for entry in scan(root, layout, prefix)}
    folders = subfolders(root, layout)
    unlabelled = UNLABELLED_FOLDER in folders
    for name in sorted(folders - {UNLABELLED_FOLDER}):
        refuse_reserved(name, f"{prefix}{root / name}", root)
    held_out = sorted(_TEST_FOLDERS & names)
    if "train" not in names:
        if held_out:
            raise KaizenError(
                f"{prefix}{root} has a folder `{held_out[0]}`, but no folder `train`; expected "
                f"{layout}"
            )
        part = next((name for name in sorted(folders) if name.casefold() in _PARTS), None)
        if part:
            raise KaizenError(
                f"{prefix}{root} has a folder {part!r}, which looks like a part of a dataset and "
                "not like a class; call the parts `train`, and `test` or `val`, or rename the class"
            )
        return Layout("", None, unlabelled)
    if not held_out:
        others = sorted(folders - {"train", UNLABELLED_FOLDER})
        if others:
            raise KaizenError(
                f"{prefix}{root} has a folder `train`, and beside it {names_text(others)}, which "
                "may be classes; move what are classes into `train` (if `train` is one, as "
                f"train/train), and remove the others; expected {layout}"
            )
        return Layout("train", None, unlabelled)
    refuse_two_test_parts(root, held_out, prefix)
    return Layout("train", held_out[0], unlabelled)


def refuse_two_test_parts(root: Path, held_out: list[str], prefix: str = "") -> None:
    """Raise KaizenError where there are two test parts, or the one there is is the training part;
    ``held_out`` are the names of those that are there.
    """
    if len(held_out) == 2:
        raise KaizenError(
            f"{prefix}{root} has both `test` and `val`, and only one can be the test part; "
            "rename the other"
        )
    if os.path.realpath(root / "train") == os.path.realpath(root / held_out[0]):
        raise KaizenError(
            f"{prefix}{root / held_out[0]} is the same folder as {root / 'train'} (a link), "
            "and what was trained on cannot be the test part; put other images there"
        )


def class_names(root: Path, folder: str, layout: str) -> set[str]:
    """The names of the class folders in ``root/folder``; raises KaizenError where one cannot be a
    class's.
    """
    names = subfolders(root / folder, layout)
    if not folder:
        names.discard(UNLABELLED_FOLDER)
    for name in sorted(names):
        refuse_reserved(name, str(root / below(folder, name)), root)
    return names


def refuse_reserved(name: str, where: str, root: Path) -> None:
    """Raise KaizenError where a class would have the name of the folder of images without a
    class.
    """
    if look(name).casefold() in _NO_CLASSES:
        raise KaizenError(
            f"{where}: {name!r} cannot be a class; put images without a class into "
            f"{root / UNLABELLED_FOLDER}, or rename the class"
        )
