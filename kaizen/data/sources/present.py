"""Whether the images of a folder are there at all."""

from __future__ import annotations

import os
from pathlib import Path

from kaizen.data.sources.walk import SUFFIXES, UNREAD


def holds_images(folder: Path) -> bool:
    """Whether a file lies in ``folder`` that is an image by its name, or a link that leads
    somewhere; not where the folder is not there, or cannot be listed.
    """
    images = SUFFIXES | UNREAD
    for place, folders, files in os.walk(folder):
        for name in files + folders:
            path = os.path.join(place, name)
            if os.path.islink(path):
                if os.path.exists(path):
                    return True
            elif name in files and os.path.splitext(name)[1].lower() in images:
                return True
    return False
