"""A trained model from its published folder, or from a step's parameters and checkpoint."""

from __future__ import annotations

from pathlib import Path

from kaizen.data.names import CHECKPOINT
from kaizen.errors import KaizenError
from kaizen.models.feature_classifier import (
    FeatureClassifier,
    architecture_of,
    build_feature_classifier,
    load_weights,
    read_checkpoint,
)
from kaizen.params import ImageParams
from kaizen.plan.specs import StepSpec, step_spec
from kaizen.store.records import RECORD, read_record


def untrained_model(step: StepSpec) -> FeatureClassifier:
    """The network of a step, with its initial weights, on the CPU."""
    model = build_feature_classifier(architecture_of(step))
    model.labels = step.logits
    return model


def load_model(folder: Path) -> tuple[FeatureClassifier, ImageParams]:
    """The model of a step in eval mode, on the CPU, and what its images must be like.

    ``folder`` holds the step's files, as results/models/<run>/step-NN does. Raises KaizenError
    where the record is missing, or the checkpoint is not the recorded one.
    """
    record = read_record(folder / RECORD)
    entry = record.files.get(CHECKPOINT) if record is not None else None
    if record is None or entry is None:
        raise KaizenError(
            f"{folder / RECORD} is not the record of a step; name a folder with a model"
        )
    if problem := entry.mismatch(folder / CHECKPOINT):
        raise KaizenError(
            f"{folder / CHECKPOINT} {problem}; `snakemake --cores all` puts the right one in its "
            "place"
        )
    step = step_spec(record)
    model = untrained_model(step)
    load_weights(model, read_checkpoint(folder / CHECKPOINT), folder / CHECKPOINT)
    return model.eval(), step.image
