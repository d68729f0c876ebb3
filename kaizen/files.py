"""Canonical JSON, hashes, and writes that either happen whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError

_HASH_CHUNK = 1 << 20

_WRITE_HINTS = {
    errno.ENOSPC: "free some space there, or set KAIZEN_STORE to a folder on a larger disk",
    errno.EDQUOT: "your quota is used up: run `kaizen gc`, or set KAIZEN_STORE to another disk",
    errno.EROFS: "the file system is read-only: make it writable, or (for the store) set "
    "KAIZEN_STORE to another",
    errno.EACCES: "make the folder writable for you, or set KAIZEN_STORE to one that is",
    errno.EPERM: "make the folder writable for you, or set KAIZEN_STORE to one that is",
    errno.ENOTDIR: "a file stands where a folder is needed: move it away",
    errno.EEXIST: "a file stands where a folder is needed: move it away",
    errno.EISDIR: "a folder stands where a file is needed: move it away",
}


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, no NaN. What keys and rule parameters are made
    of.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True
    )


def yaml_float(value: float) -> str:
    """A number as every reader of YAML takes it for one: those of YAML 1.1 take 1e-05 for a text,
    1.0e-05 not.
    """
    text = repr(value)
    return text if "." in text or "e" not in text else text.replace("e", ".0e")


def sha256_text(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of a write into a KaizenError that names ``path`` and the fix."""
    try:
        yield
    except OSError as error:
        hint = _WRITE_HINTS.get(error.errno or 0, "see that the folder exists and can be written")
        # Arrow's errors have a number but no text of their own for it.
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise KaizenError(f"cannot write {path}: {reason}; {hint}") from error


def fsync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(path: Path, host: str) -> None:
    """Remove what killed processes of this host left when they wrote ``path``."""
    start = f".{path.name}.{host}."
    for name in os.listdir(path.parent):
        process = name.removeprefix(start).split(".")[0]
        if (
            name.startswith(start)
            and name.endswith(".tmp")
            and process.isdigit()
            and not is_alive(int(process))
        ):
            path.with_name(name).unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Whether this host runs a process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def temporary_beside(path: Path) -> Path:
    """A new name beside ``path`` for a file that is to be renamed to it; it names host and
    process.
    """
    name = f".{path.name}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    return path.with_name(name)


def is_temporary(name: str, final: str) -> bool:
    """Whether ``name`` is one that `temporary_beside` makes for a file named ``final``."""
    return re.fullmatch(rf"\.{re.escape(final)}\.[^/]+\.\d+\.[0-9a-f]{{8}}\.tmp", name) is not None


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success fsync it and rename it into place.

    On any failure the temporary file is removed and ``path`` is as it was.
    Raises KaizenError where the disk is full or the folder cannot be written.
    """
    temporary = temporary_beside(path)
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path, socket.gethostname())
        try:
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            fsync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as readable JSON (sorted keys, two spaces) to ``path`` atomically."""
    write_text(path, json.dumps(value, sort_keys=True, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; raises KaizenError that names it when it is absent or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise KaizenError(
            f"{path} does not exist; run `kaizen plan` to see what is missing"
        ) from error
    except (OSError, ValueError) as error:
        raise KaizenError(
            f"{path} is not readable JSON ({error}); delete it and run again"
        ) from error
