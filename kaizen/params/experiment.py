"""Parameters of the grid, the evaluation and the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from kaizen.params.base import STRICT, Count, Field, Fraction, NonNegative, Positive, Seed, doc
from kaizen.params.registry import SSL_METHODS

# Checked by kaizen/params/validation.py, so that a method needs no second list here; the schema
# names them for editors.
MethodName = Annotated[str, Field(json_schema_extra={"enum": list(SSL_METHODS)})]


@dataclass(frozen=True)
class VariantParams:
    """A named set of switches: which of the method's parts a run uses."""

    __pydantic_config__ = STRICT

    feature_distill: bool = doc("distil the features from the prior step (L_FE^KD)", True)
    classifier_distill: bool = doc("distil the classifier from the prior step (L_C^KD)", True)
    replay: bool = doc("train on the replay shard beside the task shard", True)
    joint: bool = doc(
        "train once on all tasks together, the upper bound; needs the others false", False
    )


VARIANTS = {
    "kaizen": VariantParams(True, True, True),
    "kaizen_no_replay": VariantParams(True, True, False),
    "cassle": VariantParams(True, False, False),
    "no_distill": VariantParams(False, False, False),
    "joint": VariantParams(False, False, False, joint=True),
}


@dataclass(frozen=True)
class GridParams:
    """The points of the grid; a run is one SSL method x variant x replay size x seed."""

    __pydantic_config__ = STRICT

    methods: Annotated[list[MethodName], Field(min_length=1)] = doc(
        "SSL methods, files of kaizen/ssl/", ["simclr"]
    )
    variants: Annotated[list[str], Field(min_length=1)] = doc(
        "built in: kaizen, kaizen_no_replay, cassle, no_distill, joint; or names under `variants`",
        ["kaizen", "cassle", "no_distill"],
    )
    seeds: Annotated[list[Seed], Field(min_length=1)] = doc("one run per seed", [0])
    specialists: bool = doc(
        "also train one model per task alone, which forward transfer compares with", True
    )


@dataclass(frozen=True)
class EvaluationParams:
    """Linear probe and kNN beside the trained classifier."""

    __pydantic_config__ = STRICT

    probe_l2: NonNegative = doc("linear probe: L2 penalty on its weights", 1e-3)
    probe_iterations: Count = doc("linear probe: L-BFGS iterations", 100)
    probe_fraction: Fraction = doc(
        "share of the training rows that probe and kNN learn from, chosen as by "
        "train.data_fraction",
        1.0,
    )
    knn_k: Count = doc("kNN: neighbours", 20)
    knn_temperature: Positive = doc("kNN: weights are exp(cosine / temperature)", 0.07)
    batch_size: Count = doc("images per forward pass", 512)


@dataclass(frozen=True)
class ReportParams:
    """Tables and figures."""

    __pydantic_config__ = STRICT

    title: str = doc("heading of report and figures", "Kaizen")
    formats: Annotated[list[Literal["png", "svg", "pdf"]], Field(min_length=1)] = doc(
        "files made of each figure", ["png", "svg"]
    )
