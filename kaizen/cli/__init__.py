"""The command line: `kaizen COMMAND`, a file per group of commands. Nothing here computes, and
nothing heavy is imported before the command that needs it runs.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from kaizen import __version__
from kaizen.cli import begin, export, keep, look, make, plan, serve, stream, use, watch
from kaizen.cli.common import Commands
from kaizen.cli.project import enter_project, use_presets
from kaizen.errors import KaizenError
from kaizen.files import tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 a fault of the run, 2 bad input, 143 interrupted
    (resumable).
    """
    if arguments is None:
        speak_utf8()
    options = make_parser().parse_args(
        _with_numbers(sys.argv[1:] if arguments is None else arguments)
    )
    try:
        enter_project(options)
        use_presets(options)
        options.command(options)
    except KaizenError as error:
        tell(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("kaizen: interrupted", file=sys.stderr)
        return 130
    except MemoryError:
        print("kaizen: out of memory; free some and run the same command again", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output (head, say) has gone; a closed stdout would complain again at
        # exit. What was asked for may not be done: as if killed by SIGPIPE.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.dup2(nowhere, sys.stderr.fileno())
        return 141
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("kaizen"):
            raise
        tell(
            f"the package {error.name} is not installed in this Python ({sys.executable}); "
            f"{_environment()}"
        )
        return 2
    except OSError as error:
        # Whatever no module foresaw: a disk that fails, a file that vanished or is not ours.
        where = f"{error.filename}: " if error.filename else ""
        tell(f"{where}{error.strerror or error}; fix that and run the same command again")
        return 2
    return 0


def _environment() -> str:
    """Where an environment is that has all packages, or how it is made."""
    checkout = Path(__file__).resolve().parents[2]
    command = checkout / ".venv" / "bin" / "kaizen"
    # Not where this is that environment, and lacks a package all the same.
    if command.is_file() and Path(sys.prefix).resolve() != (checkout / ".venv").resolve():
        return f"run {command}, which has all packages"
    if (checkout / "Makefile").is_file():
        return f"`make setup` in {checkout} makes an environment that has all packages, .venv"
    return "`pip install --force-reinstall kaizen-ssl` installs all that is needed"


def _with_numbers(arguments: Sequence[str]) -> list[str]:
    """The arguments, with "--keep", "-5G" as "--keep=-5G": argparse takes only plain numbers for
    values where they begin with a dash, and says of others that an argument is missing.
    """
    found: list[str] = []
    for text in arguments:
        if re.match(r"-[0-9.]", text) and found and re.fullmatch(r"--[a-z-]+", found[-1]):
            found[-1] += f"={text}"
        else:
            found.append(text)
    return found


def speak_utf8() -> None:
    """Start this program again in Python's UTF-8 mode where the locale has another encoding.

    Names of files and classes would be other names in it, with other keys; and it may lack the
    characters that are printed.
    """
    if sys.getfilesystemencoding().lower() == "utf-8" and not sys.flags.utf8_mode:
        encodings = {getattr(stream, "encoding", "") for stream in (sys.stdout, sys.stderr)}
        if {encoding.lower() for encoding in encodings if encoding} <= {"utf-8"}:
            return
    if sys.flags.utf8_mode or "PYTHONUTF8" in os.environ:
        # As asked for; what cannot be printed then is replaced.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        return
    environment = os.environ | {"PYTHONUTF8": "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line, with all commands."""
    parser = argparse.ArgumentParser(
        prog="kaizen",
        description="Self-supervised continual learning. `snakemake --cores all` runs the "
        "experiment of params.yaml; these commands look at it, run it in one process, and tidy up.",
    )
    parser.add_argument("--version", action="version", version=f"kaizen {__version__}")
    commands = Commands(parser.add_subparsers(title="commands", metavar="COMMAND", required=True))
    for group in (begin, plan, stream, make, watch, look, use, export, serve, keep):
        group.add_commands(commands)
    return parser
