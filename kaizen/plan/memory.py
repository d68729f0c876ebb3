"""How much memory a training step needs, so that a cluster is asked for that and not for more.

Measured on CPUs (docs/performance.md): a part for the process, one for each weight (student,
teacher, momenta, gradients, copies to save), one for each row of a batch, and the images. It is an
upper estimate in float32; bfloat16 needs about half of the rows' part.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from kaizen.params import NetworkParams, RuntimeParams
from kaizen.params.registry import TIMM
from kaizen.plan.nodes import Plan
from kaizen.plan.specs import Spec, StepSpec

# MB of 10^6 bytes. A process with torch and Kaizen; with a GPU's libraries and context.
_PROCESS, _GPU_PROCESS = 320.0, 3000.0
# Bytes for each weight.
_PER_WEIGHT = 34.0
# What is asked for over the estimate, and the unit that it is rounded up to.
_MARGIN, _UNIT = 1.25, 100
# Of evaluations, heads and replay by features.
_OTHERS = 4000
# Of each row of a batch at 32 pixels, by backbone and stem; it grows with the images' area.
_PER_ROW = {
    ("resnet18", "cifar"): 11.5,
    ("resnet18", "imagenet"): 1.1,
    ("resnet50", "cifar"): 65.0,
    ("resnet50", "imagenet"): 6.0,
}
_WEIGHTS = {"resnet18": 11.2e6, "resnet50": 23.6e6}
_FEATURES = {"resnet18": 512, "resnet50": 2048}


def step_memory_mb(spec: StepSpec, images: int | None = None) -> int:
    """What one process that trains ``spec`` needs at most, in MB of 10^6 bytes.

    ``images`` are the training images of its tasks, where that is known; at most what
    `train.stream_above_mb` allows stays in memory.
    """
    side, channels = spec.image.load_size or spec.image.size, spec.image.channels
    limit = spec.train.stream_above_mb
    held = limit if images is None else min(limit, images * channels * side * side / 1e6)
    if spec.train.device == "cuda":
        # The rows lie on the GPU.
        process, rows = _GPU_PROCESS, 0.0
    else:
        process = _PROCESS
        batch = spec.train.batch_size + (spec.replay_batch_size or 0)
        rows = batch * _per_row_mb(spec.model, spec.image.size)
    weights = _weights(spec) * _PER_WEIGHT / 1e6
    needed = (process + weights + rows + 1.2 * held) * _MARGIN
    return int(-(-needed // _UNIT) * _UNIT)


def images_of_tasks(plan: Plan) -> list[int] | None:
    """The training images of each task's classes, at least as many as the task has; None where the
    source does not know them.
    """
    if plan.facts.arrivals:
        return [sum(arrival.counts("train").values()) for arrival in plan.facts.arrivals]
    counts = plan.facts.train_counts
    if not counts:
        return None
    return [sum(counts[label] for label in labels) for labels in plan.summary.spec.tasks]


def job_memory_mb(spec: Spec, runtime: RuntimeParams, images: Sequence[int] | None) -> int:
    """What a job asks for: one that trains, for all its processes; one that looks at features,
    which was not measured, 4 GB. ``images`` are those of each task.
    """
    own = runtime.step_mem_mb
    if isinstance(spec, StepSpec):
        of_tasks = None if images is None else sum(images[task] for task in spec.tasks)
        return runtime.processes * (step_memory_mb(spec, of_tasks) if own == "auto" else own)
    return _OTHERS if own == "auto" else own


def _per_row_mb(model: NetworkParams, size: int) -> float:
    area = (size / 32) ** 2
    if model.backbone == "small_resnet":
        return 2.0 * model.width / 16 * area
    # Of timm's models nothing is known without building them.
    name = "resnet50" if model.backbone.startswith(TIMM) else model.backbone
    return _PER_ROW[name, model.stem] * area


def _weights(spec: StepSpec) -> float:
    """The weights of encoder and heads, about, or somewhat more."""
    model = spec.model
    if model.backbone == "small_resnet":
        encoder, features = 480.0 * model.width**2, 4 * model.width
    else:
        name = "resnet50" if model.backbone.startswith(TIMM) else model.backbone
        encoder, features = _WEIGHTS[name], _FEATURES[name]
    widths = [features, *model.classifier_hidden, spec.num_classes]
    heads = sum(a * b for a, b in itertools.pairwise(widths))
    ssl = dataclasses.asdict(spec.ssl) if spec.ssl is not None else {}
    projector = _projector(ssl, features)
    if "momentum_base" in ssl:
        projector, encoder = 2 * projector, 2 * encoder
    out, queue = ssl.get("projector_out", 0), ssl.get("queue_size", 0)
    hidden = spec.feature_distill.predictor_hidden if spec.feature_distill else 0
    return float(encoder + heads + projector + 2 * out * (queue + hidden))


def _projector(ssl: dict[str, Any], features: int) -> float:
    """Projector, predictor and prototypes of a method, the projector of three layers."""
    hidden, out = ssl.get("projector_hidden", 0), ssl.get("projector_out", 0)
    predictor, prototypes = ssl.get("predictor_hidden", 0), ssl.get("prototypes", 0)
    return float(hidden * (features + hidden + out) + out * (2 * predictor + prototypes))
