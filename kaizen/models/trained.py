"""The network of a step, from its parameters."""

from __future__ import annotations

from kaizen.models.feature_classifier import (
    FeatureClassifier,
    architecture_of,
    build_feature_classifier,
)
from kaizen.plan.specs import StepSpec


def untrained_model(step: StepSpec) -> FeatureClassifier:
    """The network of a step, with its initial weights, on the CPU."""
    model = build_feature_classifier(architecture_of(step))
    model.labels = step.logits
    return model
