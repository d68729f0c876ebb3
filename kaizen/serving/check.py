"""Whether a new step may answer in the place of the one that does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaizen.errors import KaizenError, names_text
from kaizen.inference.answering import Answering
from kaizen.inference.places import shards_of_project
from kaizen.serving.held_out import answers, held_out
from kaizen.serving.served import Served


@dataclass(frozen=True)
class Rules:
    """By what a new step is judged: its accuracy on the present model's classes may be lower by
    ``max_drop`` (0 to 1), measured on at most ``images`` of the ``places`` (shards, or folders of
    classes; none: the test shards of the project that the step lies in).
    """

    max_drop: float = 0.4
    images: int = 400
    places: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Raises KaizenError that names the option where a value is out of its bounds."""
        if not 0 <= self.max_drop <= 1:
            raise KaizenError(
                f"--max-drop: {100 * self.max_drop:g} must be from 0 to 100, in points of accuracy"
            )
        if not 1 <= self.images <= 100_000:
            raise KaizenError(f"--check-images: {self.images} must be from 1 to 100000")
        for place in self.places:
            if not place.exists():
                raise KaizenError(f"--check: {place} does not exist; name a shard, or a folder")


def warm_up(model: Answering, batch_size: int) -> None:
    """Let a model answer once alone and once in a full batch; raises KaizenError where it answers
    what is no probability of its classes.
    """
    picture = model.prepare_numpy(np.full((32, 32, 3), 128, np.uint8), "a grey image")
    for size in sorted({1, batch_size}):
        probabilities, features = model.answer(np.stack([picture] * size))
        if probabilities.shape != (size, len(model.classes)) or features.shape[0] != size:
            raise KaizenError(
                f"it answers {list(probabilities.shape)} numbers, not a probability of each of its "
                f"{len(model.classes)} classes"
            )
        if not (np.isfinite(probabilities).all() and np.isfinite(features).all()):
            raise KaizenError("it answers what is no number (NaN, or infinite)")
        if not np.allclose(probabilities.sum(axis=1), 1, atol=0.01) or probabilities.min() < 0:
            raise KaizenError("its probabilities are none: they do not add up to 1")


def check(new: Answering, old: Served, rules: Rules, batch_size: int) -> dict[str, Any]:
    """Warm a new model up and compare it with the old one; returns what was found.

    Raises KaizenError with the reason where it may not answer: what is no number, a class that it
    does not know any more, an accuracy on the old model's classes that is too low.
    """
    missing = sorted(set(old.model.classes) - set(new.classes))
    if missing:
        raise KaizenError(
            f"it does not know {names_text(missing)} any more, which {old.found.name} knows"
        )
    if len(set(new.classes)) != len(new.classes):
        raise KaizenError("it has a class twice")
    warm_up(new, batch_size)
    images = held_out(_places(old, rules), old.model.classes, rules.images)
    before, after = answers(old.model, images), answers(new, images)
    if not after.finite:
        raise KaizenError("it answers what is no number for held-out images")
    if before.accuracy is None or after.accuracy is None:
        return {"images": 0, "note": "no held-out images were found: its accuracy was not compared"}
    facts = {"images": after.images, "before": before.accuracy, "after": after.accuracy}
    if after.accuracy < before.accuracy - rules.max_drop - 1e-9:
        raise KaizenError(
            f"on {after.images} held-out images of the classes that {old.found.name} knows it is "
            f"right in {100 * after.accuracy:.1f} %, {old.found.name} in "
            f"{100 * before.accuracy:.1f} %: more than {100 * rules.max_drop:g} points less "
            "(--max-drop)"
        )
    return facts


def look_at_places(rules: Rules, model: Answering) -> int:
    """Show a model the held-out images of the places that were named, and return how many of its
    classes there are; raises KaizenError where a place is none, or an image cannot be read, for
    then no newer step would ever be taken.
    """
    return answers(model, held_out(rules.places, model.classes, rules.images)).images


def _places(old: Served, rules: Rules) -> Sequence[Path]:
    return rules.places or shards_of_project(old.found.path, old.found.step)
