"""What is impossible though every value is valid by itself: one function per check.

Each takes the parameters and yields its problems, named by the key's path, with the fix.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from kaizen.params import VARIANTS, Params, VariantParams
from kaizen.params.messages import unknown
from kaizen.params.registry import (
    ANALYTIC_HEADS,
    BACKBONES,
    FEATURE_DISTILLERS,
    SOURCES,
    SSL_METHODS,
    TIMM,
    TRAINED,
)
from kaizen.params.replay_checks import replay_policy_and_size

# What the plan calls the models of one task alone, in the place of a variant's name.
SPECIALIST = "specialist"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]{0,63}")
# Neither a hub's address nor the tag of pretrained weights, which are never downloaded.
_TIMM_MODEL = re.compile(rf"{TIMM}[A-Za-z0-9_]+")


def impossible_combinations(params: Params) -> list[str]:
    """All problems that the checks of this file find, in their order."""
    return [problem for check in CHECKS for problem in check(params)]


def _all_variants(params: Params) -> dict[str, VariantParams]:
    return {**VARIANTS, **params.variants}


# -- the grid ----------------------------------------------------------------------------------


def names_of_variants(params: Params) -> Iterator[str]:
    """A new variant's name can be part of a path and is not taken."""
    for name in params.variants:
        if not _NAME.fullmatch(name):
            yield (
                f"variants.{name}: a variant's name has letters, digits, '_' and '.' only (64 at "
                "most); rename it"
            )
        if name in VARIANTS or name == SPECIALIST:
            yield f"variants.{name}: this name is built in; choose another"


def joint_variants(params: Params) -> Iterator[str]:
    """Joint training has one step, and so no prior one."""
    for name, switches in _all_variants(params).items():
        if switches.joint and (
            switches.feature_distill or switches.classifier_distill or switches.replay
        ):
            yield (
                f"variants.{name}: joint training has no prior step to distil from and nothing to "
                "replay; set feature_distill, classifier_distill and replay to false"
            )


def supervised_variants(params: Params) -> Iterator[str]:
    """Features are distilled in the space of an SSL method's projections, so with one only."""
    for name, switches in _all_variants(params).items():
        if not switches.self_supervised and switches.feature_distill:
            yield (
                f"variants.{name}: without an SSL method there are no projections to distil; set "
                "feature_distill to false (classifier_distill and replay can stay)"
            )


def known_variants(params: Params) -> Iterator[str]:
    """The grid's variants are built in or defined."""
    known = _all_variants(params)
    for name in params.grid.variants:
        if name not in known:
            yield f"grid.variants: {unknown(name, 'a variant', known)}, or define it under variants"


def known_methods(params: Params) -> Iterator[str]:
    """The grid's methods are registered."""
    for name in params.grid.methods:
        if name not in SSL_METHODS:
            yield f"grid.methods: {unknown(name, 'an SSL method', SSL_METHODS)}"


def known_heads(params: Params) -> Iterator[str]:
    """The grid's heads are registered, the trained one among them, and so is the one that
    predicts.
    """
    heads = params.grid.heads
    for name in heads:
        if name not in (TRAINED, *ANALYTIC_HEADS):
            yield f"grid.heads: {unknown(name, 'a head', [TRAINED, *ANALYTIC_HEADS])}"
    if TRAINED not in heads:
        yield f"grid.heads: {TRAINED} is not among them, but it is always evaluated; add it"
    if params.heads.covariance == "per_class" and params.heads.random_features > 1000:
        yield (
            "heads.random_features: with covariance per_class each class takes their square in "
            "memory; lower it to 1000, or set covariance to shared"
        )
    if params.deploy.head not in heads:
        yield (
            f"deploy.head: {params.deploy.head!r} is none of grid.heads ({', '.join(heads)}); add "
            "it there, or choose one of these"
        )


def points_named_once(params: Params) -> Iterator[str]:
    """No two points of the grid are the same."""
    grids: dict[str, list[Any]] = {
        "grid.methods": list(params.grid.methods),
        "grid.variants": params.grid.variants,
        "grid.seeds": params.grid.seeds,
        "grid.heads": list(params.grid.heads),
        # Sizes that are written alike in names of runs and folders are one point.
        "replay.proportion": [f"{100 * size:g} %" for size in params.replay.proportion or []],
        "replay.per_class": params.replay.per_class or [],
        "replay.memory": params.replay.memory or [],
    }
    for path, values in grids.items():
        if len(set(values)) < len(values):
            yield f"{path}: {json.dumps(values)} names a point twice; keep each once"


# -- what is trained ---------------------------------------------------------------------------


def known_distiller(params: Params) -> Iterator[str]:
    """The feature distiller is registered."""
    name = params.distill.feature.distiller
    choices = ["auto", *FEATURE_DISTILLERS]
    if name not in choices:
        yield f"distill.feature.distiller: {unknown(name, 'a distiller', choices)}"


def prototypes_to_distil(params: Params) -> Iterator[str]:
    """Prototypes are distilled of methods that have some."""
    if params.distill.feature.distiller != "prototype":
        return
    for name in params.grid.methods:
        if name in SSL_METHODS and SSL_METHODS[name].distiller != "prototype":
            yield f"distill.feature.distiller: {name} has no prototypes to distil; choose auto"


