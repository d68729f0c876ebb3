"""Checksums remembered between plans, so that unchanged files are not read again."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import canonical_json, read_json, sha256_text, write_json


class ChecksumMemory:
    """Remembers, for one dataset, the checksum of each group of files with the files' sizes and
    times.

    A damaged memory is as good as none, and one that cannot be written does no harm: it only saves
    time.
    """

    def __init__(self, cache: Path | None, root: Path) -> None:
        """Read what is remembered of the dataset at ``root`` in the folder ``cache``; None
        remembers nothing.
        """
        self.root = root
        self.file = (
            cache / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.json" if cache else None
        )
        self._known = self._read()
        self._before = dict(self._known)

    def checksum(self, group: str, files: Any, compute: Callable[[], str]) -> str:
        """The checksum of a group: as remembered if ``files`` (JSON: paths, sizes, times) are as
        they were.
        """
        signature = sha256_text(canonical_json(files))
        if self._known.get(group, ["", ""])[0] != signature:
            self._known[group] = [signature, compute()]
        return self._known[group][1]

    def save(self) -> None:
        """Write the memory if something is new; groups not asked for are kept, as other parameters
        may use them.
        """
        if self.file and self._known != self._before:
            with contextlib.suppress(KaizenError):
                write_json(self.file, {"root": str(self.root), "groups": self._known})

    def _read(self) -> dict[str, list[str]]:
        try:
            groups = read_json(self.file)["groups"] if self.file else {}
            return {
                str(key): [str(signature), str(checksum)]
                for key, (signature, checksum) in groups.items()
            }
        except (KaizenError, KeyError, TypeError, ValueError, AttributeError):
            return {}
