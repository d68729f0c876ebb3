"""The commands of a model in service: serve, feedback."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kaizen.cli.common import Commands, add_store, path_argument
from kaizen.errors import KaizenError

if TYPE_CHECKING:
    from kaizen.inference.answering import Answering
    from kaizen.serving.collection import Collection

# What an option is of no use without.
_NEEDED = {
    "follow": ("poll", "max_drop", "check", "check_images"),
    "collect": ("collect_images", "collect_bytes"),
}
_INSTALL = "`pip install 'kaizen-ssl[serve]'` installs what `kaizen serve` needs"


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    sub = commands.add(
        "serve",
        _serve,
        "Answer over HTTP which class images are of, with a page for people; with --follow the "
        "run's next step takes over when it is published.",
    )
    sub.set_defaults(in_project=False)
    sub.add_argument(
        "model",
        type=path_argument,
        metavar="MODEL",
        help="a run's folder, results/models/<run>, for its latest step; a model's folder; or an "
        "exported file (.onnx)",
    )
    sub.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine alone")
    sub.add_argument("--port", type=int, default=8000, help="default: 8000; 0 is any free one")
    _add_follow(sub)
    _add_limits(sub)
    _add_collect(sub)
    sub.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    sub.add_argument("--precision", choices=["auto", "float32", "bfloat16"])
    sub = commands.add_planned(
        "feedback",
        _feedback,
        "Show the images that `kaizen serve --collect FOLDER` kept, and make them the stream's "
        "next arrival.",
    )
    sub.add_argument("folder", type=path_argument, metavar="FOLDER", help="where they are kept")
    sub.add_argument(
        "--to",
        metavar="NAME",
        help="move them to the folder NAME among the stream's arrivals, and append that",
    )
    add_store(sub)


def _add_follow(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("newer steps")
    group.add_argument(
        "--follow",
        action="store_true",
        help="take over newer steps in MODEL, a run's folder or one where step-NN.onnx appear",
    )
    group.add_argument("--poll", type=float, metavar="SECONDS", help="look so often; default: 2")
    group.add_argument(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="a new step's accuracy on the present one's classes may be lower by so much; "
        "default: 40",
    )
    group.add_argument(
        "--check",
        type=path_argument,
        nargs="+",
        default=[],
        metavar="PLACE",
        help="held-out images to measure that on: shards, or folders of class folders; default: "
        "the test shards of the project that MODEL lies in",
    )
    group.add_argument("--check-images", type=int, metavar="N", help="at most; default: 400")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")

    def add(name: str, kind: type, metavar: str, text: str) -> None:
        group.add_argument(f"--{name}", type=kind, metavar=metavar, help=text)

    add("max-bytes", int, "N", "of a request; default: 20000000")
    add("max-pixels", int, "N", "of an image; default: 40000000")
    add("max-images", int, "N", "of a request; default: 64")
    add("max-requests", int, "N", "under way at a time; default: 128")
    add("timeout", float, "SECONDS", "for a request; default: 30")
    add("batch-size", int, "N", "images computed together at most; default: 32")
    add("max-wait", float, "MS", "a batch waits so long for images being decoded; default: 5")
    add("workers", int, "N", "threads that decode; default: one for each CPU, at most 8")


def _add_collect(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("feedback (nothing is kept without --collect)")
    group.add_argument(
        "--collect",
        type=path_argument,
        metavar="FOLDER",
        help="keep the images that are given with feedback there, for `kaizen feedback`",
    )
    group.add_argument("--collect-images", type=int, metavar="N", help="at most; default: 10000")
    group.add_argument("--collect-bytes", type=int, metavar="N", help="at most; default: 10^9")


def _serve(options: argparse.Namespace) -> None:
    # Images are resized by a thread each. Products of matrices that each took all cores for
    # themselves, as NumPy's do if this is not set when it is imported, were a fifth as fast.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from kaizen.serving.server import Serving, serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("kaizen"):
            raise
        raise KaizenError(
            f"the package {error.name} is not installed in this Python ({sys.executable}); "
            f"{_INSTALL}"
        ) from error
    from kaizen.serving.check import Rules
    from kaizen.serving.collection import Bounds
    from kaizen.serving.limits import Limits

    limits = {
        name: value
        for name in Limits.__dataclass_fields__
        if (value := getattr(options, name)) is not None
    }
    bounds = {
        name: value
        for name in Bounds.__dataclass_fields__
        if (value := getattr(options, f"collect_{name}")) is not None
    }
    rules = {"max_drop": options.max_drop, "images": options.check_images}
    if options.max_drop is not None:
        rules["max_drop"] = options.max_drop / 100
    serving = Serving(
        model=options.model,
        host=options.host,
        port=options.port,
        limits=Limits(**limits),
        follow=options.follow,
        **({} if options.poll is None else {"poll": options.poll}),
        rules=Rules(
            places=tuple(options.check),
            **{name: value for name, value in rules.items() if value is not None},
        ),
        collect=options.collect,
        bounds=Bounds(**bounds),
    )
    for needed, names in _NEEDED.items():
        given = [name for name in names if getattr(options, name) not in (None, [])]
        if given and not getattr(options, needed):
            raise KaizenError(
                f"--{given[0].replace('_', '-')} has no effect without --{needed}; add that, or "
                "leave it out"
            )
    serve(serving, _loader(options))


def _loader(options: argparse.Namespace) -> Callable[[Path], Answering]:
    """What loads a model from its folder or file, by the options."""
    from kaizen.inference.opening import load

    return lambda place: load(place, device=options.device, precision=options.precision)


def _feedback(options: argparse.Namespace) -> None:
    from kaizen.files import counted, printable
    from kaizen.serving.collection import NEXT, Bounds, Collection

    # Not made here: a name that was mistyped is no collection.
    if not options.folder.is_dir():
        raise KaizenError(
            f"{options.folder} is no folder; name that of `kaizen serve --collect FOLDER`"
        )
    collection = Collection(options.folder, Bounds())
    found = collection.collected()
    for name, count in found.classes.items():
        print(f"{count:8d}  {printable(name)}")
    if found.unlabelled:
        print(f"{found.unlabelled:8d}  without a class")
    print(f"{counted(found.images, 'image')}, {found.bytes} bytes, in {options.folder / NEXT}")
    if options.to is None:
        if found.images:
            print("`kaizen feedback FOLDER --to NAME` makes them the stream's next arrival")
        return
    _hand_over(options, collection)


def _hand_over(options: argparse.Namespace, collection: Collection) -> None:
    """Move what was collected to where arrivals lie, and append it."""
    from kaizen.cli.stream import append_folder
    from kaizen.data.arrivals import read_stream
    from kaizen.params.registry import STREAM
    from kaizen.params.validation import load_params
    from kaizen.serving.collection import class_name

    dataset = load_params(options.params, options.overlay).dataset
    if dataset.source != STREAM or dataset.path is None:
        raise KaizenError(
            f"dataset.source: {dataset.source} is no stream that grows (docs/stream.md); nothing "
            "was handed over"
        )
    try:
        name = class_name(options.to, ())
    except KaizenError as error:
        raise KaizenError(f"--to: {options.to!r:.80} is no name of a folder; {error}") from error
    place = Path.cwd() / Path(dataset.path).expanduser() / name

    def arrived() -> bool:
        stream = read_stream(Path.cwd())
        return stream is not None and any(one.name == name for one in stream.arrivals)

    before = arrived()
    collection.hand_over(place)
    try:
        append_folder(options, place, None)
    except BaseException:
        if arrived() and not before:
            # What failed came after that, and the stream names images that lie there.
            print(
                f"kaizen: {name} is in the stream all the same; the next run goes on, when what is "
                "wrong is mended",
                file=sys.stderr,
            )
        elif not collection.take_back(place):
            print(
                f"kaizen: the images lie in {place}; `kaizen append {name}` goes on, when what is "
                "wrong is mended",
                file=sys.stderr,
            )
        raise
