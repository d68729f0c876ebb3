"""The commit of a checkout, read from .git without git; which of its files differ from it, where
git is at hand.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SECONDS = 30
_OTHER_CHECKOUT = {
    f"GIT_{what}"
    for what in ("DIR", "WORK_TREE", "INDEX_FILE", "COMMON_DIR", "OBJECT_DIRECTORY", "PREFIX")
}


def top_of(folder: Path) -> Path | None:
    """The checkout that ``folder`` lies in: the nearest folder upwards with a .git; None where
    there is none.
    """
    folder = folder.absolute()
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), None)


def head_commit(top: Path) -> str | None:
    """The commit that is checked out in ``top``; None before the first commit and where .git cannot
    be read.

    Reads HEAD, the reference that it names and packed-refs, of a worktree also those that it shares
    with the main checkout. What these do not tell (another format of references) is asked of git.
    """
    try:
        folder = top / ".git"
        if folder.is_file():
            folder = (
                top / folder.read_text(encoding="utf-8").partition("gitdir:")[2].strip()
            ).resolve()
        shared = folder
        if (folder / "commondir").is_file():
            shared = (folder / (folder / "commondir").read_text(encoding="utf-8").strip()).resolve()
        found = (folder / "HEAD").read_text(encoding="utf-8").strip()
        for _ in range(5):
            if not found.startswith("ref:"):
                break
            found = _reference((folder, shared), found.removeprefix("ref:").strip())
    except (OSError, UnicodeDecodeError):
        return None
    if _HASH.fullmatch(found):
        return found
    asked = git(top, "rev-parse", "--verify", "--quiet", "HEAD")
    return asked.strip() if asked and _HASH.fullmatch(asked.strip()) else None


def _reference(folders: Sequence[Path], name: str) -> str:
    """What a reference holds: a hash, another reference, or nothing."""
    for folder in folders:
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8").strip()
    packed = folders[-1] / "packed-refs"
    lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
    return next(
        (line.split()[0] for line in lines if line.endswith(f" {name}") and line[0] not in "#^"), ""
    )


def changed_files(top: Path, paths: Sequence[str]) -> list[str] | None:
    """Files under ``paths`` (relative to ``top``) that differ from its commit or are not in it,
    ignored ones left out.

    None where it cannot be known: git is not at hand, or refuses to look.
    """
    # Untracked files one by one: a new module must be seen by its own name.
    status = git(
        top,
        "status",
        "--porcelain=v1",
        "-z",
        "--no-renames",
        "--untracked-files=all",
        "--ignore-submodules",
        "--",
        *paths,
    )
    return None if status is None else sorted({entry[3:] for entry in status.split("\0") if entry})


def is_in_commit(top: Path, commit: str, path: str) -> bool:
    """Whether a commit has the file (relative to ``top``); False where git cannot tell."""
    return git(top, "cat-file", "-e", f"{commit}:{path}") is not None


def git(top: Path, *arguments: str) -> str | None:
    """What git prints, run in ``top``; None where it fails or is not installed."""
    # A hook's GIT_DIR or GIT_INDEX_FILE is of another checkout; and nobody's index is locked or
    # refreshed.
    environment = {name: value for name, value in os.environ.items() if name not in _OTHER_CHECKOUT}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", str(top), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "surrogateescape") if done.returncode == 0 else None
