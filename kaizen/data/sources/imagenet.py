"""ImageNet's folders, train/<WordNet id>/* and val/<WordNet id>/*, or any subset of its classes
(ImageNet-100).
"""

from __future__ import annotations

from kaizen.data.sources.image_folder import ImageFolder
from kaizen.data.sources.layout import Layout
from kaizen.data.sources.walk import Walk, scan, subfolders
from kaizen.errors import KaizenError


class ImageNet(ImageFolder):
    """An ImageNet folder; an unlabelled `test` folder next to the others is skipped."""

    name = "imagenet"
    layout = "train/<WordNet id>/* and val/<WordNet id>/*"

    def find_layout(self) -> Layout:
        """`train` and `val`; raises KaizenError where one is missing or val's images are not sorted
        into classes.
        """
        names = {entry.name for entry in scan(self.root, self.layout, "dataset.path: ")}
        for folder in ("train", "val"):
            if folder not in names:
                raise KaizenError(
                    f"dataset.path: {self.root} has no folder `{folder}`; expected {self.layout}"
                )
        if not subfolders(self.root / "val", self.layout):
            raise KaizenError(
                f"dataset.path: {self.root / 'val'} has no class folders; sort the validation "
                "images into val/<WordNet id>/ first, by ILSVRC2012_validation_ground_truth.txt "
                "of the development kit"
            )
        return Layout("train", "val")

    def note_beside(self, walk: Walk) -> None:
        """The test images, which lie there as published, are not worth a word."""
