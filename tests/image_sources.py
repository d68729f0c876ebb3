"""Sources of image files, opened as a test needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kaizen.data.sources import open_source
from kaizen.data.sources.base import Part, Source
from kaizen.params import DatasetParams


def opened(source: str, path: Path, **options: Any) -> Source:
    return open_source(DatasetParams(source=source, path=str(path), **options))


def paths(source: Source, part: Part) -> list[tuple[int, str]]:
    return [(row.label, row.path) for row in source.rows(part)]
