"""Data sources, a file each; `kaizen.params.registry.SOURCES` names them. See
`kaizen.data.sources.base.Source`.
"""

from __future__ import annotations

from kaizen.data.sources.base import Source
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams, registry


def open_source(dataset: DatasetParams) -> Source:
    """Open the source that ``dataset`` names.

    Raises KaizenError where it is unknown, absent or badly laid out; images are not read yet.
    """
    if dataset.source not in registry.SOURCES:
        known = ", ".join(registry.SOURCES)
        raise KaizenError(f"dataset.source: {dataset.source!r} is unknown; choose one of {known}")
    source: Source = registry.load(registry.SOURCES[dataset.source].target)(dataset)
    return source
