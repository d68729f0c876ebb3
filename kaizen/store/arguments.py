"""JSON on a command line or in an environment variable: itself, or "@" and the path of a file that
holds it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import parse_json, read_json, write_text

# Linux takes 128 KiB per argument and variable, and quoting lengthens the text.
MAX_ARGUMENT = 64 * 1024


def as_argument(text: str, path: Path) -> str:
    """``text``, or "@" and ``path`` where it is too long; the file is written then.

    Raises KaizenError where it cannot be.
    """
    return text if len(text) < MAX_ARGUMENT else in_file(text, path)


def in_file(text: str, path: Path) -> str:
    """ "@" and ``path``, to which ``text`` is written; raises KaizenError where it cannot be."""
    # Not again where it is the same: a job may be reading it.
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return f"@{path}"


def read_argument(option: str, text: str) -> Any:
    """The value that `as_argument` wrote; raises KaizenError that names ``option`` or the file."""
    if text.startswith("@"):
        fix = f"give {option} the JSON itself, or @ and the path of a file that holds it"
        return read_json(Path(text[1:]), fix=fix)
    try:
        return parse_json(text)
    except ValueError as error:
        raise KaizenError(
            f"{option} is not JSON ({error}); take it from `kaizen plan --json`"
        ) from error
