"""Canonical JSON, hashes, and writes that either happen whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import socket
import stat
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError

_HASH_CHUNK = 1 << 20
# What to do about a file of ours that cannot be read; one of the user's own is never to be deleted.
_MAKE_AGAIN = "delete it and run again"
_FIND_MISSING = "run `kaizen plan` to see what is missing"
# What a file of JSON may have; those of the largest plans have a tenth of either.
MOST_BYTES = 1 << 28
MOST_DEPTH = 100

_WRITE_HINTS = {
    errno.ENOSPC: "free some space there, or set KAIZEN_STORE to a folder on a larger disk",
    errno.EDQUOT: "your quota is used up: run `kaizen gc`, or set KAIZEN_STORE to another disk",
    errno.EROFS: "the file system is read-only: make it writable, or (for the store) set "
    "KAIZEN_STORE to another",
    errno.EACCES: "make the folder writable for you, or set KAIZEN_STORE to one that is",
    errno.EPERM: "make the folder writable for you, or set KAIZEN_STORE to one that is",
    errno.ENOTDIR: "there is a file where a folder is needed: move it away",
    errno.EEXIST: "there is a file where a folder is needed: move it away",
    errno.EISDIR: "there is a folder where a file is needed: move it away",
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
    """A new name next to ``path`` for a file that is to be renamed to it; it names host and
    process.
    """
    name = f".{path.name}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    return path.with_name(name)


def is_temporary(name: str, final: str) -> bool:
    """Whether ``name`` is one that `temporary_beside` makes for a file named ``final``."""
    return re.fullmatch(rf"\.{re.escape(final)}\.[^/]+\.\d+\.[0-9a-f]{{8}}\.tmp", name) is not None


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; on success fsync it and rename it into place.

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


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a regular file of at most ``most`` bytes, in UTF-8.

    Raises KaizenError that names it where it is absent, something else, longer, or no text.
    """
    with _explain_read_errors(path, "readable"):
        return _read_text(path, most)


def _read_text(path: Path, most: int) -> str:
    # A pipe without a writer would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_size > most:
            raise ValueError(f"longer than {most} bytes")
        # Not `most`: Python takes that much memory before it reads.
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size).decode("utf-8")
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explain_read_errors(path: Path, what: str, fix: str | None = None) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise KaizenError(f"{path} does not exist; {fix or _FIND_MISSING}") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise KaizenError(f"{path} is not {what} ({reason}); {fix or _MAKE_AGAIN}") from error


def parse_json(text: str) -> Any:
    """A JSON text as this code writes it; raises ValueError where it is not that.

    Refused are numbers that are none (NaN, Infinity, 1e999), a name given twice in one mapping,
    lone surrogates, and a value more than `MOST_DEPTH` deep.
    """
    try:
        value = json.loads(
            text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_names_once
        )
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    _check_value(value)
    return value


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _names_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:40]!r} is given twice")
    return found


def _check_value(value: Any) -> None:
    """Refuse what is nested too deep, and texts that cannot be written as UTF-8."""
    level = [value]
    for _ in range(MOST_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, str):
                item.encode()
            elif isinstance(item, dict):
                inner.extend(item)
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not inner:
            return
        level = inner
    raise ValueError("it is nested too deep")


def printable(text: str) -> str:
    """A text without what a terminal would obey: control characters, and those that turn the
    direction of writing, become "\N{REPLACEMENT CHARACTER}".
    """
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl") else c
        for c in text
    )


def tell(message: object) -> None:
    """Print an error or another message to stderr, without what a terminal would obey."""
    lines = (printable(line) for line in str(message).split("\n"))
    print("kaizen: " + "\n".join(lines), file=sys.stderr)


def shortened(text: str, most: int = 200) -> str:
    """A text for a message, which what somebody wrote may be too long for; a cut shows as "…"."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def counted(number: int, what: str) -> str:
    """ "1 node", "2 nodes"; for words whose plural has an s."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def read_json(path: Path, most: int = MOST_BYTES, fix: str | None = None) -> Any:
    """Read a JSON file of at most ``most`` bytes; raises KaizenError that names it when it is
    absent or not JSON, see `parse_json`.

    ``fix`` is what to do then, of a file that the user named; by default what fits one of ours.
    """
    with _explain_read_errors(path, "readable JSON", fix):
        return parse_json(_read_text(path, most))
