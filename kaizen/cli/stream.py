"""The commands of a stream that grows: append, retire."""

from __future__ import annotations

import argparse
import contextlib
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
    sub = commands.add_planned(
        "retire",
        _retire,
        "Give up an arrival's images, which must not be kept: raw images and training shard are "
        "removed; a dry run unless --delete.",
    )
    sub.add_argument("arrival", metavar="NAME", help="the arrival's name in data/stream.yaml")
    sub.add_argument(
        "--replay", action="store_true", help="and its rows in replay shards, now and later"
    )
    sub.add_argument("--delete", action="store_true", help="really remove them")


def _retire(options: argparse.Namespace) -> None:
    from kaizen.jobs.stream_lock import changing_stream

    with changing_stream(Path.cwd()) if options.delete else contextlib.nullcontext():
        _give_up(options)


def _give_up(options: argparse.Namespace) -> None:
    """What `kaizen retire` does while nothing else changes the stream."""
    from kaizen.cli.make import publish_and_show
    from kaizen.jobs.retire import plan_retirement, retire
    from kaizen.params.validation import load_params
    from kaizen.training.reporter import PlainReporter

    params = load_params(options.params, options.overlay)
    retirement = plan_retirement(params, Path.cwd(), options.arrival, options.replay)
    verb = "removing" if options.delete else "would be removed"
    for line in retirement.removed():
        print(f"{verb}: {line}")
    rows = "" if options.replay else ", and its rows in replay shards (but with --replay)"
    print(f"kept: its test shard, the models that learnt from it{rows}")
    for node in retirement.ahead:
        print(f"made before that: {node.title}")
    if not options.delete:
        print("nothing was changed; add --delete to do it")
        return

    def reporter(title: str) -> PlainReporter:
        return PlainReporter(title, None, sys.stderr)

    lines = retire(retirement, reporter)
    left = retirement.left
    for line in lines:
        print(f"kaizen: {line}", file=sys.stderr)
    if left.missing():
        print("the published files follow with the next `snakemake --cores all`")
    else:
        publish_and_show(left)
    print(
        "DVC's cache and remotes hold what was published before, until `dvc commit` and `dvc gc "
        "--workspace` (with --cloud for remotes)"
    )


def _append(options: argparse.Namespace) -> None:
    append_folder(options, options.folder, options.name)


def append_folder(options: argparse.Namespace, folder: Path, name: str | None) -> None:
    """Take a folder into the stream that the options name, and print what that means."""
    from kaizen.cli.common import open_store
    from kaizen.jobs.append import append
    from kaizen.jobs.estimate import describe_work
    from kaizen.jobs.stream_lock import changing_stream
    from kaizen.jobs.workflow import Workflow
    from kaizen.params.validation import load_params

    params = load_params(options.params, options.overlay)
    store = open_store(options.store)
    shown = sys.stderr.isatty()

    def progress(done: int, total: int) -> None:
        if shown:
            end = "\n" if done == total else ""
            print(f"\r{done} of {total} images read", end=end, file=sys.stderr, flush=True)

    with changing_stream(Path.cwd()):
        _, lines = append(params, Path.cwd(), store.root, folder, name, progress)
    for line in lines:
        print(line)
    workflow = Workflow.from_params(params, Path.cwd())
    workflow.look_at_store()
    print(describe_work(workflow))
