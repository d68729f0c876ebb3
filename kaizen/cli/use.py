"""The commands that use a trained model: predict, embed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kaizen.cli.common import Commands, path_argument
from kaizen.errors import KaizenError

if TYPE_CHECKING:
    from kaizen.inference.answering import Answering
    from kaizen.inference.inputs import Inputs
    from kaizen.inference.run import Row, Seen, Work


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    predict = commands.add(
        "predict",
        _predict,
        "Say which class images are of, by a trained model; where they lie in class folders, how "
        "often that is right.",
    )
    _add_options(predict, "without it, a line for each image is printed")
    predict.add_argument(
        "--top", type=int, default=5, metavar="K", help="the K most probable classes; default: 5"
    )
    embed = commands.add("embed", _embed, "Write the features of images, by a trained model.")
    _add_options(embed, "where the features go", out_required=True)


def _add_options(
    parser: argparse.ArgumentParser, out_help: str, out_required: bool = False
) -> None:
    parser.set_defaults(in_project=False)
    parser.add_argument(
        "model",
        type=path_argument,
        metavar="MODEL",
        help="a model's folder, results/models/<run>/step-NN or a copy of it; a run's, for its "
        "latest step; or an exported model, *.onnx, which needs no torch",
    )
    parser.add_argument(
        "what",
        nargs="+",
        metavar="WHAT",
        help="image files, folders, globs, or shards (Parquet)",
    )
    parser.add_argument(
        "--out",
        type=path_argument,
        required=out_required,
        metavar="FILE",
        help=f"a file that ends in .csv, .parquet or .jsonl; {out_help}; an interrupted command "
        "goes on where it was when it is given again",
    )
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="default: 64")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="threads that decode; default: one for each CPU, at most 8",
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        help="default: the step's own, as in evaluation",
    )


def _predict(options: argparse.Namespace) -> None:
    _at_least_one(options, "top")

    def run(model: Answering, inputs: Inputs) -> Seen:
        from kaizen.inference.run import Work

        top = min(options.top, len(model.classes))
        work = Work("predict", options.batch_size, options.workers, top)
        return _run(options, model, inputs, work)

    _use(options, run)


def _embed(options: argparse.Namespace) -> None:
    def run(model: Answering, inputs: Inputs) -> Seen:
        from kaizen.inference.run import Work

        work = Work("embed", options.batch_size, options.workers)
        return _run(options, model, inputs, work)

    _use(options, run)


def _at_least_one(options: argparse.Namespace, name: str) -> None:
    if getattr(options, name) < 1:
        option = name.replace("_", "-")
        raise KaizenError(f"--{option}: {getattr(options, name)} is too few; at least 1")


def _use(options: argparse.Namespace, run: Callable[[Answering, Inputs], Seen]) -> None:
    """Check the options, load the model, find the images, and print what was seen."""
    if options.workers is None:
        # Each holds an image of up to a gigabyte while it is resized.
        options.workers = min(8, len(os.sched_getaffinity(0)))
    for name in ("batch_size", "workers"):
        _at_least_one(options, name)
    if options.out is not None:
        from kaizen.inference.outputs import check_output

        check_output(options.out)
    from kaizen.files import counted, printable
    from kaizen.inference.inputs import find_inputs, left_out_text
    from kaizen.inference.opening import is_exported, load
    from kaizen.inference.show import report_lines

    model = load(options.model, device=options.device, precision=options.precision)
    if not is_exported(options.model):
        from kaizen.compute.device import choose_compute

        # The same bits again, also on a GPU.
        choose_compute(options.device, "float32", len(os.sched_getaffinity(0)))
    inputs = find_inputs(options.what, model.classes)
    if inputs.left_out:
        print(f"kaizen: {printable(left_out_text(inputs.left_out))}", file=sys.stderr)
    seen = run(model, inputs)
    for line in report_lines(seen, model.classes):
        print(line)
    if options.out is not None:
        print(f"{options.out}: {counted(seen.read, 'image')}")
    if not seen.read:
        raise KaizenError("none of the images could be read; see the reasons above")


def _run(options: argparse.Namespace, model: Answering, inputs: Inputs, work: Work) -> Seen:
    from kaizen.inference.run import run_over

    output = None
    if options.out is not None:
        from kaizen.inference.outputs import Output, schema

        columns = schema(work, model.facts()["feature_dim"])
        output = Output(options.out, columns, _about(model, inputs, work))
        if output.started_again:
            print(
                "kaizen: an unfinished output of another model, other images or options was there; "
                "it is made from its beginning",
                file=sys.stderr,
            )
    with _progress(len(inputs), output is not None) as progress:

        def report(done: int, rows: Sequence[Row]) -> None:
            progress(done)
            if output is None:
                for row in rows:
                    _print_row(row)

        seen = run_over(model, inputs, work, output, report)
    if output is not None:
        output.finish()
    return seen


def _about(model: Answering, inputs: Inputs, work: Work) -> dict[str, str | int | float]:
    """What an output is of; parts of another are of no use."""
    return {
        **model.identity(),
        "images": inputs.identity(),
        "what": work.what,
        "top": work.top,
        "batch_size": work.batch_size,
    }


def _print_row(row: Row) -> None:
    from kaizen.files import printable

    if row["error"] is not None:
        return
    places = range(1, (len(row) - 3) // 2 + 1)
    shown = "  ".join(f"{row[f'class_{k}']} {row[f'probability_{k}']:.3f}" for k in places)
    print(printable(f"{row['file']}: {shown}"))


@contextmanager
def _progress(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr, which is set to how many images are done; ``shown`` is False
    where a line for each image takes its place.
    """
    if not shown:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns,
        console=console,
        transient=True,
        # What goes to stdout may go into a pipe.
        redirect_stdout=False,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)
