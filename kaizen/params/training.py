"""Parameters of the model, of one step's optimisation, and of how jobs run."""

from __future__ import annotations

from typing import Annotated, Literal

from kaizen.params.base import (
    Count,
    Field,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    Probability,
    doc,
    parameters,
)
from kaizen.params.registry import BACKBONES, TIMM

# Checked by kaizen/params/checks.py; the schema names the backbones for editors.
BackboneName = Annotated[
    str,
    Field(
        json_schema_extra={
            "anyOf": [{"enum": list(BACKBONES)}, {"pattern": f"^{TIMM}[A-Za-z0-9_]+$"}]
        }
    ),
]


@parameters
class NetworkParams:
    """Backbone and classifier of a step: what its network is built from."""

    backbone: BackboneName = doc(
        "small_resnet",
        "the feature extractor: small_resnet, resnet18, resnet50, or timm/ and the name of any "
        "model of the package timm (pip install timm), always without pretrained weights",
    )
    width: Annotated[int, Field(ge=4, le=256)] = doc(
        16, "small_resnet: channels of the first stage (features: 4 x width)"
    )
    stem: Literal["cifar", "imagenet"] = doc(
        "cifar", "resnet18/50: 3x3 stride 1 without pooling, or 7x7 stride 2 with pooling"
    )
    classifier_hidden: list[Count] = doc([128], "hidden layers of the classifier (the paper: 1000)")


@parameters
class ModelParams(NetworkParams):
    """Backbone and classifier over the whole stream."""

    classifier_head: Literal["auto", "fixed", "growing"] = doc(
        "auto",
        "fixed: a logit for every class of the stream from the start (the paper), so that a new "
        "class trains every step again; growing: for the classes seen so far; auto: growing for "
        "the source stream, fixed otherwise",
    )


@parameters
class OptimisationParams:
    """Optimisation of one step (fidelity.md §3)."""

    epochs: Count = doc(30, "epochs per task")
    batch_size: Annotated[int, Field(ge=2)] = doc(32, "task images per batch")
    data_fraction: Fraction = doc(
        1.0,
        "share of each task's rows that is trained on: of each class's labelled rows, and of the "
        "unlabelled ones, this share rounded up, evenly spaced",
    )
    optimizer: Literal["sgd", "lars"] = doc("lars", "SGD with momentum, or the same under LARS")
    lr: Positive = doc(
        2.0, "learning rate at batch size 256; scaled by the batch that is trained with / 256"
    )
    classifier_lr: Positive = doc(0.1, "learning rate of the classifier; not scaled")
    momentum: Annotated[float, Field(ge=0, lt=1)] = doc(0.9, "SGD momentum")
    weight_decay: NonNegative = doc(1e-5, "on all but the classifier")
    lars_eta: Positive = doc(0.02, "LARS trust coefficient")
    warmup_epochs: NonNegativeInt = doc(5, "epochs of linear warm-up")
    warmup_start_lr: NonNegative = doc(0.003, "learning rate of epoch 0")
    min_lr: NonNegative = doc(0.0, "learning rate that the cosine ends at")
    start_size: Fraction = doc(
        1.0,
        "side of the first epoch's views, as a share of image.size: they grow to it as training "
        "goes on, so that early epochs are cheap (1: no)",
    )
    full_size_from: Probability = doc(
        0.75, "share of the epochs after which views have their full size"
    )
    classifier_gradient: bool = doc(False, "let the classifier's losses reach the encoder")
    device: Literal["auto", "cpu", "cuda"] = doc("auto", "auto: the GPU where there is one")
    precision: Literal["auto", "float32", "bfloat16"] = doc(
        "auto", "auto: bfloat16 where it was measured to win"
    )
    threads: Annotated[int, Field(ge=1, le=256)] = doc(
        1, "CPU threads of a step; part of its key, as sums depend on it"
    )
    stream_above_mb: Positive = doc(
        4096.0, "decoded pixels above this stream from the shard instead of staying in memory"
    )


@parameters
class TrainParams(OptimisationParams):
    """Optimisation of every step; the replay batch is that of steps that replay."""

    replay_batch_size: Count = doc(
        32, "replay images added to each batch (at most; the shard may be smaller)"
    )


@parameters
class RuntimeParams:
    """How a job runs, not what it computes: part of no key, changing them reruns nothing."""

    save_every_epochs: Count = doc(
        10, "a step saves its resume state after so many epochs (and on SIGTERM)"
    )
    processes: Annotated[int, Field(ge=1, le=64)] = doc(
        1,
        "processes that share a training step by torchrun, one per GPU where there are GPUs; on "
        "each host",
    )
    hosts: Annotated[int, Field(ge=1, le=64)] = doc(
        1, "hosts that share a training step, as jobs of SLURM only"
    )
    ingest_workers: Annotated[int, Field(ge=1, le=256)] = doc(
        2, "processes that read and decode images at ingestion"
    )
    step_mem_mb: Count | Literal["auto"] = doc(
        "auto",
        "memory that each process of a step asks the cluster for, in MB; auto: what such steps "
        "were measured to need",
    )
    step_minutes: Count = doc(240, "time a step asks the cluster for, in minutes")
    live: Literal["tensorboard", "dvclive"] | None = doc(
        None, "where a step also writes its curves as it trains: logs/tensorboard, logs/dvclive"
    )
    live_accuracy: Annotated[int, Field(ge=0, le=10_000)] = doc(
        0,
        "after each epoch a step is tried on about so many test images of its task, for those who "
        "watch it; 0: not at all",
    )


@parameters
class ReferenceCompatParams:
    """What the reference implementation does where we deliberately differ (fidelity.md §14)."""

    teacher_train_mode: bool = doc(False, "teacher's batch norm in training mode")
    stem_padding_2: bool = doc(False, "CIFAR stem with padding 2")
    epoch_length: bool = doc(
        False, "an epoch is as long as the longer of the task and replay loaders"
    )
    simsiam_predictor_warmup: bool = doc(
        False,
        "SimSiam's predictor, whose rate is not scheduled, has train.warmup_start_lr in epoch 0 of "
        "each task",
    )
