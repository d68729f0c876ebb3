"""Which class was taken for which: counts of (true label, predicted label), and their file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from kaizen.files import atomic_path

# Of one step: (true label, predicted label) -> number of test images, without the pairs that never
# occur.
Counts = Mapping[tuple[int, int], int]

_COLUMNS = ("step", "label", "predicted", "count")


def count_pairs(labels: Sequence[int], predicted: Sequence[int]) -> Counts:
    """Count the pairs of true and predicted label; both of the same length."""
    return Counter(zip(labels, predicted, strict=True))


def write_confusion(steps: Sequence[Counts], path: Path) -> None:
    """Write ``steps[step]`` as a Parquet file of int32 columns step, label, predicted, count, in
    that order of rows.
    """
    import pyarrow
    import pyarrow.parquet

    rows = [
        (step, *pair, count)
        for step, counts in enumerate(steps)
        for pair, count in sorted(counts.items())
    ]
    columns = [
        pyarrow.array([row[place] for row in rows], pyarrow.int32())
        for place in range(len(_COLUMNS))
    ]
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(
            pyarrow.Table.from_arrays(columns, names=list(_COLUMNS)), temporary
        )


def read_confusion(path: Path) -> tuple[Counts, ...]:
    """The counts per step, as `write_confusion` got them."""
    import pyarrow.parquet

    steps: dict[int, dict[tuple[int, int], int]] = {}
    for row in pyarrow.parquet.read_table(path, columns=list(_COLUMNS)).to_pylist():
        steps.setdefault(row["step"], {})[row["label"], row["predicted"]] = row["count"]
    return tuple(steps[step] for step in sorted(steps))
