"""The command line: `kaizen COMMAND`, a file per group of commands. Nothing here computes, and
nothing heavy is imported before the command that needs it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kaizen import __version__
from kaizen.cli import keep, look, make, plan
from kaizen.cli.common import Commands
from kaizen.errors import KaizenError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 a fault of the run, 2 bad input, 143 interrupted
    (resumable).
    """
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except KaizenError as error:
        print(f"kaizen: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("kaizen: interrupted", file=sys.stderr)
        return 130
    except MemoryError:
        print("kaizen: out of memory; free some and run the same command again", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output (head, say) has gone; a closed stdout would complain again at
        # exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # Whatever no module foresaw: a disk that fails, a file that vanished or is not ours.
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"kaizen: {where}{error.strerror or error}; fix that and run the same command again",
            file=sys.stderr,
        )
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kaizen",
        description="Self-supervised continual learning. `snakemake --cores all` runs the "
        "experiment of params.yaml; these commands look at it, run it in one process, and tidy up.",
    )
    parser.add_argument("--version", action="version", version=f"kaizen {__version__}")
    commands = Commands(parser.add_subparsers(title="commands", metavar="COMMAND", required=True))
    for group in (plan, make, look, keep):
        group.add_commands(commands)
    return parser
