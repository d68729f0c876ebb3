"""The one table of which parameter of a training step has no effect when.

What has none is set to its default, so that a change of it changes no key. A row must be certain:
the step's files are the same bytes whatever the parameter's value (tests/test_effective.py trains
with two).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from kaizen.plan.specs import StepSpec

Condition = Callable[[StepSpec], bool]


def _small_resnet(step: StepSpec) -> bool:
    return step.model.backbone == "small_resnet"


def _torchvision(step: StepSpec) -> bool:
    return step.model.backbone in ("resnet18", "resnet50")


def _cifar_stem(step: StepSpec) -> bool:
    return _torchvision(step) and step.model.stem == "cifar"


def _lars(step: StepSpec) -> bool:
    return step.train.optimizer == "lars"


def _warms_up(step: StepSpec) -> bool:
    return step.train.warmup_epochs > 0


def _has_cosine(step: StepSpec) -> bool:
    return step.train.warmup_epochs < step.train.epochs


def _grows_views(step: StepSpec) -> bool:
    return step.train.full_size_from > 0


def _starts_small(step: StepSpec) -> bool:
    return step.train.start_size < 1


def _colour(step: StepSpec) -> bool:
    return step.image.channels > 1


def _can_jitter(step: StepSpec) -> bool:
    """Whether an operation of the jitter is in use (`kaizen.views.colour.jitter_ranges`)."""
    jitter = step.augment.jitter
    of_colour = (jitter.saturation, jitter.hue) if _colour(step) else ()
    return any((jitter.brightness, jitter.contrast, *of_colour))


def _jitters(step: StepSpec) -> bool:
    return step.augment.jitter.probability > 0


def _jitters_colour(step: StepSpec) -> bool:
    return _jitters(step) and _colour(step)


def _blurs(step: StepSpec) -> bool:
    return any(step.augment.blur)


def _has_queue(step: StepSpec) -> bool:
    return bool(step.ssl.queue_size)


def _warms_temperature(step: StepSpec) -> bool:
    return bool(step.ssl.teacher_temperature_warmup_epochs)


# A parameter's place in the specification, under `ssl` with its method's name -> when it has an
# effect. Rows are applied from the top: one may rely on what those above it have set.
HAS_EFFECT: dict[str, Condition] = {
    "model.width": _small_resnet,
    "model.stem": _torchvision,
    "stem_padding_2": _cifar_stem,
    "train.lars_eta": _lars,
    "train.warmup_start_lr": _warms_up,
    "static_warmup": _warms_up,
    "train.min_lr": _has_cosine,
    "train.start_size": _grows_views,
    "train.full_size_from": _starts_small,
    "augment.greyscale": _colour,
    "augment.jitter.probability": _can_jitter,
    "augment.jitter.brightness": _jitters,
    "augment.jitter.contrast": _jitters,
    "augment.jitter.saturation": _jitters_colour,
    "augment.jitter.hue": _jitters_colour,
    "augment.blur_sigma": _blurs,
    "ssl.swav.queue_from_epoch": _has_queue,
    "ssl.dino.teacher_temperature_start": _warms_temperature,
}

# Numbers of epochs that are alike from the last epoch on: a larger one is set to the epochs.
UP_TO_THE_EPOCHS = (
    "ssl.swav.queue_from_epoch",
    "ssl.swav.freeze_prototypes_epochs",
    "ssl.dino.freeze_last_layer_epochs",
)


def effective(step: StepSpec) -> StepSpec:
    """The step with every parameter that has no effect at its default, and equal ones alike."""
    for row, has_effect in HAS_EFFECT.items():
        place = _place(step, row)
        if place is not None and not has_effect(step):
            step = _with(step, place, _default(step, place))
    for row in UP_TO_THE_EPOCHS:
        place = _place(step, row)
        # One that has no effect at all stays at its default.
        if place is not None and HAS_EFFECT.get(row, _always)(step):
            step = _with(step, place, min(_value(step, place), step.train.epochs))
    return step


def _always(step: StepSpec) -> bool:
    return True


def _value(values: Any, place: str) -> Any:
    for name in place.split("."):
        values = getattr(values, name)
    return values


def _place(step: StepSpec, row: str) -> str | None:
    """Where a step has a row's parameter; None for one of another method."""
    if not row.startswith("ssl."):
        return row
    _, method, name = row.split(".")
    return f"ssl.{name}" if method == step.method else None


def _default(step: StepSpec, place: str) -> Any:
    section, _, name = place.rpartition(".")
    kind: Any = type(_value(step, section)) if section else StepSpec
    (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _with(values: Any, place: str, value: Any) -> Any:
    """A copy of nested dataclasses with another value at ``place``."""
    name, _, rest = place.partition(".")
    return dataclasses.replace(
        values, **{name: _with(getattr(values, name), rest, value) if rest else value}
    )
