"""labels.csv: which of the images beside it has which class."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from kaizen.errors import KaizenError
from kaizen.files import MOST_BYTES, printable, read_text

LABELS_FILE = "labels.csv"
_HEADER = ["path", "label"]
# Of a name, in UTF-8: as of a folder's.
_LONGEST = 255


def read_labels(path: Path, most: int = MOST_BYTES) -> dict[str, str]:
    """Path of an image -> name of its class, "" where the label is blank; in the file's order.

    The file is CSV in UTF-8, with or without a byte order mark, of at most ``most`` bytes. Its
    header is `path,label`; paths are relative to its folder, with `/`. Raises KaizenError that
    names the line where it is anything else, or lists an image twice.
    """
    try:
        text = read_text(path, most).removeprefix("\ufeff")
    except KaizenError as error:
        raise KaizenError(
            f"{path} cannot be read ({error.__cause__}); make it a CSV file in UTF-8 with the "
            f"header `{','.join(_HEADER)}`"
        ) from error
    labels: dict[str, str] = {}
    lines = _lines(path, text)
    where, header = next(lines, (f"{path}, line 1", []))
    if [name.strip() for name in header] != _HEADER:
        raise KaizenError(
            f"{where}: the header is {_shown(','.join(header))}, but must be "
            f"`{','.join(_HEADER)}`: two columns, divided by a comma; write it so"
        )
    for where, fields in lines:
        if len(fields) != len(_HEADER):
            raise KaizenError(
                f"{where}: {_shown(','.join(fields))} has {len(fields)} "
                f"column{'' if len(fields) == 1 else 's'}, not a path and a label; fix it (a name "
                "with a comma goes between double quotes)"
            )
        image, label = _path(where, fields[0]), _label(where, fields[1])
        if image in labels:
            raise KaizenError(f"{where}: {_shown(image)} is listed twice; list each image once")
        labels[image] = label
    return labels


def _lines(path: Path, text: str) -> Iterator[tuple[str, list[str]]]:
    """Each line that is not blank: where it is, and its fields."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for fields in reader:
            if fields:
                yield f"{path}, line {reader.line_num}", fields
    except csv.Error as error:
        raise KaizenError(
            f"{path}, line {reader.line_num}: it is no CSV ({error}); fix the line"
        ) from error


def _path(where: str, text: str) -> str:
    """An image's path without `.` and doubled `/`."""
    _refuse_control(where, text)
    path = PurePosixPath(text)
    if not text.strip() or path.is_absolute() or ".." in path.parts or not path.parts:
        raise KaizenError(
            f"{where}: {_shown(text)} is not a path inside the folder of {LABELS_FILE}; write it "
            "relative to that folder, without `..`"
        )
    return str(path)


def _label(where: str, text: str) -> str:
    _refuse_control(where, text)
    name = text.strip()
    if len(name.encode()) > _LONGEST:
        raise KaizenError(
            f"{where}: the label {_shown(name)} has more than {_LONGEST} bytes; shorten it"
        )
    return name


def _refuse_control(where: str, text: str) -> None:
    if any(unicodedata.category(char) == "Cc" for char in text):
        raise KaizenError(
            f"{where}: {_shown(text)} holds a control character (a tab, a line break …); remove it"
        )


def _shown(text: str) -> str:
    return repr(printable(text[:80]))
