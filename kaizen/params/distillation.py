"""Parameters of knowledge distillation from the prior step."""

from __future__ import annotations

from typing import Annotated, Literal

from kaizen.params.base import (
    Field,
    NonNegative,
    NonNegativeInt,
    Positive,
    Temperature,
    doc,
    parameters,
    section,
)
from kaizen.params.registry import FEATURE_DISTILLERS

# Checked by kaizen/params/checks.py; the schema names the distillers for editors.
DistillerName = Annotated[str, Field(json_schema_extra={"enum": ["auto", *FEATURE_DISTILLERS]})]


@parameters
class ContrastiveDistillParams:
    """Contrastive feature distillation (fidelity.md §5)."""

    temperature: Temperature = doc(0.2, "of the softmax over all projections")


@parameters
class DecorrelativeDistillParams:
    """Decorrelative feature distillation (fidelity.md §5)."""

    off_diagonal: NonNegative = doc(5e-3, "weight of the off-diagonal correlations")
    scale: Positive = doc(0.1, "of the whole loss")


@parameters
class PrototypeDistillParams:
    """Prototype distillation (fidelity.md §5, "knowledge")."""

    temperature: Temperature = doc(0.1, "of both softmaxes over prototypes")


@parameters
class FeatureDistillParams:
    """Feature distillation L_FE^KD (fidelity.md §5)."""

    distiller: DistillerName = doc(
        "auto",
        "the loss between prediction and frozen projection, a file of kaizen/distill/; auto: the "
        "SSL method's own (kaizen/params/registry.py)",
    )
    weight: NonNegative | None = doc(
        None, "lambda_f; null: the distiller's own (kaizen/params/registry.py)"
    )
    predictor_hidden: NonNegativeInt = doc(
        256, "width of the distillation predictor's hidden layer (the paper: 2048); 0: no predictor"
    )
    contrastive: ContrastiveDistillParams = section(ContrastiveDistillParams)
    decorrelative: DecorrelativeDistillParams = section(DecorrelativeDistillParams)
    prototype: PrototypeDistillParams = section(PrototypeDistillParams)


@parameters
class ClassifierDistillParams:
    """Classifier distillation L_C^KD (fidelity.md §6)."""

    weight: NonNegative = doc(2.0, "lambda_c")
    # Beyond 1e9 the softened predictions hardly differ, even in float64.
    temperature: Annotated[float, Field(ge=1e-30, le=1e9)] = doc(
        1.0, "softens teacher and student alike; 1 in the paper"
    )
    logits: Literal["all", "old"] = doc(
        "all",
        "all: softmaxes over every logit (the paper); old: distillation over those of the earlier "
        "tasks' classes, and the cross-entropy of the task's own images over those of its classes",
    )


@parameters
class DistillParams:
    """Knowledge distillation from the prior step."""

    feature: FeatureDistillParams = section(FeatureDistillParams)
    classifier: ClassifierDistillParams = section(ClassifierDistillParams)