def values_per_channel(params: Params) -> Iterator[str]:
    """Mean and standard deviation have as many values as the images have channels."""
    for name in ("mean", "std"):
        values = getattr(params.image, name)
        if len(values) != params.image.channels:
            yield (
                f"image.{name}: {json.dumps(values)} has {len(values)} values but image.channels "
                f"is {params.image.channels}; give one per channel"
            )


def ranges_upwards(params: Params) -> Iterator[str]:
    """Ranges of the augmentations begin with the smaller number."""
    for name in ("crop_scale", "crop_ratio", "blur_sigma"):
        low, high = getattr(params.augment, name)
        if low > high:
            yield f"augment.{name}: [{low}, {high}] runs downwards; write the smaller first"


def known_backbone(params: Params) -> Iterator[str]:
    """The backbone is built in, or is a bare name of timm's."""
    backbone = params.model.backbone
    if backbone in BACKBONES or _TIMM_MODEL.fullmatch(backbone):
        return
    if backbone.startswith(TIMM):
        yield (
            f"model.backbone: {backbone!r} is not a model of timm; write {TIMM} and the model's "
            f"bare name, as in {TIMM}resnet26d (weights are never downloaded, so no tag and no "
            "address)"
        )
    else:
        yield (
            f"model.backbone: {unknown(backbone, 'a backbone', BACKBONES)}, or {TIMM}<any of its "
            "models>"
        )


# -- the data ----------------------------------------------------------------------------------


def source_and_what_it_reads(params: Params) -> Iterator[str]:
    """The source is registered; it has a path where it needs one, and nothing it does not read."""
    dataset = params.dataset
    if dataset.source not in SOURCES:
        yield f"dataset.source: {unknown(dataset.source, 'a data source', SOURCES)}"
        return
    source = SOURCES[dataset.source]
    if source.path == "none" and dataset.path is not None:
        yield f"dataset.path: {dataset.source} needs no files and has no path; set it to null"
    if source.path == "needed" and not dataset.path:
        yield f"dataset.path: {dataset.source} needs the folder that holds its images; name it"
    for name, unset in (("classes", None), ("unlabelled", False)):
        if name not in source.reads and getattr(dataset, name) != unset:
            yield (
                f"dataset.{name}: it has no effect for {dataset.source}; set it to "
                f"{json.dumps(unset)}"
            )


def split_without_effect(params: Params) -> Iterator[str]:
    """What is given of the split has an effect: lists fit `by`, and only one says the classes."""
    split = params.split
    for name, by in (("sizes", "class"), ("classes", "class"), ("domains", "domain")):
        if getattr(split, name) is not None and split.by != by:
            yield (
                f"split.{name}: it has no effect with split.by {split.by}; set it to null, or by "
                f"to {by}"
            )
    if split.sizes is not None and split.classes is not None:
        yield "split: both sizes and classes are given; set one of them to null"


def split_names_once(params: Params) -> Iterator[str]:
    """No class or domain is in the stream twice."""
    for path, names in (
        ("split.classes", [name for task in params.split.classes or [] for name in task]),
        ("split.domains", params.split.domains or []),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            yield f"{path}: {', '.join(map(repr, twice))} named twice; name each once"


# -- how it is trained -------------------------------------------------------------------------


def batch_for_every_process(params: Params) -> Iterator[str]:
    """Each process that shares a step has at least one row of a batch."""
    processes = params.runtime.processes * params.runtime.hosts
    if processes > params.train.batch_size:
        yield (
            f"runtime.processes: {processes} processes (on all hosts) cannot share batches of "
            f"train.batch_size {params.train.batch_size}; lower it, or raise the batch size"
        )


def warmup_within_training(params: Params) -> Iterator[str]:
    """The warm-up ends before training does."""
    train = params.train
    if train.warmup_epochs > train.epochs:
        yield (
            f"train.warmup_epochs: {train.warmup_epochs} is more than train.epochs "
            f"{train.epochs}; lower it"
        )


def views_of_one_size(params: Params) -> Iterator[str]:
    """Many of timm's models take images of one size only."""
    if params.train.start_size < 1 and params.model.backbone.startswith(TIMM):
        yield (
            f"train.start_size: {params.train.start_size} makes smaller views at first, and "
            f"{params.model.backbone} may take images of one size only; set it to 1"
        )


def title_to_read(params: Params) -> Iterator[str]:
    """The report's heading has a sign that can be seen."""
    if not any(sign.isprintable() and not sign.isspace() for sign in params.report.title):
        yield (
            f"report.title: {json.dumps(params.report.title)} shows nothing; write the heading of "
            "report and figures"
        )


CHECKS = (
    names_of_variants,
    joint_variants,
    supervised_variants,
    known_variants,
    known_methods,
    known_heads,
    known_distiller,
    points_named_once,
    prototypes_to_distil,
    replay_policy_and_size,
    values_per_channel,
    ranges_upwards,
    known_backbone,
    views_of_one_size,
    source_and_what_it_reads,
    split_without_effect,
    split_names_once,
    batch_for_every_process,
    warmup_within_training,
    title_to_read,
)
