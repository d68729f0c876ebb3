"""What a model says of itself, whichever way it was loaded: the JSON of `facts()`, and what an
exported file carries. No torch.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import kaizen
from kaizen.models.config import ModelConfig, Preprocessing
from kaizen.params import ImageParams
from kaizen.params.registry import ANALYTIC_HEADS, TRAINED
from kaizen.params.typed import from_dict, to_dict

FORMAT = 1
# Beyond these nothing was trained, and an image or an answer of that size would fill the memory.
_MOST_SIDE, _MOST_CLASSES, _MOST_FEATURES, _MOST_TEXT = 2048, 1 << 20, 1 << 20, 1 << 16


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model in words and numbers.

    ``classes`` are the names of the K classes seen so far in the order of the answers, ``labels``
    their labels; ``key`` is the step's, ``lineage`` are the keys of the steps before it; ``image``
    and ``preprocessing`` are how an image is brought to the network; ``head`` is what answers.
    ``numbers`` is how an exported file holds its weights, ``accuracy`` what that costs, in percent
    of ``checked`` images: before and after. ``deviation`` is the largest difference of a
    probability and of a feature from the model's own that was seen when the file was made.
    """

    key: str
    lineage: list[str]
    method: str
    backbone: str
    classes: list[str]
    labels: list[int]
    image: ImageParams
    preprocessing: Preprocessing
    head: str
    feature_dim: int
    kaizen: str
    numbers: str = "float32"
    checked: int | None = None
    accuracy: list[float] | None = None
    deviation: list[float] | None = None
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """The JSON of it, with the input's size and channels at its top."""
        return to_dict(self) | {"size": self.image.size, "channels": self.image.channels}


def facts_of(config: ModelConfig, preprocessing: Preprocessing, feature_dim: int) -> ModelFacts:
    """What a folder's files say, of an encoder with ``feature_dim`` features."""
    # The step has more parameters of images than these.
    image = {field.name: getattr(config.image, field.name) for field in _IMAGE_FIELDS}
    return ModelFacts(
        key=config.key,
        lineage=list(config.lineage),
        method=config.method,
        backbone=config.network.backbone,
        classes=[known.name for known in config.classes],
        labels=[known.label for known in config.classes],
        image=ImageParams(**image),
        preprocessing=preprocessing,
        head=preprocessing.head,
        feature_dim=feature_dim,
        kaizen=kaizen.__version__,
    )


_IMAGE_FIELDS = dataclasses.fields(ImageParams)


def facts_from_json(values: Any) -> ModelFacts:
    """What `ModelFacts.to_json` gave; raises ValueError with the reason where it is none."""
    if not isinstance(values, dict):
        raise ValueError("it is no mapping")
    try:
        found = from_dict(
            ModelFacts, {k: v for k, v in values.items() if k not in ("size", "channels")}
        )
    except TypeError as error:
        raise ValueError(str(error)) from error
    if problem := _problem(found):
        raise ValueError(problem)
    return found


def _problem(facts: ModelFacts) -> str:
    """What no export can have written; empty where there is nothing."""
    if facts.format != FORMAT:
        return f"format {facts.format}, and this version of Kaizen reads {FORMAT}"
    names = facts.classes
    if not 1 <= len(names) <= _MOST_CLASSES or len(facts.labels) != len(names):
        return "classes and labels are not as many, or none"
    if len(set(names)) != len(names) or any(len(name) > _MOST_TEXT for name in names):
        return "a class is named twice, or its name is too long"
    if not 1 <= facts.feature_dim <= _MOST_FEATURES:
        return f"{facts.feature_dim} features are none"
    if facts.head != TRAINED and facts.head not in ANALYTIC_HEADS:
        return f"head {facts.head[:40]!r} is none"
    return _image_problem(facts.image) or _crop_problem(facts.preprocessing)


def _image_problem(image: ImageParams) -> str:
    sides = [image.size] if image.load_size is None else [image.size, image.load_size]
    if image.channels not in (1, 3) or not all(1 <= side <= _MOST_SIDE for side in sides):
        return f"images of {image.channels} channels and {sides} pixels are none"
    if len(image.mean) != image.channels or len(image.std) != image.channels:
        return "mean and std need a value for each channel"
    return ""


def _crop_problem(preprocessing: Preprocessing) -> str:
    sides = (preprocessing.resize, preprocessing.bit_depth)
    if not 0 < preprocessing.test_crop <= 1 or any(n is not None and n < 1 for n in sides):
        return "test_crop lies above 0 and up to 1, resize and bit_depth are at least 1"
    return ""
