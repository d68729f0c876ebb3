"""The published files in DVC's local cache, found through dvc.lock."""

from __future__ import annotations

import re
from pathlib import Path

from kaizen.errors import KaizenError
from kaizen.files import read_json
from kaizen.store.places import main_checkout

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


def dvc_outputs(root: Path) -> dict[str, Path]:
    """Published path -> object in DVC's local cache, for all outputs of dvc.lock that are in the
    cache.
    """
    import yaml

    cache = _dvc_cache(main_checkout(root))
    objects: dict[str, Path] = {}
    try:
        lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
        for output in [out for stage in lock["stages"].values() for out in stage.get("outs", [])]:
            md5, path = str(output.get("md5", "")), str(output.get("path", ""))
            if not _MD5.fullmatch(md5):
                continue
            place = cache / md5[:2] / md5[2:]
            if not md5.endswith(".dir"):
                objects[path] = place
            elif place.is_file():
                for member in read_json(place):
                    md5 = member["md5"]
                    if _MD5.fullmatch(md5):
                        objects[f"{path}/{member['relpath']}"] = cache / md5[:2] / md5[2:]
    except (OSError, KaizenError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {path: place for path, place in objects.items() if place.is_file()}


def _dvc_cache(root: Path) -> Path:
    """DVC's local cache of files: cache.dir of .dvc/config(.local), else .dvc/cache."""
    import configparser

    folder = root / ".dvc" / "cache"
    for name in ("config", "config.local"):
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        try:
            parser.read(root / ".dvc" / name, encoding="utf-8")
        except configparser.Error:
            continue
        if parser.has_option("cache", "dir"):
            folder = (root / ".dvc" / parser.get("cache", "dir")).resolve()
    return folder / "files" / "md5"
