"""Parameters of the grid, the evaluation and the report."""

from __future__ import annotations

from typing import Annotated, Literal

from kaizen.params.base import Count, Field, Fraction, NonNegative, Positive, Seed, doc, parameters
from kaizen.params.heads import HeadName
from kaizen.params.registry import SSL_METHODS, TRAINED

# Checked by kaizen/params/checks.py, so that a method needs no second list here; the schema
# names them for editors.
MethodName = Annotated[str, Field(json_schema_extra={"enum": list(SSL_METHODS)})]


@parameters
class VariantParams:
    """A named set of switches: which of the method's parts a run uses."""

    feature_distill: bool = doc(True, "distil the features from the prior step (L_FE^KD)")
    classifier_distill: bool = doc(True, "distil the classifier from the prior step (L_C^KD)")
    replay: bool = doc(True, "train on the replay shard with the task shard")
    joint: bool = doc(False, "train once on all tasks together; needs the switches above false")
    self_supervised: bool = doc(
        True,
        "train the encoder by the SSL method (L_FE^CT); false: by the classifier's cross-entropy "
        "on the labelled images alone, once for the whole grid, as no method has a part in it; "
        "needs feature_distill false",
    )


VARIANTS = {
    "kaizen": VariantParams(True, True, True),
    "kaizen_no_replay": VariantParams(True, True, False),
    "cassle": VariantParams(True, False, False),
    "no_distill": VariantParams(False, False, False),
    "joint": VariantParams(False, False, False, joint=True),
    "supervised": VariantParams(False, False, False, self_supervised=False),
}


@parameters
class GridParams:
    """The points of the grid; a run is one SSL method x variant x replay size x seed."""

    methods: Annotated[list[MethodName], Field(min_length=1)] = doc(
        ["simclr"], "SSL methods, files of kaizen/ssl/"
    )
    variants: Annotated[list[str], Field(min_length=1)] = doc(
        ["kaizen", "cassle", "no_distill"],
        "built in: kaizen, kaizen_no_replay, cassle, no_distill, joint, supervised; or names under "
        "`variants`",
    )
    seeds: Annotated[list[Seed], Field(min_length=1)] = doc([0], "one run per seed")
    heads: Annotated[list[HeadName], Field(min_length=1)] = doc(
        [TRAINED],
        "heads that every run is read by: trained (the paper's, always there), and ncm, lda, "
        "ridge, which are solved from statistics of the features (docs/heads.md)",
    )
    specialists: bool | None = doc(
        None,
        "also train one model per task alone, which forward transfer compares with; null: yes, but "
        "not for the source stream, where each arrival would have all of them evaluated again",
    )


@parameters
class EvaluationParams:
    """Linear probe and kNN besides the trained classifier."""

    probe_l2: NonNegative = doc(1e-3, "linear probe: L2 penalty on its weights")
    probe_iterations: Count = doc(100, "linear probe: L-BFGS iterations")
    probe_fraction: Fraction = doc(
        1.0,
        "share of the training rows that probe and kNN learn from, chosen as by "
        "train.data_fraction",
    )
    knn_k: Count = doc(20, "kNN: neighbours")
    knn_temperature: Positive = doc(0.07, "kNN: weights are exp(cosine / temperature)")
    batch_size: Count = doc(512, "images per forward pass")


@parameters
class ReportParams:
    """Tables and figures."""

    title: str = doc("Kaizen", "heading of report and figures")
    formats: Annotated[list[Literal["png", "svg", "pdf"]], Field(min_length=1)] = doc(
        ["png", "svg"], "files made of each figure"
    )
    example_images: bool = doc(
        True, "show test images of the most confused classes on the page of results"
    )
