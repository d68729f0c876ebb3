"""The commit of a checkout, read from .git without git; which of its files differ from it, where
git is installed.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SECONDS = 30
# What counts though it is ignored: Python and Snakemake read it all the same.
_SOURCES = (".py", ".smk", "Snakefile", "params.yaml")
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

    Reads HEAD, the ref that it names and packed-refs, of a worktree also those that it shares
    with the main checkout. Git itself is asked for what they do not say (another format of refs).
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
            found = _ref((folder, shared), found.removeprefix("ref:").strip())
    except (OSError, UnicodeDecodeError):
        return None
    if _HASH.fullmatch(found):
        return found
    asked = git(top, "rev-parse", "--verify", "--quiet", "HEAD")
    return asked.strip() if asked and _HASH.fullmatch(asked.strip()) else None


def _ref(folders: Sequence[Path], name: str) -> str:
    """What a ref holds: a hash, another ref, or nothing."""
    for folder in folders:
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8").strip()
    packed = folders[-1] / "packed-refs"
    lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
    return next(
        (line.split()[0] for line in lines if line.endswith(f" {name}") and line[0] not in "#^"), ""
    )


def changed_files(top: Path, paths: Sequence[str], commit: str = "HEAD") -> list[str] | None:
    """Files under ``paths`` (relative to ``top``) that differ from a commit or are not in it; of
    ignored ones, sources alone.

    None where it cannot be known: git is not installed, or refuses to look.
    """
    # Untracked files one by one: a new module must be seen by its own name.
    status = git(
        top,
        "status",
        "--porcelain=v1",
        "-z",
        "--no-renames",
        "--untracked-files=all",
        "--ignored=traditional",
        "--ignore-submodules",
        "--",
        *paths,
    )
    differing = _differing(top, paths, commit)
    if status is None or differing is None:
        return None
    for entry in filter(None, status.split("\0")):
        state, name = entry[:2], entry[3:]
        unknown = state == "??" or (state == "!!" and name.endswith(_SOURCES))
        # What differs from HEAD may be as another commit has it.
        if unknown or (state != "!!" and commit == "HEAD"):
            # Git reports a repository within this one as a folder.
            differing |= _sources_below(top, name) if name.endswith("/") else {name}
    return sorted(differing)


def _sources_below(top: Path, name: str) -> set[str]:
    """A file, or the sources in a folder, of which the commit of ``top`` does not have the
    content.
    """
    place = top / name
    if not place.is_dir():
        return {name}
    found = (Path(folder) / file for folder, _, files in os.walk(place) for file in files)
    return {path.relative_to(top).as_posix() for path in found if path.name.endswith(_SOURCES)}


def _differing(top: Path, paths: Sequence[str], commit: str) -> set[str] | None:
    """The files of a commit whose content is another in ``top``, or that are gone.

    By their content, as `git status` looks at no file that is marked assume-unchanged or
    skip-worktree, nor at one of which size and time are as it knows them. A file of skip-worktree
    that is not there (a sparse checkout) is as it should be.
    """
    listed = git(top, "ls-tree", "-r", "-z", "--full-tree", commit, "--", *paths)
    flags = git(top, "ls-files", "-v", "-z", "--full-name", "--", *paths)
    if listed is None or flags is None:
        return None
    known = {entry[2:]: entry[0] for entry in flags.split("\0") if entry}
    sparse = {name for name, flag in known.items() if flag in "Ss"}
    committed: dict[str, str] = {}
    outside: set[str] = set()
    others: set[str] = set()
    for entry in filter(None, listed.split("\0")):
        facts, _, name = entry.partition("\t")
        mode, _, blob = facts.split()
        if mode.startswith("100"):
            committed[name] = blob
            continue
        others.add(name)
        if mode == "160000" or not (top / name).resolve().is_relative_to(top.resolve()):
            # A submodule, or a link that leads out of the checkout.
            outside |= _sources_below(top, name)
    # In a later commit, or added since.
    outside |= {name for name in known.keys() - others - committed.keys() if (top / name).exists()}
    # Git takes a line for a name: one with a line break is asked for alone.
    here = [name for name in committed if (top / name).is_file() and not (top / name).is_symlink()]
    plain = [name for name in here if "\n" not in name]
    hashed = git(top, "hash-object", "--stdin-paths", given="".join(f"{n}\n" for n in plain))
    if hashed is None or len(hashes := hashed.split()) != len(plain):
        return None
    found = dict(zip(plain, hashes, strict=True))
    for name in set(here) - set(plain):
        found[name] = (git(top, "hash-object", "--", name) or "").strip()
    return outside | {
        name
        for name, blob in committed.items()
        if found.get(name) != blob and not (name in sparse and name not in here)
    }


def is_in_commit(top: Path, commit: str, path: str) -> bool:
    """Whether a commit has the file (relative to ``top``); False where git does not know."""
    return git(top, "cat-file", "-e", f"{commit}:{path}") is not None


def git(top: Path, *arguments: str, given: str = "") -> str | None:
    """What git prints, run in ``top`` with ``given`` as its input; None where it fails or is not
    installed.
    """
    # A hook's GIT_DIR or GIT_INDEX_FILE is of another checkout; and nobody's index is locked or
    # refreshed.
    environment = {name: value for name, value in os.environ.items() if name not in _OTHER_CHECKOUT}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", str(top), *arguments],
            env=environment,
            input=given.encode("utf-8", "surrogateescape"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "surrogateescape") if done.returncode == 0 else None
