"""Where the store of a checkout is."""

from __future__ import annotations

import os
from pathlib import Path


def default_store(folder: Path) -> Path:
    """KAIZEN_STORE, else .kaizen/store in the main checkout.

    A temporary DVC workspace (.dvc/tmp/exps/…) and a git worktree find the main checkout's. A
    relative KAIZEN_STORE is relative to the current folder, or to the main checkout of such a one.
    """
    if chosen := os.environ.get("KAIZEN_STORE"):
        return Path(os.path.normpath(main_checkout(Path.cwd()) / Path(chosen).expanduser()))
    return main_checkout(folder) / ".kaizen" / "store"


def main_checkout(folder: Path) -> Path:
    """The checkout that a temporary DVC workspace or a git worktree was made from; else ``folder``
    itself.
    """
    folder = folder.absolute()
    parts = folder.parts
    for start in range(len(parts) - 2):
        if parts[start : start + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:start])
    pointer = folder / ".git"
    if pointer.is_file():
        target = Path(pointer.read_text(encoding="utf-8").partition("gitdir:")[2].strip())
        git = (folder / target).resolve()
        # A submodule's pointer leads to .git/modules/…: it is a checkout of its own.
        if git.parent.name == "worktrees":
            return git.parent.parent.parent
    return folder
