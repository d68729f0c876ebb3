"""What lies in a folder where a run's steps appear: folders step-NN, or exported files
step-NN.onnx; and whether one of them is still changing.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from kaizen.data.names import CHECKPOINT, CONFIG_FILE, HEADS_FILE, PREPROCESSING_FILE
from kaizen.errors import KaizenError
from kaizen.files import sha256_file
from kaizen.inference.places import step_number, steps_in

_LOADED = (CONFIG_FILE, PREPROCESSING_FILE, CHECKPOINT, HEADS_FILE)
# A step's folder has a dozen files.
_MOST_FILES = 1000

# Of each file its name, size, time of change and number; another content has another one.
Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Found:
    """A model to be loaded: its step's number (None where its name says none), its folder or file,
    and what that consisted of when it was found.
    """

    step: int | None
    path: Path
    signature: Signature

    @property
    def name(self) -> str:
        """The name of its folder or file."""
        return self.path.name


def find_model(path: Path) -> Found:
    """The model that a folder or file is, or of a run's folder the newest; raises KaizenError where
    there is none.
    """
    if not path.exists():
        raise KaizenError(
            f"{path} does not exist; name a run's folder (results/models/<run>), a model's folder, "
            "or an exported file (.onnx)"
        )
    if path.is_dir() and (steps := find_steps(path)):
        return steps[-1]
    return Found(step_number(path), path, signature(path))


def find_steps(folder: Path) -> list[Found]:
    """The steps in a folder in their order; none where it has none, or is gone for a moment."""
    return [Found(number, path, signature(path)) for number, path in steps_in(folder)]


def content(path: Path) -> str:
    """A hash of what decides the answers of a model: of a file all of it, of a folder the files
    that are loaded. A run's publication writes a step's card again, and that is no other model.
    """
    digest = hashlib.sha256()
    for name in _LOADED if path.is_dir() else [""]:
        file = path / name
        digest.update(f"{name} {sha256_file(file) if file.is_file() else ''}\n".encode())
    return digest.hexdigest()


def signature(path: Path) -> Signature:
    """What a file, or the files of a folder, are now; hidden ones, as unfinished writes are, do not
    count.
    """
    if not path.is_dir():
        return tuple(_facts(path, path.name))
    try:
        names = sorted(name for name in os.listdir(path) if not name.startswith("."))
    except OSError:
        return ()
    return tuple(fact for name in names[:_MOST_FILES] for fact in _facts(path / name, name))


def _facts(path: Path, name: str) -> list[tuple[str, int, int, int]]:
    try:
        status = path.stat()
    except OSError:
        return []
    return [(name, status.st_size, status.st_mtime_ns, status.st_ino)]
