"""What stands beside a checkpoint, so that its folder can be copied anywhere and loaded from there:
`config.json` says what the model is, `preprocessor_config.json` how an image is brought to it.

The step writes the first, and nothing in it depends on more than the step's key. The second is the
evaluation's and the ingestion's part (`image.test_crop` is in no step's key): the summary writes
it. No torch: reports and the planner's side read both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kaizen.data.names import CONFIG_FILE, PREPROCESSING_FILE
from kaizen.errors import KaizenError
from kaizen.files import read_json, write_json
from kaizen.params import ImageParams, NetworkParams
from kaizen.params.registry import ANALYTIC_HEADS, BACKBONES, TIMM, TRAINED
from kaizen.params.typed import from_dict, to_dict
from kaizen.plan.specs import StepSpec

FORMAT = 1
# Beyond these no training goes, and a network of that size would fill the memory unseen.
_MOST_SIDE, _MOST_WIDTH, _MOST_LAYER, _MOST_LOGITS = 1024, 256, 1 << 16, 1 << 20

T = TypeVar("T")


@dataclass(frozen=True)
class KnownClass:
    """A class that was learnt: its logit's position, its label, its name."""

    logit: int
    label: int
    name: str


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What config.json holds.

    ``network`` and ``stem_padding_2`` are the architecture, with ``logits`` outputs; ``classes``
    are those seen so far, in the order of their logits (others have one already where the head is
    fixed); ``image`` is the input's size, channels and normalisation, ``precision`` that of the
    step. ``key`` is the step's, ``lineage`` are the keys of the steps before it, the first first.
    """

    key: str
    lineage: list[str]
    method: str
    network: NetworkParams
    stem_padding_2: bool
    logits: int
    classes: list[KnownClass]
    image: ImageParams
    precision: str
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What preprocessor_config.json holds: how evaluation shows an image to the network, besides
    `ModelConfig.image`.

    ``test_crop`` is the share of each side whose centre is shown; ``resize`` the shorter side that
    larger files were shrunk to when they were ingested, ``bit_depth`` the bits of 16-bit grey
    (`dataset.resize`, `dataset.bit_depth`); None: as in params.yaml. ``head`` is what answers
    (`deploy.head`): the trained classifier, or an analytic head, whose file then lies beside it.
    """

    test_crop: float
    resize: int | None
    bit_depth: int | None
    head: str = TRAINED


def config_of(
    step: StepSpec, classes: Mapping[str, str], key: str, lineage: list[str]
) -> ModelConfig:
    """The configuration of a step's model; ``classes`` are those learnt so far, label -> name."""
    labels = step.logits or range(step.num_classes)
    return ModelConfig(
        key=key,
        lineage=lineage,
        method=step.method,
        network=step.model,
        stem_padding_2=step.stem_padding_2,
        logits=step.num_classes,
        classes=[
            KnownClass(logit, label, classes[str(label)])
            for logit, label in enumerate(labels)
            if str(label) in classes
        ],
        image=step.image,
        precision=step.train.precision,
    )


def write_config(config: ModelConfig, folder: Path) -> None:
    """Write config.json: the same bytes for the same model."""
    write_json(folder / CONFIG_FILE, to_dict(config))


def read_config(path: Path) -> ModelConfig:
    """Read a config.json; raises KaizenError that names it where it is none of this version's."""
    config = _read(ModelConfig, path)
    if problem := _problem(config):
        raise KaizenError(f"{path}: {problem}; copy the model's folder again, all of it")
    return config


def write_preprocessing(preprocessing: Preprocessing, path: Path) -> None:
    """Write a preprocessor_config.json."""
    write_json(path, vars(preprocessing))


def read_preprocessing(path: Path) -> Preprocessing:
    """Read a preprocessor_config.json; raises KaizenError that names it where it is none."""
    found = _read(Preprocessing, path)
    sides = (found.resize, found.bit_depth)
    if found.head != TRAINED and found.head not in ANALYTIC_HEADS:
        raise KaizenError(
            f"{path}: head {found.head[:40]!r} is none; copy the model's folder again, all of it"
        )
    if not 0 < found.test_crop <= 1 or any(side is not None and side < 1 for side in sides):
        raise KaizenError(
            f"{path}: test_crop lies above 0 and up to 1, resize and bit_depth are at least 1; "
            "copy the model's folder again, all of it"
        )
    return found


def preprocessing_path(folder: Path) -> Path:
    """Where a model's folder has its preprocessor_config.json."""
    return folder / PREPROCESSING_FILE


def _read(kind: type[T], path: Path) -> T:
    fix = "name a model's folder, results/models/<run>/step-NN or a copy of all of it"
    content = read_json(path, fix=fix)
    try:
        if isinstance(content, dict):
            return from_dict(kind, content)
        reason = "it is no mapping"
    except TypeError as error:
        reason = str(error)
    raise KaizenError(f"{path} is not what this version of Kaizen writes ({reason}); {fix}")


def _problem(config: ModelConfig) -> str:
    """What no training can have written; empty where there is nothing."""
    if config.format != FORMAT:
        return f"format {config.format}, and this version of Kaizen reads {FORMAT}"
    if config.precision not in ("auto", "float32", "bfloat16"):
        return f"precision {config.precision} is none"
    logits = [known.logit for known in config.classes]
    if not 1 <= config.logits <= _MOST_LOGITS or logits != sorted(set(logits)):
        return "the classes are not in the order of their logits"
    if not logits or not 0 <= logits[0] <= logits[-1] < config.logits:
        return f"the classes have other logits than the {config.logits} there are, or are none"
    return _image_problem(config.image) or _network_problem(config.network)


def _image_problem(image: ImageParams) -> str:
    if image.channels not in (1, 3) or not 1 <= image.size <= _MOST_SIDE:
        return f"images of {image.channels} channels and {image.size} pixels are none"
    if image.load_size is not None and not 1 <= image.load_size <= 2 * _MOST_SIDE:
        return f"image.load_size {image.load_size} is none"
    if len(image.mean) != image.channels or len(image.std) != image.channels:
        return f"mean and std need a value for each of the {image.channels} channels"
    if not all(map(math.isfinite, image.mean)) or not all(0 < std < math.inf for std in image.std):
        return "mean and std are numbers, and std is above 0"
    return ""


def _network_problem(network: NetworkParams) -> str:
    if network.backbone not in BACKBONES and not network.backbone.startswith(TIMM):
        return f"{network.backbone} is none of the backbones {', '.join(BACKBONES)}, {TIMM}…"
    hidden = network.classifier_hidden
    if not 1 <= network.width <= _MOST_WIDTH or not all(1 <= n <= _MOST_LAYER for n in hidden):
        return f"a network of width {network.width} and hidden layers {hidden} is none"
    return ""
