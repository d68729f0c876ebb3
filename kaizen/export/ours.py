"""What exports are written over: nothing but exports. A file, or a folder with a list of its files,
appears whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import (
    atomic_path,
    explain_write_errors,
    read_json,
    temporary_beside,
    write_json,
)
from kaizen.inference.exported import METADATA, MOST_BYTES
from kaizen.inference.wire import read_metadata

# In an exported folder: what it is, and its files. In a program of torch, a file of its archive.
LIST = "kaizen-export.json"


def check_place(path: Path, folder: bool, force: bool) -> None:
    """Raise KaizenError where nothing may be written to ``path``: something is there that is no
    export, or ``force`` is not given, or there is no folder for it.
    """
    if not path.absolute().parent.is_dir():
        raise KaizenError(f"--out: {path.parent} is not a folder; make it, or name another")
    if not os.path.lexists(path):
        return
    if not force:
        raise KaizenError(f"--out: {path} exists; remove it, name another, or give --force")
    # A pipe or a device would be waited for, or read without end.
    if path.is_symlink() or not (path.is_dir() if folder else path.is_file()):
        raise KaizenError(f"--out: {path} is {_kind(path)}, no such export; name another")
    if problem := _not_ours(path):
        raise KaizenError(f"--out: {path} {problem}, so --force does not replace it; name another")


def _kind(path: Path) -> str:
    if path.is_symlink():
        return "a link"
    return "a folder" if path.is_dir() else "a file" if path.is_file() else "a pipe or a device"


def _not_ours(path: Path) -> str:
    """Why what is there was not written by an export; empty where it was."""
    if path.is_dir():
        try:
            listed = read_json(path / LIST, most=1 << 20)["files"]
            known = {str(name) for name in listed} | {LIST}
        except (KaizenError, TypeError, KeyError):
            return f"has no {LIST} of an export"
        there = {one.relative_to(path).as_posix() for one in path.rglob("*") if not one.is_dir()}
        others = sorted(there - known)
        return f"holds {others[0]}, which no export wrote" if others else ""
    data = path.read_bytes() if path.stat().st_size <= MOST_BYTES else b""
    if data.startswith(b"PK\x03\x04") and LIST.encode() in data:
        return ""
    try:
        ours = METADATA in read_metadata(data)
    except (ValueError, UnicodeError):
        ours = False
    return "" if ours else "was not written by `kaizen export`"


def write_file(path: Path, data: bytes) -> None:
    """Write an export's file."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_folder(path: Path, files: Mapping[str, bytes], about: Mapping[str, Any]) -> None:
    """Write a folder of files (path within it -> bytes) with its list, in the place of an earlier
    export that `check_place` allowed.
    """
    new, old = temporary_beside(path), temporary_beside(path)
    with explain_write_errors(path):
        try:
            for name, data in files.items():
                target = new / name
                target.parent.mkdir(parents=True, exist_ok=True)
                write_file(target, data)
            write_json(new / LIST, {**about, "files": sorted(files)})
            if path.exists():
                os.rename(path, old)
            os.rename(new, path)
        finally:
            if not path.exists() and old.exists():
                os.rename(old, path)
            for folder in (new, old):
                shutil.rmtree(folder, ignore_errors=True)
