"""A trained model from its published folder, or from a step's parameters and checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import read_json
from kaizen.models.feature_classifier import (
    Architecture,
    FeatureClassifier,
    build_feature_classifier,
    load_weights,
    read_checkpoint,
)
from kaizen.params import ImageParams, ModelParams, from_dict
from kaizen.store.store import RECORD, mismatch

CHECKPOINT = "model.safetensors"


def untrained_model(step: Mapping[str, Any]) -> FeatureClassifier:
    """The network of a step with these parameters (``params`` of its record), with its initial
    weights, on the CPU.
    """
    image = from_dict(ImageParams, step["image"])
    architecture = Architecture(
        model=from_dict(ModelParams, step["model"]),
        channels=image.channels,
        logits=step["num_classes"],
        seed=step["seed"],
        stem_padding_2=step["stem_padding_2"],
        image_size=image.size,
    )
    model = build_feature_classifier(architecture)
    model.labels = step.get("logits")
    return model


def load_model(folder: Path) -> tuple[FeatureClassifier, ImageParams]:
    """The model of a step in eval mode, on the CPU, and what its images must be like.

    ``folder`` holds the step's files, as results/models/<run>/step-NN does. Raises KaizenError
    where the record is missing, or the checkpoint is not the recorded one.
    """
    record = read_json(folder / RECORD)
    try:
        step, entry = record["params"], record["files"][CHECKPOINT]
    except (KeyError, TypeError) as error:
        raise KaizenError(
            f"{folder / RECORD} is not the record of a step; name a folder with a model"
        ) from error
    if problem := mismatch(folder / CHECKPOINT, entry):
        raise KaizenError(
            f"{folder / CHECKPOINT} {problem}; `snakemake --cores all` puts the right one in its "
            "place"
        )
    model = untrained_model(step)
    load_weights(model, read_checkpoint(folder / CHECKPOINT), folder / CHECKPOINT)
    return model.eval(), from_dict(ImageParams, step["image"])
