"""Parameters of the model, of one step's optimisation, and of how jobs run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from kaizen.params.base import (
    STRICT,
    Count,
    Field,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    doc,
)
from kaizen.params.registry import BACKBONES, TIMM

# Checked by kaizen/params/validation.py; the schema names the backbones for editors.
BackboneName = Annotated[
    str,
    Field(
        json_schema_extra={
            "anyOf": [{"enum": list(BACKBONES)}, {"pattern": f"^{TIMM}[A-Za-z0-9_]+$"}]
        }
    ),
]


@dataclass(frozen=True)
class ModelParams:
    """Backbone and classifier."""

    __pydantic_config__ = STRICT

    backbone: BackboneName = doc(
        "the feature extractor: small_resnet, resnet18, resnet50, or timm/ and the name of any "
        "model of the package "
        "timm (pip install timm), always without pretrained weights",
        "small_resnet",
    )
    width: Annotated[int, Field(ge=4, le=256)] = doc(
        "small_resnet: channels of the first stage (features: 4 x width)", 16
    )
    stem: Literal["cifar", "imagenet"] = doc(
        "resnet18/50: 3x3 stride 1 without pooling, or 7x7 stride 2 with pooling", "cifar"
    )
    classifier_hidden: list[Count] = doc("hidden layers of the classifier (the paper: 1000)", [128])
    classifier_head: Literal["fixed", "growing"] = doc(
        "fixed: a logit for every class of the stream from the start (the paper); growing: for the "
        "classes seen so far",
        "fixed",
    )


@dataclass(frozen=True)
class TrainParams:
    """Optimisation of one step (fidelity.md §3)."""

    __pydantic_config__ = STRICT

    epochs: Count = doc("epochs per task", 30)
    batch_size: Annotated[int, Field(ge=2)] = doc("task images per batch", 32)
    replay_batch_size: Count = doc(
        "replay images added to each batch (at most; the shard may be smaller)", 32
    )
    data_fraction: Fraction = doc(
        "share of each task's rows that is trained on: of each class's labelled rows, and of the "
        "unlabelled ones, this share rounded up, evenly spaced",
        1.0,
    )
    optimizer: Literal["sgd", "lars"] = doc("SGD with momentum, or the same under LARS", "lars")
    lr: Positive = doc(
        "learning rate at batch size 256; scaled by the batch that is trained with / 256", 2.0
    )
    classifier_lr: Positive = doc("learning rate of the classifier; not scaled", 0.1)
    momentum: Annotated[float, Field(ge=0, lt=1)] = doc("SGD momentum", 0.9)
    weight_decay: NonNegative = doc("on all but the classifier", 1e-5)
    lars_eta: Positive = doc("LARS trust coefficient", 0.02)
    warmup_epochs: NonNegativeInt = doc("epochs of linear warm-up", 5)
    warmup_start_lr: NonNegative = doc("learning rate of epoch 0", 0.003)
    min_lr: NonNegative = doc("learning rate that the cosine ends at", 0.0)
    classifier_gradient: bool = doc("let the classifier's losses reach the encoder", False)
    device: Literal["auto", "cpu", "cuda"] = doc("auto: the GPU where there is one", "auto")
    precision: Literal["auto", "float32", "bfloat16"] = doc(
        "auto: bfloat16 where it was measured to win", "auto"
    )
    threads: Annotated[int, Field(ge=1, le=256)] = doc(
        "CPU threads of a step; part of its key, as sums depend on it", 1
    )
    stream_above_mb: Positive = doc(
        "decoded pixels above this stream from the shard instead of staying in memory", 4096.0
    )


@dataclass(frozen=True)
class RuntimeParams:
    """How a job runs, not what it computes: part of no key, changing them reruns nothing."""

    __pydantic_config__ = STRICT

    save_every_epochs: Count = doc(
        "a step saves its resume state after so many epochs (and on SIGTERM)", 10
    )
    processes: Annotated[int, Field(ge=1, le=64)] = doc(
        "processes that share a training step by torchrun, one per GPU where there are GPUs; on "
        "each host",
        1,
    )
    hosts: Annotated[int, Field(ge=1, le=64)] = doc(
        "hosts that share a training step, as jobs of SLURM only", 1
    )
    ingest_workers: Annotated[int, Field(ge=1, le=256)] = doc(
        "processes that read and decode images at ingestion", 2
    )
    step_mem_mb: Count = doc("memory that each process of a step asks the cluster for, in MB", 4000)
    step_minutes: Count = doc("time a step asks the cluster for, in minutes", 240)


@dataclass(frozen=True)
class ReferenceCompatParams:
    """What the reference implementation does where we deliberately differ (fidelity.md §14)."""

    __pydantic_config__ = STRICT

    teacher_train_mode: bool = doc("teacher's batch norm in training mode", False)
    stem_padding_2: bool = doc("CIFAR stem with padding 2", False)
    epoch_length: bool = doc(
        "an epoch is as long as the longer of the task and replay loaders", False
    )
    simsiam_predictor_warmup: bool = doc(
        "SimSiam's predictor, whose rate is not scheduled, has train.warmup_start_lr in epoch 0 of "
        "each task",
        False,
    )
