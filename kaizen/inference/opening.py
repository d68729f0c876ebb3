"""A model from whatever holds it: a folder, which torch computes, or an exported file, for which
torch is not even imported.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.inference.answering import Answering
from kaizen.inference.exported import SUFFIX, load_exported


def is_exported(path: str | Path) -> bool:
    """Whether a path names an exported file, by its suffix."""
    return Path(path).suffix.lower() == SUFFIX


def load(path: str | Path, **options: Any) -> Answering:
    """The model of a step's or a run's folder (`kaizen.inference.loading.load`, which says what
    ``options`` there are), or of a file of `kaizen export`, *.onnx: an `ExportedModel`, without
    options.

    Raises KaizenError where it is neither.
    """
    if is_exported(path):
        for name, value in options.items():
            if value not in (None, "auto"):
                raise KaizenError(
                    f"{name}: {value} cannot be chosen of {path}, an exported model: it computes "
                    "on the CPU in the numbers that it was exported with; leave it out"
                )
        return load_exported(Path(path))
    if os.path.isfile(path):
        raise KaizenError(
            f"{path} is a file, and its name does not end in {SUFFIX}, as that of an exported "
            "model does; name such, or a model's or a run's folder (results/models/<run>)"
        )
    from kaizen.inference.loading import load as load_folder

    return load_folder(path, **options)
