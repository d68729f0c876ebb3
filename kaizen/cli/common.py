"""What the commands share: the options that name the parameters, and what they are turned into."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kaizen.errors import KaizenError

if TYPE_CHECKING:
    from kaizen.jobs.workflow import Workflow
    from kaizen.store.store import Store

PARAMS, PRESETS = Path("params.yaml"), Path("presets")

Command = Callable[[argparse.Namespace], None]


@dataclass(frozen=True)
class Commands:
    """The commands of the command line; each file of this folder adds its own."""

    parsers: argparse._SubParsersAction[argparse.ArgumentParser]

    def add(self, name: str, function: Command, text: str) -> argparse.ArgumentParser:
        """Add a command; returns its parser, which takes its options."""
        parser = self.parsers.add_parser(name, help=text, description=text)
        parser.set_defaults(command=function)
        return parser

    def add_planned(self, name: str, function: Command, text: str) -> argparse.ArgumentParser:
        """Add a command that plans: its options name the parameters, for `workflow_of`."""
        parser = self.add(name, function, text)
        add_params(parser)
        parser.add_argument(
            "--overlay",
            type=path_argument,
            action="append",
            default=[],
            metavar="FILE",
            help="laid over the parameters",
        )
        parser.add_argument(
            "--preset",
            type=preset_file,
            action="append",
            dest="overlay",
            metavar="NAME",
            help="laid over the parameters: presets/NAME.yaml",
        )
        return parser


def add_params(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the parameters' file."""
    parser.add_argument(
        "--params",
        type=path_argument,
        default=PARAMS,
        metavar="FILE",
        help="default: params.yaml",
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the store, for `open_store`."""
    parser.add_argument(
        "--store",
        type=path_argument,
        metavar="FOLDER",
        help="default: KAIZEN_STORE, else .kaizen/store",
    )


def path_argument(text: str) -> Path:
    """An argument that names a file or folder; argparse refuses an empty one, which would be the
    current folder.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; name a file or folder, or leave it out")
    return Path(text)


def job_count(text: str) -> int:
    """The value of ``--jobs``."""
    from kaizen.jobs.parallel import MOST

    if text.isascii() and text.isdigit() and 1 <= int(text) <= MOST:
        return int(text)
    raise argparse.ArgumentTypeError(
        f"{text!r} is not a number of jobs; give one from 1 to {MOST}, at most one for each core"
    )


def preset_file(name: str) -> Path:
    """The file of a preset, named with or without folder and suffix; also a file elsewhere, named
    with its suffix.
    """
    path = path_argument(name)
    has_suffix = name.endswith((".yaml", ".yml"))
    if has_suffix and (path.parent != Path() or path.exists()):
        return path
    preset = path if path.parent == PRESETS else PRESETS / path
    return preset if has_suffix else preset.with_name(f"{preset.name}.yaml")


def refuse_to_replace(path: Path, option: str, is_ours: Callable[[Path], object]) -> None:
    """Raise KaizenError where there is a file at ``path`` that is none of what ``option`` writes
    (``is_ours`` says no, or raises KaizenError itself), and where there is no folder for it.
    """
    if not path.absolute().parent.is_dir():
        raise KaizenError(f"{option}: {path.parent} is not a folder; make it, or name another")
    if not path.is_file():
        return
    with contextlib.suppress(KaizenError):
        if is_ours(path):
            return
    raise KaizenError(
        f"{option} {path}: there is a file already that this option did not write; move it away, "
        "or name another"
    )


def workflow_of(options: argparse.Namespace) -> Workflow:
    """Plan the experiment that the options name, and make its store ready.

    Raises KaizenError where it is wrong.
    """
    workflow = planned(options)
    workflow.prepare_store()
    return workflow


def planned(options: argparse.Namespace) -> Workflow:
    """Plan the experiment that the options name, and change nothing; raises KaizenError where it is
    wrong.
    """
    from kaizen.jobs.workflow import Workflow

    return Workflow.from_files(options.params, options.overlay, Path.cwd())


def open_store(chosen: Path | None = None) -> Store:
    """Open the store in the folder ``chosen``, or else the one that belongs to this checkout."""
    from kaizen.store.layout import check_store
    from kaizen.store.places import default_store
    from kaizen.store.store import Store

    store = Store(chosen.absolute() if chosen else default_store(Path.cwd()))
    check_store(store.root)
    store.follow_sharing()
    return store
