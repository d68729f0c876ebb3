"""What a folder of images is, as far as parameters are chosen by it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kaizen.data.image_files import read_header
from kaizen.data.sources.base import Looks
from kaizen.data.sources.image_folder import ImageFolder
from kaizen.data.sources.walk import subfolders
from kaizen.errors import KaizenError, names_text
from kaizen.params import DatasetParams

# So many images, evenly spaced, are looked at: headers, and of fewer the pixels. This is done once,
# so it takes more than `kaizen check` does.
SEEN, DECODED = 5000, 200
_SIDES = 1000


@dataclass(frozen=True)
class Measured:
    """The images of ``folder``: how many train and test, the classes with the number of training
    images of each, what they look like, and their usual shorter side in pixels (the median).
    """

    folder: Path
    classes: dict[str, int]
    unlabelled: int
    test: int
    # Whether the dataset has no test part, so that a share of every class is held out.
    held_out: bool
    looks: Looks
    side: int
    # What of the files is no image that can be read, and has to be left out; "" where all can be.
    unread: str = ""

    @property
    def train(self) -> int:
        """The number of training images, those without a class among them."""
        return sum(self.classes.values()) + self.unlabelled

    @property
    def coloured(self) -> bool:
        """Whether an image has colour, and is not grey in three channels."""
        return self.looks.coloured is not None

    @property
    def one_size(self) -> bool:
        """Whether all images were looked at, and are squares of one size."""
        looks = self.looks
        square = looks.height == looks.width and looks.height[0] == looks.height[1]
        return square and looks.seen == looks.images


def measure(folder: Path) -> Measured:
    """Look at a folder of images as the source `image_folder` reads it.

    Raises KaizenError where it is not laid out as that, or as domains, or has fewer than two
    classes, or holds no image that can be read.
    """
    source, unread = _opened(folder)
    _refuse_domains(source)
    counts: Counter[int] = Counter()
    for (label, _), count in source.train_counts().items():
        counts[label] += count
    names = {name: counts[label] for label, name in enumerate(source.classes)}
    if len(names) < 2:
        raise KaizenError(
            f"{folder} has one class, {next(iter(names))!r}, and an experiment needs two: put the "
            "images of each class into a folder of its own"
        )
    looks = source.looks(SEEN, DECODED)
    if looks is None or not looks.mean:
        raise KaizenError(f"{folder}: none of the images that were looked at can be read")
    return Measured(
        folder,
        names,
        counts[-1],
        len(source.rows("test")),
        source.held_out is not None,
        looks,
        _usual_side(source),
        unread,
    )


def _opened(folder: Path) -> tuple[ImageFolder, str]:
    """The folder as a source whose files are listed, and what of them cannot be read."""
    on_corrupt: Literal["stop", "skip"]
    unread = ""
    for on_corrupt in ("stop", "skip"):
        source = ImageFolder(
            DatasetParams(source="image_folder", path=str(folder), on_corrupt=on_corrupt)
        )
        try:
            source.train_counts()
            source.rows("test")
        except KaizenError as error:
            # What has to be left out is said, and it is the user's to convert it. Of other faults
            # the second try says the same.
            if on_corrupt == "skip":
                raise
            unread = str(error)
            continue
        return source, unread
    raise AssertionError("the second try ends the loop")


def _refuse_domains(source: ImageFolder) -> None:
    """Raise KaizenError where every class folder is divided into the same parts or classes: what
    looks like classes are domains then.
    """
    if source.held_out is None:
        return
    train = source.find_layout().train
    inside = [subfolders(source.root / train / name, source.layout) for name in source.classes]
    if len(inside[0]) > 1 and all(names == inside[0] for names in inside):
        raise KaizenError(
            f"{source.root}: its folders {names_text(source.classes)} all have the same folders, "
            f"{names_text(sorted(inside[0]))}. If those above are domains, such as photographs and "
            "sketches, use `kaizen init FOLDER` and set dataset.source: domain_folder "
            "(docs/data.md); if they are classes, put each class's images into one folder"
        )


def _usual_side(source: ImageFolder) -> int:
    """The median of the shorter sides of evenly spaced training images, in pixels."""
    rows = source.rows("train")
    some = rows[:: max(1, len(rows) // _SIDES)]
    headers = [read_header(source.root / row.path) for row in some]
    sides = sorted(min(header.height, header.width) for header in headers if header)
    return sides[len(sides) // 2] if sides else 0
