"""The commands of a stream that grows: append."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kaizen.cli.common import Commands, add_store


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    sub = commands.add_planned(
        "append",
        _append,
        "Take a folder of images into the stream as its newest task: check every image and name it "
        "in data/stream.yaml. The next `snakemake --cores all` trains one step on it.",
    )
    sub.add_argument("folder", type=Path, metavar="FOLDER", help="the images that arrived")
    sub.add_argument("--name", metavar="NAME", help="the arrival's name; default: the folder's")
    add_store(sub)


def _append(options: argparse.Namespace) -> None:
    from kaizen.cli.common import open_store
    from kaizen.jobs.append import append
    from kaizen.jobs.estimate import describe_work
    from kaizen.jobs.workflow import Workflow
    from kaizen.params.validation import load_params

    params = load_params(options.params, options.overlay)
    store = open_store(options.store)
    shown = sys.stderr.isatty()

    def progress(done: int, total: int) -> None:
        if shown:
            end = "\n" if done == total else ""
            print(f"\r{done} of {total} images read", end=end, file=sys.stderr, flush=True)

    _, lines = append(params, Path.cwd(), store.root, options.folder, options.name, progress)
    for line in lines:
        print(line)
    print(describe_work(Workflow.from_params(params, Path.cwd())))
