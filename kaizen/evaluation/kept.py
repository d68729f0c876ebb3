"""The kept images: a few test images, spread evenly over tasks and classes, whose features an
evaluation keeps after each step (`features.safetensors`), and what these say.

Of the features, their principal components are kept: the same distances and inner products about
their mean in at most as many numbers an image as there are images, whatever the network. From them
come maps of two dimensions, the effective rank, and how alike the features of two steps are.
Imports no torch, so that reports can read the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from kaizen.data.schema import UNLABELLED
from kaizen.evaluation.recorded import ShownImages, not_recorded_so
from kaizen.files import atomic_path

FEATURES_FILE = "features.safetensors"
MOST_KEPT = 300
_MOST_BYTES = 1 << 28
_IMAGES = ("label", "task", "row")
_STEP = re.compile(r"step-\d{2,5}")
_WHAT = "features of kept images"


@dataclass(frozen=True)
class KeptFeatures:
    """After one step: the n ``images`` that are kept, and the ``components`` float32 [n, C] of
    their features, the largest first; C is 0 where the features are not finite numbers.
    """

    images: ShownImages
    components: np.ndarray


def kept_rows(images: ShownImages, most: int = MOST_KEPT) -> np.ndarray:
    """Which test images are kept: places int64 [n], ascending, n at most ``most``.

    The same number of each class of each task, where it has so many, spread over its rows; with
    more classes than ``most``, one image of some, spread too. As tasks arrive there are fewer of
    each, which were all kept before.
    """
    pairs = np.stack([images.task, images.label])
    groups, of_group = np.unique(pairs, axis=1, return_inverse=True)
    count = groups.shape[1]
    if not count:
        return np.empty(0, dtype=np.int64)
    places = np.argsort(of_group.ravel(), kind="stable")
    bounds = np.cumsum([0, *np.bincount(of_group.ravel(), minlength=count)])
    each = max(1, most // count)
    chosen = range(count) if count <= most else np.arange(most) * count // most
    found = [
        places[bounds[group] + np.array(_spread(int(bounds[group + 1] - bounds[group]), each))]
        for group in chosen
    ]
    return np.sort(np.concatenate(found))


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` of 0..count - 1 spread over them: by the value of their bits read backwards,
    so that fewer are a part of more.
    """
    bits = max(1, (count - 1).bit_length())
    found: list[int] = []
    for number in range(1 << bits):
        place = int(f"{number:0{bits}b}"[::-1], 2)
        if place < count:
            found.append(place)
            if len(found) == most:
                break
    return found


def write_features(steps: Sequence[tuple[int, KeptFeatures]], path: Path) -> None:
    """Write what is kept after each step (its number and features, all of the same images) as
    safetensors: ``label``, ``task``, ``row`` int32 [n], ``step-NN`` float16 [n, C]; the same
    features give the same bytes.
    """
    images = steps[0][1].images
    tensors = {name: getattr(images, name).astype(np.int32) for name in _IMAGES}
    for step, kept in steps:
        tensors[f"step-{step:02d}"] = np.ascontiguousarray(kept.components, dtype=np.float16)
    with atomic_path(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(tensors))


def read_features(path: Path) -> tuple[KeptFeatures, ...]:
    """What is kept after each step, as `write_features` got it, rounded to float16; raises
    KaizenError where the file holds something else or is too large.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise not_recorded_so(path, _WHAT)
        tensors = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError, TypeError, ValueError, KeyError) as error:
        raise not_recorded_so(path, _WHAT) from error
    steps = sorted(tensors.keys() - {*_IMAGES}, key=lambda name: (len(name), name))
    known = all(name in tensors for name in _IMAGES) and all(map(_STEP.fullmatch, steps))
    if not known or not steps:
        raise not_recorded_so(path, _WHAT)
    columns = [tensors[name] for name in _IMAGES]
    n = columns[0].size
    if n > MOST_KEPT or any(
        c.dtype != np.int32 or c.shape != (n,) or (c < least).any()
        for c, least in zip(columns, (UNLABELLED, 0, 0), strict=True)
    ):
        raise not_recorded_so(path, _WHAT)
    for name in steps:
        value = tensors[name]
        sound = value.dtype == np.float16 and value.ndim == 2 and len(value) == n
        if not sound or value.shape[1] > n or not np.isfinite(value).all():
            raise not_recorded_so(path, _WHAT)
    images = ShownImages(*(column.astype(np.int64) for column in columns))
    return tuple(KeptFeatures(images, tensors[name].astype(np.float32)) for name in steps)
