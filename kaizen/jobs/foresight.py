"""What would fail a job after hours is reported before any job: refusals and notes of the plan.

Imports neither torch nor timm, which take seconds: it looks for the packages' files and the
driver's devices.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from kaizen.data.looks import refuse_several_sizes
from kaizen.data.schema import UNLABELLED
from kaizen.data.sources.base import Source
from kaizen.data.split import Stream, make_stream, turns
from kaizen.errors import KaizenError
from kaizen.params import Params
from kaizen.params.registry import backbone_packages
from kaizen.plan.nodes import DatasetFacts

# A training step compares images of one batch with each other.
FEWEST = 2


def refuse_early(params: Params, facts: DatasetFacts, source: Source | None) -> None:
    """Raise KaizenError for what is known, before any job, to fail one: a backbone's missing
    package, images of several sizes without `image.load_size`, a task with too few training images.

    ``source`` is None where no raw image is left to look at.
    """
    _refuse_missing_package(params.model.backbone)
    live = params.runtime.live
    if live is not None and not _is_installed(live):
        raise KaizenError(
            f"runtime.live: {live} is not installed; pip install {live}, or set it to null"
        )
    if facts.arrivals:
        for task, arrival in enumerate(facts.arrivals):
            _refuse_small_task(task, sum(arrival.counts("train").values()))
    if source is None:
        return
    if facts.arrivals:
        if params.dataset.resize is None:
            refuse_several_sizes(source, params.image)
        return
    stream = make_stream(params.split, facts.classes, facts.domains)
    # What the stream leaves out may be of any size, and what is resized may be of one afterwards.
    whole = {label for labels in stream.classes for label in labels} == set(
        range(len(facts.classes))
    ) and len(set(stream.domains)) == len(facts.domains) * (stream.by == "domain")
    if whole and params.dataset.resize is None:
        refuse_several_sizes(source, params.image)
    _refuse_small_tasks(stream, source)


def no_gpu_note(device: str) -> str | None:
    """A sentence where `train.device` is cuda and this machine shows no GPU; None otherwise."""
    if device != "cuda" or sees_gpu():
        return None
    return (
        "train.device: cuda, but this machine shows no GPU: jobs must run on machines that have "
        "one, by a cluster's profile; here, set train.device to auto or cpu"
    )


def sees_gpu(
    environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev"), system: str = os.name
) -> bool:
    """Whether there is a sign of a GPU: a device of NVIDIA's (/dev/nvidia0), of WSL's (/dev/dxg) or
    of AMD's (/dev/kfd), that CUDA_VISIBLE_DEVICES does not hide. Outside Linux nothing is known,
    so yes.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1", "NoDevFiles"):
        return False
    if system != "posix" or not devices.is_dir():
        return True
    named = any((devices / name).exists() for name in ("dxg", "kfd"))
    return named or any(devices.glob("nvidia[0-9]*"))


def _refuse_missing_package(backbone: str) -> None:
    for package in backbone_packages(backbone):
        if not _is_installed(package):
            raise KaizenError(
                f"model.backbone: {backbone} needs the package {package}, which is not installed; "
                f"pip install {package}, or choose another backbone"
            )


def _is_installed(package: str) -> bool:
    """Whether a package can be found; it is not imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # imported, but by something that is no file
        return True


def _refuse_small_tasks(stream: Stream, source: Source) -> None:
    counts = source.train_counts()
    if not counts:
        return
    for task, labels in enumerate(stream.classes):
        if stream.by == "domain":
            domain = stream.domains[task]
            count = sum(n for (_, found), n in counts.items() if found == domain)
        else:
            count = sum(n for (label, _), n in counts.items() if label in set(labels))
        # Of a split by data, each task has about its share of every class.
        count = count // len(stream) if stream.by == "data" else count
        if stream.by != "domain":
            without = sum(n for (label, _), n in counts.items() if label == UNLABELLED)
            count += int((turns(without, len(stream), UNLABELLED) == task).sum())
        _refuse_small_task(task, count)


def _refuse_small_task(task: int, count: int) -> None:
    if count < FEWEST:
        raise KaizenError(
            f"split: task {task} has {count} training image{'' if count == 1 else 's'}, and a "
            f"step needs at least {FEWEST}; add images to it, or divide the dataset into fewer "
            "tasks"
        )
