"""The command that makes a file or a folder for others of a trained model: export."""

from __future__ import annotations

import argparse
import importlib.util
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kaizen.cli.common import Commands, path_argument
from kaizen.errors import KaizenError

if TYPE_CHECKING:
    from kaizen.export.making import Made

_NEEDED = ("onnx", "onnxruntime", "onnxscript")
_COMPUTED = ("onnx", "torch", "triton")
_IN_ONNX = ("onnx", "triton")


def add_commands(commands: Commands) -> None:
    """Add the command of this file."""
    parser = commands.add(
        "export",
        _export,
        "Write a trained model as a file or folder that other programs read, compared with the "
        "model on real images before it is written.",
    )
    parser.set_defaults(in_project=False)
    parser.add_argument(
        "model",
        type=path_argument,
        metavar="MODEL",
        help="a model's folder, results/models/<run>/step-NN or a copy of it; or a run's, for its "
        "latest step",
    )
    parser.add_argument(
        "--format",
        required=True,
        choices=["onnx", "torch", "hf", "timm", "triton"],
        help="onnx: a file that needs no torch; torch: a torch.export program (.pt2); hf, timm: "
        "folders as Hugging Face's hub and timm have them; triton: a model's folder in a "
        "repository of Triton",
    )
    parser.add_argument(
        "--out",
        type=path_argument,
        metavar="PATH",
        help="default: a name made of the run's and the step's, in the current folder",
    )
    parser.add_argument(
        "--quantize",
        choices=["int8", "bf16"],
        help="onnx, triton: int8: encoder in 8 bits; bf16: weights stored in bfloat16; the "
        "accuracy it costs is measured, printed and written into the file",
    )
    parser.add_argument(
        "--check",
        action="append",
        default=[],
        metavar="WHAT",
        help="real images to compare with, as for `kaizen predict`: a folder, file, glob or shard; "
        "default: the project's test shards, else scikit-learn's digits",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="the largest difference of a probability, and of a feature as a share of the largest, "
        "that is accepted; default: 1e-4, of --quantize any",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace what an earlier export has written"
    )


def _export(options: argparse.Namespace) -> None:
    for name in ("quantize", "check", "tolerance"):
        formats = _IN_ONNX if name == "quantize" else _COMPUTED
        if getattr(options, name) not in (None, []) and options.format not in formats:
            raise KaizenError(
                f"--{name} has no effect on --format {options.format}; leave it out, or choose "
                f"{' or '.join(formats)}"
            )
    if options.tolerance is not None and not 0 < options.tolerance < math.inf:
        raise KaizenError(f"--tolerance: {options.tolerance} is none; a number above 0")
    if options.format in _IN_ONNX:
        for package in _NEEDED:
            if importlib.util.find_spec(package) is None:
                raise KaizenError(
                    f"--format {options.format} needs the package {package}; pip install "
                    "'kaizen-ssl[export]'"
                )
    from kaizen.export.making import Request, export_model
    from kaizen.files import printable

    request = Request(
        format=options.format,
        out=options.out,
        quantize=options.quantize,
        tolerance=options.tolerance,
        check=tuple(options.check),
        force=options.force,
    )
    for line in _lines(export_model(options.model, request)):
        print(printable(line))


def _lines(made: Made) -> Iterator[str]:
    """What was written, and how near to the model it is."""
    from kaizen.files import counted

    facts, compared = made.facts, made.compared
    classes = f"{len(facts.classes)} class{'es' if len(facts.classes) > 1 else ''}"
    yield f"{made.path}: {classes}, step {facts.key}"
    if compared is None:
        return
    yield (
        f"compared with the model on {counted(compared.images, 'image')} ({made.source}), batches "
        f"of 1, 2, 7, 64: probabilities differ by {compared.probability:.2g} at most, features by "
        f"{compared.feature:.2g} of the largest, the answer for "
        f"{counted(compared.images - compared.same, 'image')}"
    )
    if facts.accuracy is not None and facts.numbers != "float32":
        before, after = facts.accuracy
        yield (
            f"accuracy on {counted(compared.known, 'image')}: {before:.1f} % of the model, "
            f"{after:.1f} % in {facts.numbers}, {after - before:+.1f}"
        )
