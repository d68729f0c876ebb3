"""Parameters of knowledge distillation from the prior step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kaizen.params.base import (
    STRICT,
    Field,
    NonNegative,
    NonNegativeInt,
    Positive,
    Temperature,
    doc,
    section,
)
from kaizen.params.registry import FEATURE_DISTILLERS

# Checked by kaizen/params/validation.py; the schema names the distillers for editors.
DistillerName = Annotated[str, Field(json_schema_extra={"enum": ["auto", *FEATURE_DISTILLERS]})]


@dataclass(frozen=True)
class ContrastiveDistillParams:
    """Contrastive feature distillation (fidelity.md §5)."""

    __pydantic_config__ = STRICT

    temperature: Temperature = doc("of the softmax over all projections", 0.2)


@dataclass(frozen=True)
class DecorrelativeDistillParams:
    """Decorrelative feature distillation (fidelity.md §5)."""

    __pydantic_config__ = STRICT

    off_diagonal: NonNegative = doc("weight of the off-diagonal correlations", 5e-3)
    scale: Positive = doc("of the whole loss", 0.1)


@dataclass(frozen=True)
class PrototypeDistillParams:
    """Prototype distillation (fidelity.md §5, "knowledge")."""

    __pydantic_config__ = STRICT

    temperature: Temperature = doc("of both softmaxes over prototypes", 0.1)


@dataclass(frozen=True)
class FeatureDistillParams:
    """Feature distillation L_FE^KD (fidelity.md §5)."""

    __pydantic_config__ = STRICT

    distiller: DistillerName = doc(
        "the loss between prediction and frozen projection, a file of kaizen/distill/; auto: the "
        "SSL method's own "
        "(kaizen/params/registry.py)",
        "auto",
    )
    weight: NonNegative | None = doc(
        "lambda_f; null: the distiller's own (kaizen/params/registry.py)", None
    )
    predictor_hidden: NonNegativeInt = doc(
        "width of the distillation predictor's hidden layer (the paper: 2048); 0: no predictor", 256
    )
    contrastive: ContrastiveDistillParams = section(ContrastiveDistillParams)
    decorrelative: DecorrelativeDistillParams = section(DecorrelativeDistillParams)
    prototype: PrototypeDistillParams = section(PrototypeDistillParams)


@dataclass(frozen=True)
class ClassifierDistillParams:
    """Classifier distillation L_C^KD (fidelity.md §6)."""

    __pydantic_config__ = STRICT

    weight: NonNegative = doc("lambda_c", 2.0)
    # Beyond 1e9 even float64 hardly tells the softened predictions apart.
    temperature: Annotated[float, Field(ge=1e-30, le=1e9)] = doc(
        "softens teacher and student alike; 1 in the paper", 1.0
    )


@dataclass(frozen=True)
class DistillParams:
    """Knowledge distillation from the prior step."""

    __pydantic_config__ = STRICT

    feature: FeatureDistillParams = section(FeatureDistillParams)
    classifier: ClassifierDistillParams = section(ClassifierDistillParams)
