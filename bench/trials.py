"""What parameters make of task 0: accuracy on a validation split of its training images, and time.

    python -m bench.trials SHARD --params params.yaml --overlay presets/cifar10-small.yaml \
        --method simclr --seeds 0 1 --try train.lr=0.5 --try 'train.lr=1.0 train.epochs=8'

SHARD is a task's train shard, as `data/shards/task-00.train.parquet`. Every fifth image of each
class is held out; the test shards are not looked at. One line of JSON for each trial: what was
tried, the accuracy of a linear probe and of the trained classifier, seconds and CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from kaizen.compute.device import choose_compute
from kaizen.compute.seeds import derive_seed
from kaizen.errors import KaizenError
from kaizen.evaluation.readers import linear_probe
from kaizen.models.feature_classifier import Architecture
from kaizen.params import ModelParams, OptimisationParams, Params, for_method, merge
from kaizen.params.reading import read_files
from kaizen.params.typed import from_dict
from kaizen.training.loop import Step
from kaizen.training.objective import Objective
from kaizen.training.reporter import PlainReporter
from kaizen.training.step_data import StepData
from kaizen.training.student import build_model
from kaizen.views.augment import TwoViewAugment, evaluation_transform
from kaizen.views.batches import ResidentRows
from kaizen.views.decode import load_shard

_HELD_OUT = 5


def trial(shard: Path, params: Params, method: str, seed: int) -> dict[str, Any]:
    """Train step 0 on four fifths of ``shard`` and measure it on the rest."""
    params = for_method(params, method)
    train = params.train
    compute = choose_compute(train.device, train.precision, train.threads)
    images, labels = load_shard(shard, params.image, train.data_fraction)
    held_out = _held_out(labels)
    known, place = np.unique(labels, return_inverse=True)
    pixels, targets = torch.from_numpy(images), torch.from_numpy(place)
    learnt = ResidentRows(
        pixels[~held_out].to(compute.device), targets[~held_out].to(compute.device)
    )
    model = params.model
    architecture = Architecture(
        model=ModelParams(model.backbone, model.width, model.stem, model.classifier_hidden),
        channels=params.image.channels,
        logits=len(known),
        seed=seed,
        image_size=params.image.size,
    )
    student = build_model(architecture, method, getattr(params.ssl, method))
    student.ssl.start_task()
    student = compute.place(student)
    with tempfile.TemporaryDirectory() as work:
        step = Step(
            student=student,
            teacher=None,
            data=StepData(learnt, min(train.batch_size, learnt.count)),
            augment=TwoViewAugment(params.augment, params.image),
            objective=Objective(None, None, 1.0, train.classifier_gradient),
            train=_only(train),
            seed=derive_seed(seed, "training", 0),
            compute=compute,
            work=Path(work),
            save_every_epochs=train.epochs,
            reporter=PlainReporter("", None, None),
        )
        began, cpu = time.perf_counter(), time.process_time()
        step.run()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    student.eval()
    outputs = []
    with torch.no_grad(), compute.autocast():
        for batch in pixels.split(512):
            seen = evaluation_transform(batch.to(compute.device), params.image)
            features = student.encoder(seen.contiguous(memory_format=torch.channels_last))
            outputs.append((features.float(), student.classifier(features).float()))
    features, logits = (torch.cat(part) for part in zip(*outputs, strict=True))
    asked, wanted = torch.from_numpy(held_out), targets.to(compute.device)
    probed = linear_probe(features[~asked], wanted[~asked], features[asked], params.evaluation)
    return {
        "probe": (probed == wanted[asked]).double().mean().item(),
        "classifier": (logits[asked].argmax(1) == wanted[asked]).double().mean().item(),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
    }


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Every fifth row of each class: bool [N]."""
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        chosen[np.flatnonzero(labels == label)[_HELD_OUT - 1 :: _HELD_OUT]] = True
    return chosen


def _only(train: OptimisationParams) -> OptimisationParams:
    names = OptimisationParams.__dataclass_fields__
    return OptimisationParams(**{name: getattr(train, name) for name in names})


def _changed(values: dict[str, Any], changes: str) -> dict[str, Any]:
    """The parameters with ``changes``, as in "train.lr=0.5 train.epochs=8"."""
    for change in changes.split():
        name, _, text = change.partition("=")
        overlay: Any = yaml.safe_load(text)
        for part in reversed(name.split(".")):
            overlay = {part: overlay}
        values = merge(values, overlay)
    return values


def main(arguments: Sequence[str]) -> int:
    """Run the trials one after the other."""
    parser = argparse.ArgumentParser(prog="python -m bench.trials")
    parser.add_argument("shard", type=Path)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--overlay", type=Path, action="append", default=[])
    parser.add_argument("--method", default="simclr")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--try", dest="tries", action="append", default=[])
    known = parser.parse_args(arguments)
    values = read_files([known.params, *known.overlay])
    for changes in known.tries or [""]:
        params = from_dict(Params, _changed(values, changes))
        for seed in known.seeds:
            found = trial(known.shard, params, known.method, seed)
            line = {"method": known.method, "changes": changes, "seed": seed} | found
            print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (KaizenError, TypeError) as error:
        print(f"bench.trials: {error}", file=sys.stderr)
        sys.exit(2)
