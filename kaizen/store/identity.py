"""What a store or a checkout is known by, wherever it is moved or mounted: a random id in it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from kaizen.errors import KaizenError
from kaizen.files import explain_write_errors, read_text, temporary_beside

_ID = re.compile(r"[0-9a-f]{32}")


def read_id(path: Path) -> str:
    """The id in a file; empty where there is none."""
    with contextlib.suppress(KaizenError):
        text = read_text(path, 100).strip()
        if _ID.fullmatch(text):
            return text
    return ""


def make_id(path: Path) -> str:
    """The id in a file, which is written if it is missing; once, also by several processes.

    Raises KaizenError where it cannot be written, or the file holds something else.
    """
    if found := read_id(path):
        return found
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        try:
            temporary.write_text(f"{secrets.token_hex(16)}\n", encoding="utf-8")
            temporary.chmod(0o444)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    found = read_id(path)
    if not found:
        raise KaizenError(f"{path} holds no id: it was altered; delete it and run again")
    return found


def same_folder(one: Path, two: Path) -> bool:
    """Whether two folders are one, by whatever mounts; True where that cannot be found out."""
    try:
        if os.path.samefile(one, two):
            return True
        probe = one / f".probe-{secrets.token_hex(8)}"
        probe.touch()
        try:
            return (two / probe.name).exists()
        finally:
            probe.unlink(missing_ok=True)
    except OSError:
        return True
