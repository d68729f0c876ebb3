"""Whether published files still hold what was published, at the cost of a `stat` each.

A file's size alone does not show that it was altered, nor does its time (`cp -p`), nor that it
shares its inode with the store's (both are altered then). So each is hashed once, and after that
known by its inode, size and times; the kernel sets the time of the last change of an inode, which
no program can choose.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import read_json, write_json
from kaizen.store.manifest import PublishedEntry

_SEEN = Path(".kaizen/published-files.json")


def all_unchanged(root: Path, entries: Mapping[str, PublishedEntry]) -> bool:
    """Whether every file under ``root`` has the content of its entry.

    What was hashed is remembered in ``root``. Raises OSError where a file is missing.
    """
    before = _read(root / _SEEN)
    now: dict[str, list[int | str]] = {}
    for path, entry in entries.items():
        found = os.stat(root / path)
        if found.st_size != entry.content.size:
            return False
        facts = [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
        now[path] = [*facts, entry.content.sha256]
        if before.get(path) != now[path] and entry.content.mismatch(root / path):
            return False
    if now != before:
        # Only a help for the next time.
        with contextlib.suppress(KaizenError):
            write_json(root / _SEEN, now)
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except KaizenError:
        return {}
    return found if isinstance(found, dict) else {}
