"""An exported model against the model: on the same pixels of real images, in batches of several
sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kaizen.errors import KaizenError
from kaizen.inference.exported import INPUT, OUTPUTS
from kaizen.inference.inputs import Item, find_inputs
from kaizen.inference.model import Model
from kaizen.inference.places import shards_of_project
from kaizen.views.augment import normalise

# The sizes of the batches, after each other and again.
BATCHES = (1, 2, 7, 64)
TOLERANCE = 1e-4
MOST_IMAGES, FEW_IMAGES = 10_000, 512

# Levels uint8 [N, C, size, size] to probabilities [N, K] and features [N, F].
Answer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class RealImages:
    """Images to check with, as levels uint8 [N, C, size, size], and their places among the model's
    classes, -1 where they are of none; ``source`` says where they come from.
    """

    levels: np.ndarray
    classes: np.ndarray
    source: str

    def __len__(self) -> int:
        return len(self.levels)


@dataclass
class Compared:
    """What was seen: the largest difference of a probability, and of a feature as a share of the
    largest one (or of 1); how many images have a known class, and for how many model and export
    were right; for how many the answer was the same.
    """

    images: int = 0
    probability: float = 0.0
    feature: float = 0.0
    known: int = 0
    right: list[int] = field(default_factory=lambda: [0, 0])
    same: int = 0

    def accuracy(self) -> list[float] | None:
        """In percent, of the model and of the export; None where no image has a known class."""
        return [100 * count / self.known for count in self.right] if self.known else None

    def worst(self) -> float:
        """The larger of the two differences."""
        return max(self.probability, self.feature)


def real_images(model: Model, given: Sequence[str], folder: Path, most: int) -> RealImages:
    """At most ``most`` images, evenly spaced: those of ``given`` (as for `kaizen predict`), else of
    the test shards of the project that the model's ``folder`` lies in, else scikit-learn's digits.

    Raises KaizenError where an image of those given cannot be read.
    """
    what, source = list(given), ", ".join(given)
    if not given:
        what = [str(path) for path in shards_of_project(folder)]
        source = f"{len(what)} test shards beside the model"
    if not what:
        levels = _levels(model, _digits(most))
        return RealImages(levels, np.full(len(levels), -1), "scikit-learn's digits")
    inputs = find_inputs(what, model.classes)
    step = -(-len(inputs) // most)
    items = list(itertools.islice(inputs.items(), 0, None, step))
    places = {name: place for place, name in enumerate(model.classes)}
    classes = [places.get(item.true_class or "", -1) for item in items]
    return RealImages(_levels(model, items), np.array(classes), source)


def _digits(most: int) -> list[Item]:
    """The first of 1,797 handwritten digits, 8 x 8, grey."""
    from sklearn.datasets import load_digits

    def item(number: int, image: np.ndarray) -> Item:
        pixels = np.rint(image * (255 / 16)).astype(np.uint8)
        return Item(f"digit {number}", None, lambda: pixels)

    return [item(number, image) for number, image in enumerate(load_digits().images[:most])]


def _levels(model: Model, items: Sequence[Item]) -> np.ndarray:
    """What the model sees of images, before it is normalised."""
    image = model.config.image
    mean, std = (np.array(values, np.float64)[:, None, None] for values in (image.mean, image.std))
    levels = np.empty((len(items), image.channels, image.size, image.size), np.uint8)
    for place, item in enumerate(items):
        try:
            seen = model.prepare_numpy(item.read(), item.name)
        except ValueError as error:
            raise KaizenError(f"{item.name} cannot be read as an image: {error}") from error
        levels[place] = np.rint((seen * std + mean) * 255)
    return levels


def compare(model: Model, answer: Answer, images: RealImages) -> Compared:
    """Ask both about all images. Raises KaizenError where an answer is not finite."""
    found = Compared()
    largest = 1.0
    feature = 0.0
    for rows in _rows(len(images)):
        levels, classes = images.levels[rows], images.classes[rows]
        expected = model.answer(normalised(levels, model))
        got = answer(levels)
        if not all(np.isfinite(one).all() for one in (*expected, *got)):
            raise KaizenError(
                "model or export gives what is no number for an image; train it again with "
                "train.precision: float32"
            )
        found.images += len(levels)
        found.probability = max(found.probability, float(np.abs(expected[0] - got[0]).max()))
        feature = max(feature, float(np.abs(expected[1] - got[1]).max()))
        largest = max(largest, float(np.abs(expected[1]).max()))
        taken = [one[0].argmax(axis=1) for one in (expected, got)]
        found.same += int((taken[0] == taken[1]).sum())
        found.known += int((classes >= 0).sum())
        for place in (0, 1):
            found.right[place] += int((taken[place] == classes).sum())
    found.feature = feature / largest
    return found


def normalised(levels: np.ndarray, model: Model) -> np.ndarray:
    """Levels as the model's own preparation normalises them: float32."""
    floats = torch.from_numpy(levels).to(torch.float32)
    return normalise(floats, model.config.image).numpy()


def _rows(count: int) -> Iterator[slice]:
    begin = 0
    for size in itertools.cycle(BATCHES):
        if begin >= count:
            return
        yield slice(begin, min(count, begin + size))
        begin += size


def answer_of(session: Any) -> Answer:
    """A session of onnxruntime as a function."""

    def answer(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities, features = session.run(list(OUTPUTS), {INPUT: levels})
        return probabilities, features

    return answer
