"""Removing the raw images of an arrival that is retired, and no other file: which they are is
written down before the first goes, so that whoever was killed goes on with just those.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kaizen.data.arrivals import Arrival
from kaizen.data.sources.arrival import Arrival as Source
from kaizen.data.sources.base import PARTS
from kaizen.data.sources.labels_file import LABELS_FILE
from kaizen.data.sources.present import holds_images
from kaizen.data.sources.walk import image_file
from kaizen.errors import KaizenError
from kaizen.files import read_json, sha256_text, write_json
from kaizen.jobs.raw_data import arrival_dataset, changed_images
from kaizen.params import DatasetParams
from kaizen.params.typed import from_dict


@dataclass(frozen=True)
class _Going:
    """The files of an ``arrival`` that go: relative path -> size and time of modification."""

    arrival: str
    files: dict[str, list[int]]


def raw_files(
    dataset: DatasetParams, arrival: Arrival, names: Sequence[str], root: Path
) -> list[Path]:
    """The images of an arrival that are there, and its list of labels; nothing else.

    ``names`` are the classes of the stream in label order. Of a retirement that was broken off,
    what it left of those it had begun with. Images that are not those that arrived, as where the
    folder was used again, are not among them.
    """
    of_arrival = arrival_dataset(dataset, arrival, root)
    folder = Path(of_arrival.path or "")
    if arrival.retired is not None and (left := _begun(root, arrival, folder)):
        return left
    if not holds_images(folder):
        return []
    with contextlib.suppress(KaizenError):
        # What is not retired yet was compared when it was planned.
        if arrival.retired is None or not changed_images(dataset, arrival, names, root):
            source = Source(of_arrival)
            files = [folder / row.path for part in PARTS for row in source.rows(part)]
            labels = folder / LABELS_FILE
            return [*files, *([labels] if labels.is_file() else [])]
    return []


def write_down(root: Path, arrival: Arrival, folder: Path, files: Sequence[Path]) -> None:
    """Note which files go, before the first does."""
    paths = [path.relative_to(folder).as_posix() for path in files]
    values = {path: _seen(folder, path) for path in paths}
    write_json(_list_of(root, arrival), {"arrival": arrival.name, "files": values})


def refuse_lasting(files: Sequence[Path]) -> None:
    """Raise KaizenError where files lie in a folder from which none can be removed."""
    for folder in sorted({path.parent for path in files}):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise _not_removable(folder, "it is read-only")


def _not_removable(folder: Path, why: str | None) -> KaizenError:
    return KaizenError(
        f"images in {folder} cannot be removed ({why}); make the folder writable for you, and give "
        "the same command again"
    )


def remove(root: Path, arrival: Arrival, folder: Path, files: Sequence[Path]) -> list[str]:
    """Remove the files, and the folders within ``folder``, itself included, that this leaves empty.

    Returns lines on what is left: others' files, and images that were links only.
    """
    links = [path for path in files if path.is_symlink()]
    lines = []
    if links:
        lines.append(
            f"{len(links)} of the images were links; the files that they led to are left (the "
            f"first: {os.path.realpath(links[0])})"
        )
    for path in files:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _not_removable(path.parent, error.strerror) from None
    within = {place for path in files for place in path.parents if place.is_relative_to(folder)}
    for place in sorted(within, key=lambda each: len(each.parts), reverse=True):
        with contextlib.suppress(OSError):
            place.rmdir()
    _list_of(root, arrival).unlink(missing_ok=True)
    left = sorted({path.parent for path in files if path.parent.exists()})
    return lines + [f"{place} is not empty and was left" for place in left]


def _begun(root: Path, arrival: Arrival, folder: Path) -> list[Path]:
    """What is left of the files that `write_down` noted, as they were then."""
    path = _list_of(root, arrival)
    if not path.exists():
        return []
    fix = f"remove that file, and by hand what is left of {folder}"
    try:
        values = read_json(path, fix=fix)
        files = from_dict(_Going, values if isinstance(values, dict) else {}).files
    except TypeError as error:
        raise KaizenError(f"{path}: {error}; {fix}") from None
    inside = [name for name in files if not {"", ".", ".."} & set(name.split("/"))]
    return [folder / name for name in inside if _seen(folder, name) == files[name]]


def _list_of(root: Path, arrival: Arrival) -> Path:
    """Where the files of a retirement that goes on are noted; a name may be no file's."""
    return root / ".kaizen" / "retiring" / f"{sha256_text(arrival.name)[:32]}.json"


def _seen(folder: Path, path: str) -> list[int]:
    """Size and time of modification of a file; none where it is gone."""
    with contextlib.suppress(KaizenError):
        file = image_file(folder, path)
        return [file.size, file.mtime_ns]
    return []
