"""Data sources by name; one line each, imported when opened. See `kaizen.data.sources.base.Source`."""

from __future__ import annotations

import importlib
from typing import Literal, NamedTuple

from kaizen.data.sources.base import Source
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams

# The parameters of `dataset` that have an effect for some sources only.
SOURCE_PARAMETERS = ("test_fraction", "seed", "classes", "unlabelled", "synthetic")


class Entry(NamedTuple):
    """Where a source lives, whether it has a `dataset.path`, and which of `SOURCE_PARAMETERS` it reads."""

    target: str
    path: Literal["none", "optional", "needed"]
    reads: tuple[str, ...] = ()


SOURCES = {
    "cifar10": Entry("kaizen.data.sources.cifar:Cifar", "optional"),
    "cifar100": Entry("kaizen.data.sources.cifar:Cifar", "optional"),
    "digits": Entry("kaizen.data.sources.digits:Digits", "none", ("test_fraction", "seed")),
    "domain_folder": Entry("kaizen.data.sources.domain_folder:DomainFolder", "needed", ("classes",)),
    "image_folder": Entry("kaizen.data.sources.image_folder:ImageFolder", "needed", ("classes",)),
    "imagenet": Entry("kaizen.data.sources.imagenet:ImageNet", "needed", ("classes",)),
    "stl10": Entry("kaizen.data.sources.stl10:STL10", "optional", ("unlabelled",)),
    "synthetic": Entry("kaizen.data.sources.synthetic:Synthetic", "none", ("seed", "synthetic")),
    "tiny_imagenet": Entry("kaizen.data.sources.tiny_imagenet:TinyImageNet", "needed", ("classes",)),
}


def open_source(dataset: DatasetParams) -> Source:
    """Open the source that ``dataset`` names.

    Raises KaizenError where it is unknown, absent or badly laid out; images are not read yet.
    """
    if dataset.source not in SOURCES:
        raise KaizenError(f"dataset.source: {dataset.source!r} is unknown; choose one of {', '.join(sorted(SOURCES))}")
    module, _, name = SOURCES[dataset.source].target.partition(":")
    source: Source = getattr(importlib.import_module(module), name)(dataset)
    return source
