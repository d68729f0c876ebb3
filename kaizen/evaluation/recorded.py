"""What evaluations record besides accuracies and confusion: which images, and how the files are
read. Older evaluations record less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from kaizen.errors import KaizenError
from kaizen.files import read_json
from kaizen.params.typed import from_dict

T = TypeVar("T")

_MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class ShownImages:
    """Of N test images the true ``label``, the ``task`` and the ``row`` in its shard: int64 [N]."""

    label: np.ndarray
    task: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, labels: Sequence[np.ndarray]) -> ShownImages:
        """All rows of the test shards of tasks 0, 1, …, whose labels are given."""
        empty = np.empty(0, dtype=np.int64)
        return cls(
            np.concatenate([empty, *labels]),
            np.repeat(np.arange(len(labels)), [len(part) for part in labels]),
            np.concatenate([empty, *(np.arange(len(part)) for part in labels)]),
        )

    def at(self, places: np.ndarray) -> ShownImages:
        """Those at ``places`` int64 [n]."""
        return ShownImages(self.label[places], self.task[places], self.row[places])


def read_typed(kind: type[T], path: Path, what: str) -> T:
    """A dataclass from a JSON file; raises KaizenError where it does not hold ``what``."""
    content = read_json(path, _MOST_BYTES)
    try:
        if isinstance(content, dict):
            return from_dict(kind, content)
    except TypeError:
        pass
    raise not_recorded_so(path, what)


def not_recorded_so(path: Path, what: str) -> KaizenError:
    """The error of a file that does not hold ``what`` an evaluation writes there."""
    return KaizenError(
        f"{path} does not hold {what} as an evaluation writes it; delete that evaluation's folder "
        "and run again"
    )
