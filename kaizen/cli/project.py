"""The project that a command is about: the current folder's, or, as git does it, that of the
nearest folder above which has one.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from pathlib import Path
from typing import Any

from kaizen.cli.common import PARAMS, PRESETS
from kaizen.files import printable


def project_above(folder: Path) -> Path | None:
    """The nearest folder above ``folder`` that has a params.yaml; None where there is none.

    Where everybody may write (/tmp, say) another user's file counts for nothing.
    """
    for above in folder.parents:
        if (above / PARAMS).is_file() and not above.stat().st_mode & stat.S_IWOTH:
            return above
    return None


def enter_project(options: argparse.Namespace) -> None:
    """Go to the project's folder where the current one is below it; the paths among ``options``
    stay what they were, as they were meant from here.

    Nothing is done for a command that needs no project, where the current folder has a params.yaml
    itself, and where other parameters or a plan are named.
    """
    here = Path.cwd()
    alone = not getattr(options, "in_project", True) or getattr(options, "plan", None) is not None
    named = getattr(options, "params", None) not in (None, PARAMS)
    if alone or named or (here / PARAMS).exists():
        return
    project = project_above(here)
    if project is None:
        return
    for name, value in vars(options).items():
        setattr(options, name, _from(here, value, name))
    print(f"kaizen: the project is {printable(str(project))}", file=sys.stderr)
    os.chdir(project)


def _from(here: Path, value: Any, name: str) -> Any:
    """An option's value with its paths absolute, seen from ``here``."""
    if isinstance(value, list):
        return [_from(here, item, name) for item in value]
    if isinstance(value, Path) and value != PARAMS:
        # A preset is the project's, unless such a file is here.
        preset = value.parent == PRESETS and not (here / value).exists()
        return value if preset else here / value
    if name == "asked" and isinstance(value, str):
        path, colon, number = value.partition(":")
        return f"{here / path}{colon}{number}" if path and (here / path).exists() else value
    return value


def use_presets(options: argparse.Namespace) -> None:
    """Let the presets among ``options`` be those of the distribution where the project has none."""
    for name in ("overlay", "names"):
        files: list[Path] = getattr(options, name, [])
        if PRESETS.is_dir() or not any(file.parent == PRESETS for file in files):
            continue
        from kaizen.start.files import shipped_files

        if (shipped := shipped_files()) is not None:
            found = [shipped / file if file.parent == PRESETS else file for file in files]
            setattr(options, name, found)
