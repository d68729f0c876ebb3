"""Parameters of the analytic heads, and of which head predicts."""

from __future__ import annotations

from typing import Annotated, Literal

from kaizen.params.base import Field, NonNegative, Probability, Seed, doc, parameters
from kaizen.params.registry import ANALYTIC_HEADS, TRAINED

# Checked by kaizen/params/checks.py; the schema names them for editors.
HeadName = Annotated[str, Field(json_schema_extra={"enum": [TRAINED, *ANALYTIC_HEADS]})]


@parameters
class HeadsParams:
    """The analytic heads of `grid.heads`: closed forms of statistics that follow the encoder's
    drift (docs/heads.md). Changing them trains nothing again, unless
    `replay.policy: prototypes` replays what it draws from these statistics.
    """

    drift: Literal["none", "linear", "affine"] = doc(
        "affine", "the map that carries earlier classes' statistics to the next encoder"
    )
    residual: bool = doc(True, "add to the mapped scatter what the map leaves over")
    covariance: Literal["shared", "per_class"] = doc(
        "shared",
        "shared: one scatter of all classes; per_class: one of each, so that classes weigh alike "
        "whatever their number of images (memory: docs/heads.md)",
    )
    shrinkage: Literal["auto"] | Probability = doc(
        "auto",
        "of lda and ridge, 0 (none) to 1; auto: chosen on the current task's images (lda: OAS, "
        "ridge: generalised cross-validation)",
    )
    map_ridge: Literal["auto"] | NonNegative = doc(
        "auto",
        "penalty of the map, as a share of the mean variance of a feature; auto: chosen by "
        "generalised cross-validation",
    )
    random_features: Annotated[int, Field(ge=0, le=5000)] = doc(
        0, "so many random ReLU features of the features are read instead (RanPAC); 0: none"
    )
    seed: Seed = doc(0, "of the random features")


@parameters
class DeployParams:
    """What is used outside the experiment."""

    head: HeadName = doc(TRAINED, "the head that predicts: one of grid.heads")
