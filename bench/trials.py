"""What changes of the training make of a stream: accuracy on held-out training images, and cost.

    python -m bench.trials --preset cifar10-small --seeds 0 1 --out trials.json \
        --try '' --try 'train.epochs=8 train.lr=2.0'

For every ``--try`` (parameters to change; '' for none) the variant kaizen goes through the whole
stream of SimCLR, with a fifth of the *training* images held out in the place of the test images,
which are not looked at. A line for each: mean final accuracy of the trained classifier over the
seeds, and the CPU time of one seed's training, as the time of single steps (the fastest of several,
all tries in turn) times their number. What was trained is in the store (KAIZEN_STORE), so that an
interrupted search goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from bench.cases import Case
from bench.ours import OurStep
from bench.search import metrics_of
from kaizen.compute.device import choose_compute
from kaizen.data.sources.digits import Digits
from kaizen.files import write_json
from kaizen.params import DatasetParams, Params, for_method, merge
from kaizen.params.reading import read_files
from kaizen.params.typed import from_dict
from kaizen.training.schedule import view_size

_HELD_OUT = 0.2
_METHOD = "simclr"
_GRID = {
    "grid": {
        "methods": [_METHOD], "variants": ["kaizen"], "heads": ["trained"], "specialists": False,
    },
    "deploy": {"head": "trained"},
}  # fmt: skip
_REPEATS = 7


def experiment(values: Mapping[str, Any], train: Path, changes: str) -> dict[str, Any]:
    """The parameters of a trial: ``changes``, as in "train.lr=0.5 train.epochs=8", on the images of
    the folder ``train``, some of them held out.
    """
    data = {"source": "image_folder", "path": str(train.resolve()), "test_fraction": _HELD_OUT}
    overlay: dict[str, Any] = {"dataset": data} | _GRID
    for change in changes.split():
        name, _, text = change.partition("=")
        value: Any = yaml.safe_load(text)
        for part in reversed(name.split(".")):
            value = {part: value}
        overlay = merge(overlay, value)
    return merge(values, overlay)


def training_images(values: Mapping[str, Any], folder: Path) -> Path:
    """Image folders of the training images: the dataset's own, or scikit-learn's digits as PNG."""
    dataset = values["dataset"]
    if dataset["source"] == "image_folder":
        return Path(dataset["path"]) / "train"
    if dataset["source"] != "digits":
        raise SystemExit("bench.trials: image folders and digits only")
    return _as_files(dataset, folder)


def _as_files(dataset: Mapping[str, Any], folder: Path) -> Path:
    """The digits' training images as PNG files, a folder per class."""
    source = Digits(from_dict(DatasetParams, dict(dataset)))
    for row in source.rows("train"):
        place = folder / source.classes[row.label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.read(row)[:, :, 0]).save(place / f"{row.index:04d}.png")
    return folder


def final_accuracy(values: Mapping[str, Any], seeds: Sequence[int], store: Path) -> float:
    """The trained classifier's final accuracy, the mean over the seeds."""
    values = merge(values, {"grid": {"seeds": list(seeds)}})
    metrics = metrics_of(values, store)
    if metrics is None:
        raise SystemExit("bench.trials: the grid failed, see above")
    accuracy: float = metrics[_METHOD]["kaizen"]["classifier"]["final_accuracy"]["mean"]
    return accuracy


def _cases(values: Mapping[str, Any]) -> list[Case]:
    """The steps of every epoch, whose views grow."""
    params = from_dict(Params, dict(values))
    train, size = params.train, params.image.size
    start, full = train.start_size, train.full_size_from
    sides = [
        view_size(epoch, train.epochs, size, start=start, full_from=full)
        for epoch in range(train.epochs)
    ]
    return [case(values, side) for side in sides]


def case(values: Mapping[str, Any], side: int) -> Case:
    """One of the trial's steps with views of ``side`` pixels, of made-up images."""
    params = for_method(from_dict(Params, dict(values)), _METHOD)
    train, ssl = params.train, params.ssl.simclr
    return Case(
        name=f"{side}",
        model=params.model,
        batch=train.batch_size,
        replay=train.replay_batch_size,
        stored=params.image.size if params.dataset.source == "image_folder" else 8,
        image=dataclasses.replace(params.image, size=side),
        augment=params.augment,
        projector_hidden=ssl.projector_hidden,
        projector_out=ssl.projector_out,
        classes=10,
        learning_rate=0.25,
        rows=max(512, 4 * train.batch_size),
        methods=(_METHOD,),
        gflop=0.0,
        distill_hidden=params.distill.feature.predictor_hidden,
    )


def cpu_seconds(trials: Sequence[Mapping[str, Any]], images: int) -> list[float]:
    """Of one seed's training in each trial, on a stream of ``images`` training images: the fastest
    of several steps of each size and kind, all of them in turn, times their number.
    """
    compute = choose_compute("cpu", "auto", 1)
    cases = {repr(one): one for trial in trials for one in _cases(trial)}
    # After step 0 there are a teacher and replay rows.
    steps = {
        (name, later): OurStep(one, _METHOD, compute, later)
        for name, one in cases.items()
        for later in (False, True)
    }
    fastest = dict.fromkeys(steps, float("inf"))
    for repeat in range(_REPEATS):
        for key, step in steps.items():
            began = time.process_time()
            step()
            if repeat:
                fastest[key] = min(fastest[key], time.process_time() - began)
    found = []
    for trial in trials:
        train, tasks = trial["train"], trial["split"]["tasks"]
        share = (1 - _HELD_OUT) * train.get("data_fraction", 1.0) / tasks
        batches = int(images * share) // train["batch_size"]
        epochs = [repr(one) for one in _cases(trial)]
        first, later = (sum(fastest[name, flag] for name in epochs) for flag in (False, True))
        found.append(batches * (first + (tasks - 1) * later))
    return found


def main(arguments: Sequence[str]) -> int:
    """Measure the cost of all trials, then run them one after the other."""
    parser = argparse.ArgumentParser(prog="python -m bench.trials")
    parser.add_argument("--preset", action="append", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--try", dest="tries", action="append", required=True)
    parser.add_argument("--images", type=Path, default=Path("data/raw/digits-train"))
    parser.add_argument("--out", type=Path, required=True)
    known = parser.parse_args(arguments)
    presets = [Path("presets") / f"{name}.yaml" for name in known.preset]
    values = read_files([Path("params.yaml"), *presets])
    train = training_images(values, known.images)
    trials = [experiment(values, train, changes) for changes in known.tries]
    costs = cpu_seconds(trials, sum(1 for path in train.rglob("*.*")))
    store = Path(os.environ.get("KAIZEN_STORE", ".kaizen/store")).resolve()
    rows = []
    print("| tried | CPU s | of the first | FA (%), held out |\n|---|---:|---:|---:|", flush=True)
    for changes, trial, cost in zip(known.tries, trials, costs, strict=True):
        accuracy = final_accuracy(trial, known.seeds, store)
        rows.append({"tried": changes, "cpu_seconds": cost, "final_accuracy": accuracy})
        share = cost / costs[0]
        print(f"| {changes or '-'} | {cost:.1f} | {share:.2f} | {100 * accuracy:.1f} |", flush=True)
        write_json(known.out, {"seeds": known.seeds, "presets": known.preset, "trials": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
