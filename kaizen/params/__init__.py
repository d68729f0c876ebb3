"""What can be asked for: every parameter with its type, bounds, default and meaning, what can be
named, and the checks of what a person wrote. No torch, and nothing that acts on a value.

The classes are plain frozen dataclasses, so that a training job needs neither pydantic nor YAML;
pydantic checks them where a person wrote the values (`kaizen.params.validation`). `from_dict`
builds them from JSON that was checked before.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from kaizen.params.base import doc, merge, parameters, section
from kaizen.params.data import (
    AugmentParams,
    DatasetParams,
    ImageParams,
    InputParams,
    JitterParams,
    LabelsParams,
    ReplayParams,
    ReplayUnit,
    SplitParams,
    SyntheticParams,
)
from kaizen.params.distillation import (
    ClassifierDistillParams,
    ContrastiveDistillParams,
    DecorrelativeDistillParams,
    DistillParams,
    FeatureDistillParams,
    PrototypeDistillParams,
)
from kaizen.params.experiment import (
    VARIANTS,
    EvaluationParams,
    GridParams,
    ReportParams,
    VariantParams,
)
from kaizen.params.heads import DeployParams, HeadsParams
from kaizen.params.methods import (
    BarlowTwinsParams,
    BYOLParams,
    DINOParams,
    MoCoV2PlusParams,
    NNCLRParams,
    SimCLRParams,
    SimSiamParams,
    SSLParams,
    SwAVParams,
    VICRegParams,
)
from kaizen.params.training import (
    ModelParams,
    NetworkParams,
    OptimisationParams,
    ReferenceCompatParams,
    RuntimeParams,
    TrainParams,
)
from kaizen.params.typed import from_dict

__all__ = [
    "VARIANTS",
    "AugmentParams",
    "BYOLParams",
    "BarlowTwinsParams",
    "ClassifierDistillParams",
    "ContrastiveDistillParams",
    "DINOParams",
    "DatasetParams",
    "DecorrelativeDistillParams",
    "DeployParams",
    "DistillParams",
    "EvaluationParams",
    "FeatureDistillParams",
    "GridParams",
    "HeadsParams",
    "ImageParams",
    "InputParams",
    "JitterParams",
    "LabelsParams",
    "MoCoV2PlusParams",
    "ModelParams",
    "NNCLRParams",
    "NetworkParams",
    "OptimisationParams",
    "Params",
    "PrototypeDistillParams",
    "ReferenceCompatParams",
    "ReplayParams",
    "ReplayUnit",
    "ReportParams",
    "RuntimeParams",
    "SSLParams",
    "SimCLRParams",
    "SimSiamParams",
    "SplitParams",
    "SwAVParams",
    "SyntheticParams",
    "TrainParams",
    "VICRegParams",
    "VariantParams",
    "for_method",
    "from_dict",
    "merge",
]


@parameters
class Params:
    """The whole of params.yaml."""

    dataset: DatasetParams = section(DatasetParams)
    split: SplitParams = section(SplitParams)
    labels: LabelsParams = section(LabelsParams)
    replay: ReplayParams = section(ReplayParams)
    variants: dict[str, VariantParams] = doc({}, "further variants by name")
    grid: GridParams = section(GridParams)
    image: InputParams = section(InputParams)
    augment: AugmentParams = section(AugmentParams)
    model: ModelParams = section(ModelParams)
    ssl: SSLParams = section(SSLParams)
    distill: DistillParams = section(DistillParams)
    train: TrainParams = section(TrainParams)
    per_method: dict[str, dict[str, Any]] = doc(
        {},
        "what an SSL method has otherwise: by its name, sections augment, distill, model and "
        "train to lay over the common ones",
    )
    heads: HeadsParams = section(HeadsParams)
    deploy: DeployParams = section(DeployParams)
    evaluation: EvaluationParams = section(EvaluationParams)
    report: ReportParams = section(ReportParams)
    reference_compat: ReferenceCompatParams = section(ReferenceCompatParams)
    runtime: RuntimeParams = section(RuntimeParams)


def for_method(params: Params, method: str) -> Params:
    """The parameters with what `per_method` says of ``method`` laid over them."""
    overlay = params.per_method.get(method)
    if not overlay:
        return params
    values = dataclasses.asdict(params)
    return from_dict(Params, merge(values, overlay))
