"""A new project: its files written into a folder, where nothing is overwritten."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kaizen.errors import KaizenError, names_text
from kaizen.files import atomic_path, explain_write_errors, shortened
from kaizen.params.reading import write_overlays
from kaizen.params.validation import load_params
from kaizen.provenance.git import top_of
from kaizen.start.files import PARAMS, files_root, project_files
from kaizen.start.fitted import fit
from kaizen.start.measure import measure
from kaizen.start.params_text import params_text, summary

_EXECUTABLE = ".sh"


def make_project(
    target: Path, presets: Sequence[Path], images: Path | None, with_git: bool
) -> list[str]:
    """Make a project in the folder ``target``, which may exist, and say in lines what it is.

    Its params.yaml is the demo's, or that which fits ``images``; ``presets`` are laid over it.
    ``with_git`` makes it a repository of git where it lies in none. Raises KaizenError, and leaves
    nothing behind, where something of that name is there, or anything else is wrong.
    """
    files = project_files()
    _refuse_taken(target, files)
    if with_git and shutil.which("git") is None:
        raise KaizenError("--dvc: git is not installed; install it, or leave --dvc out")
    lines, text = _demo() if images is None else _fitted(target, images)
    with _undone_on_failure() as made:
        _make_folder(target, made)
        if with_git and top_of(target) is None:
            made.append(target / ".git")
            _git_init(target)
        for name, content in sorted(files.items()):
            _write(target / name, content, made)
        _params(target, text, presets, made)
    return lines


def _demo() -> tuple[list[str], str]:
    text = (files_root() / PARAMS).read_text(encoding="utf-8")
    return ["the demo: handwritten digits in 5 tasks of 2 classes"], text


def _fitted(target: Path, images: Path) -> tuple[list[str], str]:
    """What a folder of images is, in lines, and the params.yaml for it."""
    if not images.is_dir():
        raise KaizenError(f"--from: {images} is not a folder; name one that holds images")
    project, folder = _real(target), _real(images)
    if project == folder or folder in project.parents:
        raise KaizenError(
            f"--from: the project {target} would lie among the images of {images}, as one of their "
            "classes; name a folder elsewhere for it"
        )
    try:
        found = measure(images)
    except KaizenError as error:
        # There is no params.yaml yet that the user could look at.
        raise KaizenError(str(error).replace("dataset.path: ", "--from: ")) from error
    fitted = fit(found)
    inside = project in folder.parents
    path = str(folder.relative_to(project)) if inside else os.path.abspath(images)
    lines = [summary(found, fitted)]
    if found.unread:
        lines.append(f"left out: {found.unread}")
    return lines, params_text(found, fitted, path)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _params(target: Path, text: str, presets: Sequence[Path], made: list[Path]) -> None:
    """Write params.yaml, the last of all: it is what makes the folder a project."""
    # Under another name until it is known to be right.
    draft = target / f".{PARAMS}.new"
    made.append(draft)
    _put(draft, text.encode())
    if presets:
        named = load_params(draft).dataset
        changed = load_params(draft, presets).dataset
        if named.source == "image_folder" and (named.source, named.path) != (
            changed.source,
            changed.path,
        ):
            raise KaizenError(
                f"--preset: it names another dataset ({changed.source}, {changed.path}) than "
                "--from; leave one of them out"
            )
        write_overlays(draft, presets)
    load_params(draft)
    with explain_write_errors(target / PARAMS):
        draft.rename(target / PARAMS)


# -- files -------------------------------------------------------------------------------------


def _refuse_taken(target: Path, files: Mapping[str, bytes]) -> None:
    """Raise KaizenError where a file is there that would be written; one of the same content, as an
    interrupted command has left it, is none.
    """
    if os.path.lexists(target) and not target.is_dir():
        raise KaizenError(f"{target} is there, and is not a folder; name another")
    taken = [name for name, content in files.items() if _is_taken(target, name, content)]
    if os.path.lexists(target / PARAMS):
        taken.append(PARAMS)
    if taken:
        raise KaizenError(
            f"{target} has {names_text(sorted(taken))} already, and nothing is overwritten; name "
            "another folder, or move them away"
        )


def _is_taken(target: Path, name: str, content: bytes) -> bool:
    """Whether something else is where a file, or a folder above it, is to be."""
    for above in [*Path(name).parents][-2::-1]:
        place = target / above
        if os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
            return True
    place = target / name
    if not os.path.lexists(place):
        return False
    if place.is_symlink() or not place.is_file() or place.stat().st_size != len(content):
        return True
    return place.read_bytes() != content


@contextlib.contextmanager
def _undone_on_failure() -> Iterator[list[Path]]:
    """Yield a list of what was made, which is removed where the block fails."""
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                if path.name == ".git":
                    shutil.rmtree(path)
                elif path.is_dir():
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)
        raise


def _make_folder(folder: Path, made: list[Path]) -> None:
    """Make a folder, and those above it, where they are missing."""
    missing = [above for above in (folder, *folder.parents) if not above.exists()]
    with explain_write_errors(folder):
        for above in reversed(missing):
            above.mkdir()
            made.append(above)


def _write(path: Path, content: bytes, made: list[Path]) -> None:
    if path.exists():
        return
    _make_folder(path.parent, made)
    made.append(path)
    _put(path, content)


def _put(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        if path.suffix == _EXECUTABLE:
            temporary.chmod(temporary.stat().st_mode | 0o111)


# -- git ---------------------------------------------------------------------------------------


def _git_init(folder: Path) -> None:
    done = subprocess.run(
        ["git", "init", "--quiet"],
        cwd=folder,
        env={name: text for name, text in os.environ.items() if not name.startswith("GIT_")},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise KaizenError(f"--dvc: git init failed: {shortened(done.stderr.strip())}")
