"""The facts about the raw data that a plan is made from."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kaizen.data.sources import open_source
from kaizen.data.sources.base import Source
from kaizen.data.tracking import tracked_by_dvc
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams
from kaizen.plan.nodes import DatasetFacts
from kaizen.store.places import main_checkout


def open_data(dataset: DatasetParams) -> Source:
    """As `open_source`; where data are absent that DVC tracks, the KaizenError says so.

    Raises KaizenError also where the locale is not UTF-8.
    """
    _check_locale()
    try:
        return open_source(dataset)
    except KaizenError as error:
        folder = Path(dataset.path).expanduser() if dataset.path else None
        tracked = tracked_by_dvc(folder) if folder and not folder.exists() else None
        if tracked is None:
            raise
        file = os.path.relpath(tracked.file)
        raise KaizenError(
            f"dataset.path: {folder} is not here, and the plan needs its checksums. {file} tracks "
            f"it: `dvc checkout {file}` takes it from DVC's cache, `dvc pull {file}` from the "
            "remote"
        ) from error


def dataset_facts(dataset: DatasetParams, root: Path, source: Source | None = None) -> DatasetFacts:
    """Names and checksums of the raw data, remembered under .kaizen by size and times.

    ``source`` is the dataset's, if it is open already. Raises KaizenError where the data are
    absent, badly laid out, or hold what cannot be meant.
    """
    source = source or open_data(dataset)
    cache = main_checkout(root) / ".kaizen" / "checksums"
    classes, domains = source.checksums(cache), source.domain_checksums(cache)
    return DatasetFacts(
        tuple(source.classes),
        tuple(classes["train"]),
        tuple(classes["test"]),
        tuple(source.domains),
        tuple(domains["train"]),
        tuple(domains["test"]),
        source.found(cache),
        _by_class(source),
    )


def _by_class(source: Source) -> tuple[int, ...]:
    """The number of training images of each class; none where it is not known unread."""
    counts = source.train_counts()
    by_class = [0] * (len(source.classes) if counts else 0)
    for (label, _), count in counts.items():
        if label >= 0:
            by_class[label] += count
    return tuple(by_class)


def _check_locale() -> None:
    """Raise KaizenError where names of files would be other names than elsewhere, with other
    keys.
    """
    encoding = sys.getfilesystemencoding()
    if encoding.lower() != "utf-8":
        raise KaizenError(
            f"the locale's encoding is {encoding}, in which names of classes would be other names; "
            "set PYTHONUTF8=1 in the environment, or LC_ALL=C.UTF-8, and run again"
        )
