"""Raw data that DVC tracks: which .dvc file names it, and the hash that DVC knows it by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Tracked:
    """The .dvc file that tracks some data, and DVC's hash of it: an MD5, of a folder's listing with
    ".dir" behind.
    """

    file: Path
    md5: str


def tracked_by_dvc(path: Path) -> Tracked | None:
    """Who tracks the file or folder ``path`` (present or not), itself or as a part of a folder;
    None: nobody.

    For provenance and messages: the hash is what the .dvc file says, which the data may differ
    from. Keys take the data's own checksums (`kaizen.data.sources.base.Source.checksums`), so that
    tracking data changes none.
    """
    path = path.absolute()
    for place in (path, *path.parents):
        for file in sorted(place.parent.glob("*.dvc")):
            if file.is_file():
                for out in _outputs(file):
                    if out.get("path") == place.name and isinstance(out.get("md5"), str):
                        return Tracked(file, out["md5"])
        if (place / ".dvc").is_dir() or (place / ".git").exists():
            return None
    return None


def _outputs(file: Path) -> list[dict[str, Any]]:
    """The outputs that a .dvc file names; none where it is not one."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return []
    outs = content.get("outs") if isinstance(content, dict) else None
    return [out for out in outs if isinstance(out, dict)] if isinstance(outs, list) else []
