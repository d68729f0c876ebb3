"""Data sources by name; one line each, imported when opened. See `kaizen.data.sources.base.Source`."""

from __future__ import annotations

import importlib

from kaizen.data.sources.base import Source
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams

SOURCES = {
    "digits": "kaizen.data.sources.digits:Digits",
    "image_folder": "kaizen.data.sources.image_folder:ImageFolder",
}


def open_source(dataset: DatasetParams) -> Source:
    """Open the source that ``dataset`` names.

    Raises KaizenError where it is unknown, absent or badly laid out; images are not read yet.
    """
    if dataset.source not in SOURCES:
        raise KaizenError(f"dataset.source: {dataset.source!r} is unknown; choose one of {', '.join(sorted(SOURCES))}")
    module, _, name = SOURCES[dataset.source].partition(":")
    source: Source = getattr(importlib.import_module(module), name)(dataset)
    return source
