"""Read-only files under a second path: by hard link where that is safe, else as a copy."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from kaizen.files import temporary_beside


def link_or_copy(source: Path, target: Path) -> None:
    """Put a read-only file at ``target``, atomically: a hard link where ``source`` is read-only,
    else a copy.

    A writable source (a file that DVC checked out as a copy) must not share its inode with the
    store: an edit of it would write into a finished node.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(target)
    source = source.resolve()
    try:
        try:
            if stat.S_IMODE(source.stat().st_mode) & 0o222:
                raise PermissionError
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
            temporary.chmod(0o444)
        os.replace(temporary, target)
    finally:
        # rename() of two links to one inode does nothing and leaves the temporary name behind.
        temporary.unlink(missing_ok=True)
