"""The commands that begin: init, completion."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from kaizen.cli.common import PRESETS, Commands, path_argument, preset_file
from kaizen.errors import KaizenError


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    sub = commands.add(
        "init",
        _init,
        "Make a project: a folder with all that `snakemake`, `kaizen run` and DVC need, and a "
        "params.yaml: the demo's, a preset's, or one that fits your images. Overwrites nothing.",
    )
    sub.set_defaults(in_project=False)
    sub.add_argument(
        "folder", type=path_argument, metavar="FOLDER", help="made where it is missing"
    )
    sub.add_argument(
        "--preset",
        type=preset_file,
        action="append",
        default=[],
        dest="presets",
        metavar="NAME",
        help="presets/NAME.yaml, laid over the parameters; several, one over the other",
    )
    sub.add_argument(
        "--from",
        type=path_argument,
        dest="images",
        metavar="IMAGES",
        help="a folder of images, <class>/* or train/<class>/* and test/<class>/*: they are "
        "measured, and params.yaml says what was chosen for them and why; they stay where they are",
    )
    sub.add_argument(
        "--dvc",
        action="store_true",
        help="make it a repository of git, which DVC then works in, unless it lies in one",
    )
    sub = commands.add(
        "completion",
        _completion,
        "Print a script that lets a shell complete this command's words: "
        'eval "$(kaizen completion bash)".',
    )
    sub.set_defaults(in_project=False)
    sub.add_argument("shell", choices=["bash", "zsh", "tcsh"])


def _init(options: argparse.Namespace) -> None:
    from kaizen.files import printable
    from kaizen.start.files import files_root
    from kaizen.start.new import make_project

    root = files_root()
    presets = [root / file if file.parent == PRESETS else file for file in options.presets]
    folder: Path = options.folder
    for line in make_project(folder, presets, options.images, options.dvc):
        print(printable(line))
    print(printable(f"{folder}: a new project; its experiment is {folder / 'params.yaml'}"))
    enter = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    print(f"next: {enter}kaizen check && snakemake (or kaizen run)")
    if options.dvc:
        print("and with DVC: git add . && git commit -m 'New experiment' && dvc repro")


def _completion(options: argparse.Namespace) -> None:
    from kaizen.cli import make_parser

    try:
        import shtab
    except ModuleNotFoundError as error:
        raise KaizenError(
            "the package shtab, which writes such scripts, is not installed; `pip install shtab`"
        ) from error
    parser = make_parser()
    for each in _parsers(parser):
        for action in each._actions:
            if action.type in (path_argument, Path):
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab's own
    print(shtab.complete(parser, options.shell))


def _parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """A parser, and those of its commands."""
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [each for sub in action.choices.values() for each in _parsers(sub)]
    return found
