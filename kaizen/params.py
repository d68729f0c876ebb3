"""Every parameter of an experiment: names, types, bounds, defaults and meaning.

The classes are plain frozen dataclasses, so that a training job needs neither pydantic nor YAML;
pydantic checks them where a person wrote the values (`validate`). `from_dict` builds them from JSON
that was checked before.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from kaizen.registry import BACKBONES, FEATURE_DISTILLERS, SSL_METHODS, TIMM

try:
    from pydantic import Field
except ImportError:  # a training job on a bare GPU machine: its parameters were checked when planned

    def Field(**_: Any) -> Any:  # type: ignore[no-redef]  # noqa: N802
        """Stand in for pydantic's Field: an annotation without effect."""
        return None


_STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

Count = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
# Checked by kaizen/validation.py, so that a method needs no second list here; the schema names them for editors.
MethodName = Annotated[str, Field(json_schema_extra={"enum": list(SSL_METHODS)})]
DistillerName = Annotated[str, Field(json_schema_extra={"enum": ["auto", *FEATURE_DISTILLERS]})]
BackboneName = Annotated[
    str, Field(json_schema_extra={"anyOf": [{"enum": list(BACKBONES)}, {"pattern": f"^{TIMM}[A-Za-z0-9_]+$"}]})
]


def doc(text: str, default: Any) -> Any:
    """A dataclass field with a default (copied when it is a list or mapping) and a description for the schema."""
    metadata = {"description": text}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(kind: type) -> Any:
    """A nested section whose own defaults apply when it is absent."""
    return field(default_factory=kind)


@dataclass(frozen=True)
class SyntheticParams:
    """The made-up images of the source `synthetic`."""

    __pydantic_config__ = _STRICT

    classes: Count = doc("number of classes", 10)
    train: Count = doc("training images per class", 100)
    test: Count = doc("test images per class", 20)
    size: Annotated[int, Field(ge=4, le=1024)] = doc("side of an image, in pixels", 32)
    channels: Literal[1, 3] = doc("1 greyscale, 3 colour", 3)


@dataclass(frozen=True)
class DatasetParams:
    """Where the raw images come from and how they are stored in shards."""

    __pydantic_config__ = _STRICT

    source: Literal[
        "cifar10",
        "cifar100",
        "digits",
        "domain_folder",
        "image_folder",
        "imagenet",
        "stl10",
        "synthetic",
        "tiny_imagenet",
    ] = doc("the data source, a file of kaizen/data/sources/", "digits")
    path: str | None = doc(
        "folder of the images, laid out as docs/data.md says; cifar10, cifar100, stl10: the archive or its folder, "
        "null: downloaded",
        None,
    )
    classes: list[str] | str | None = doc(
        "sources of image files: only these classes, as a list, `imagenet100`, or a text file with one a line", None
    )
    unlabelled: bool = doc("stl10: add the unlabelled images to the training images", False)
    synthetic: SyntheticParams = section(SyntheticParams)
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = doc("digits: held-out share of every class", 0.2)
    seed: Seed = doc("digits: which images are held out; synthetic: what the images are made from", 0)
    on_corrupt: Literal["stop", "skip"] = doc(
        "an unreadable image stops the ingestion, or is skipped and counted", "stop"
    )
    encoding: Literal["auto", "raw", "file"] = doc(
        "store decoded pixels (raw), the original file's bytes (file), or raw up to raw_limit bytes (auto)", "auto"
    )
    raw_limit: Count = doc("encoding auto: an image of at most so many bytes of pixels is stored raw", 16384)
    resize: Count | None = doc(
        "larger images are shrunk to this many pixels on the shorter side when ingested; null: kept as they are", None
    )
    compression: Literal["none", "zstd"] = doc("compression of the shards' pages; zstd saved 2 % on CIFAR-10", "none")
    row_group_mb: Positive = doc("size of a shard's row group in MB: the unit in which shards stream", 16.0)


@dataclass(frozen=True)
class SplitParams:
    """How the dataset is divided into a stream of tasks."""

    __pydantic_config__ = _STRICT

    tasks: Count = doc(
        "number of tasks, which must divide the number of classes; or of parts; lists of sizes or names replace it",
        5,
    )
    seed: Seed = doc("order of the classes (torch.randperm's, fidelity.md §1) or domains; by data: the parts", 5)
    by: Literal["class", "data", "domain"] = doc(
        "a task is some of the classes, a part of every class's images, or a domain of the source", "class"
    )
    sizes: Annotated[list[Count], Field(min_length=1)] | None = doc(
        "by class: how many classes each task has; classes beyond their sum are left out", None
    )
    classes: Annotated[list[Annotated[list[str], Field(min_length=1)]], Field(min_length=1)] | None = doc(
        "by class: the names of each task's classes; classes not named are left out", None
    )
    domains: Annotated[list[str], Field(min_length=1)] | None = doc(
        "by domain: the tasks' domains in order; null: all domains", None
    )
    order: Literal["shuffled", "given"] = doc(
        "classes or domains in the order of the seed or of the dataset; lists of names are their own order", "shuffled"
    )


@dataclass(frozen=True)
class LabelsParams:
    """How many of the training images keep their label."""

    __pydantic_config__ = _STRICT

    fraction: Probability = doc("share of every class that keeps its label; the others are stored as -1", 1.0)
    seed: Seed = doc("which images keep it; smaller fractions are nested in larger ones", 0)


@dataclass(frozen=True)
class ReplayParams:
    """The small memory of earlier tasks' images."""

    __pydantic_config__ = _STRICT

    policy: Literal["first_n", "balanced_random", "reservoir", "herding"] = doc(
        "which images: the first of each class in dataset order (the reference, fidelity.md §7), random ones of each "
        "class, a random sample of the stream, or of each class those whose mean feature follows the class mean; "
        "files of kaizen/data/replay/",
        "first_n",
    )
    proportion: list[Probability] | None = doc("sizes to try: shares of each class of the earlier tasks", [0.1])
    per_class: list[NonNegativeInt] | None = doc("sizes to try instead: images of each class", None)
    memory: list[NonNegativeInt] | None = doc(
        "sizes to try instead: images in all, divided over tasks and classes", None
    )
    seed: Seed = doc("balanced_random, reservoir: which images are drawn", 0)

    def sizes(self) -> dict[str, list[float]]:
        """The sizes that are given by unit: proportion, per_class or memory; valid parameters have one unit."""
        units = {"proportion": self.proportion, "per_class": self.per_class, "memory": self.memory}
        return {unit: list(sizes) for unit, sizes in units.items() if sizes is not None}


@dataclass(frozen=True)
class VariantParams:
    """A named set of switches: which of the method's parts a run uses."""

    __pydantic_config__ = _STRICT

    feature_distill: bool = doc("distil the features from the prior step (L_FE^KD)", True)
    classifier_distill: bool = doc("distil the classifier from the prior step (L_C^KD)", True)
    replay: bool = doc("train on the replay shard beside the task shard", True)
    joint: bool = doc("train once on all tasks together, the upper bound; needs the others false", False)


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

    __pydantic_config__ = _STRICT

    methods: Annotated[list[MethodName], Field(min_length=1)] = doc("SSL methods, files of kaizen/ssl/", ["simclr"])
    variants: Annotated[list[str], Field(min_length=1)] = doc(
        "built in: kaizen, kaizen_no_replay, cassle, no_distill, joint; or names under `variants`",
        ["kaizen", "cassle", "no_distill"],
    )
    seeds: Annotated[list[Seed], Field(min_length=1)] = doc("one run per seed", [0])
    specialists: bool = doc("also train one model per task alone, which forward transfer compares with", True)


@dataclass(frozen=True)
class ImageParams:
    """What the network sees."""

    __pydantic_config__ = _STRICT

    size: Annotated[int, Field(ge=4, le=1024)] = doc("side of the network's input, in pixels", 16)
    load_size: Annotated[int, Field(ge=4, le=2048)] | None = doc(
        "shorter side resized and centre cropped to this when an image is decoded; null: as stored, all of one size",
        None,
    )
    test_crop: Fraction = doc(
        "side of the centre that is shown in evaluation, as a share of the image's (ImageNet: 0.875 of 256 pixels)", 1.0
    )
    channels: Literal[1, 3] = doc("1 greyscale, 3 colour; images are converted", 1)
    mean: list[float] = doc("mean per channel, of pixels in 0..1", [0.305])
    std: list[Positive] = doc("standard deviation per channel", [0.376])


@dataclass(frozen=True)
class JitterParams:
    """Colour jitter, as torchvision's."""

    __pydantic_config__ = _STRICT

    probability: Probability = doc("probability that a view is jittered", 0.0)
    brightness: NonNegative = doc("factor drawn from 1 +- this", 0.4)
    contrast: NonNegative = doc("factor drawn from 1 +- this", 0.4)
    saturation: NonNegative = doc("factor drawn from 1 +- this", 0.2)
    hue: Annotated[float, Field(ge=0, le=0.5)] = doc("shift drawn from +- this, in turns", 0.1)


@dataclass(frozen=True)
class AugmentParams:
    """The random views (fidelity.md §8); two-element lists hold view 1's and view 2's value."""

    __pydantic_config__ = _STRICT

    crop_scale: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = doc(
        "share of the area a crop keeps", [0.3, 1.0]
    )
    crop_ratio: Annotated[list[Positive], Field(min_length=2, max_length=2)] = doc(
        "aspect ratio of a crop", [0.75, 1.3333]
    )
    flip: Probability = doc("probability of a horizontal flip", 0.0)
    jitter: JitterParams = section(JitterParams)
    greyscale: Probability = doc("probability of greyscale", 0.0)
    blur: Annotated[list[Probability], Field(min_length=2, max_length=2)] = doc(
        "probability of Gaussian blur, per view", [0.0, 0.0]
    )
    blur_sigma: Annotated[list[Positive], Field(min_length=2, max_length=2)] = doc(
        "range of the blur's sigma, in pixels", [0.1, 2.0]
    )
    solarize: Annotated[list[Probability], Field(min_length=2, max_length=2)] = doc(
        "probability of solarising (threshold 128), per view", [0.0, 0.0]
    )


@dataclass(frozen=True)
class ModelParams:
    """Backbone and classifier."""

    __pydantic_config__ = _STRICT

    backbone: BackboneName = doc(
        "the feature extractor: small_resnet, resnet18, resnet50, or timm/ and the name of any model of the package "
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
        "fixed: a logit for every class of the stream from the start (the paper); growing: for the classes seen so far",
        "fixed",
    )


@dataclass(frozen=True)
class SimCLRParams:
    """SimCLR (fidelity.md §4)."""

    __pydantic_config__ = _STRICT

    projector_hidden: Count = doc("width of the projector's hidden layer (the paper: 4096)", 256)
    projector_out: Count = doc("size of the projection (the paper: 256)", 64)
    temperature: Positive = doc("NT-Xent temperature", 0.2)


@dataclass(frozen=True)
class MoCoV2PlusParams:
    """MoCo v2+ (fidelity.md §4)."""

    __pydantic_config__ = _STRICT

    projector_hidden: Count = doc("width of the projector's hidden layer (the paper: 2048)", 256)
    projector_out: Count = doc("size of the projection (the paper: 256)", 64)
    temperature: Positive = doc("of the softmax over the positive and the queue", 0.2)
    queue_size: Count = doc("keys in each view's queue of negatives (the paper: 65536)", 1024)
    momentum_base: Probability = doc("momentum network: coefficient at a task's first step", 0.99)
    momentum_final: Probability = doc("and at its last", 0.999)


@dataclass(frozen=True)
class BYOLParams:
    """BYOL (fidelity.md §4)."""

    __pydantic_config__ = _STRICT

    projector_hidden: Count = doc("width of the projector's hidden layer (the paper: 4096)", 256)
    projector_out: Count = doc("size of the projection (the paper: 256)", 64)
    predictor_hidden: Count = doc("width of the predictor's hidden layer (the paper: 4096)", 256)
    momentum_base: Probability = doc("momentum network: coefficient at a task's first step", 0.99)
    momentum_final: Probability = doc("and at its last", 1.0)


@dataclass(frozen=True)
class VICRegParams:
    """VICReg (fidelity.md §4)."""

    __pydantic_config__ = _STRICT

    projector_hidden: Count = doc("width of the projector's hidden layers (the paper: 2048)", 256)
    projector_out: Count = doc("size of the projection (the paper: 2048)", 256)
    invariance_weight: NonNegative = doc("of the mean squared error between views", 25.0)
    variance_weight: NonNegative = doc("of the hinge on each dimension's standard deviation, summed over views", 25.0)
    covariance_weight: NonNegative = doc("of the off-diagonal covariances, summed over views", 1.0)


@dataclass(frozen=True)
class BarlowTwinsParams:
    """Barlow Twins (fidelity.md §4)."""

    __pydantic_config__ = _STRICT

    projector_hidden: Count = doc("width of the projector's hidden layers (the paper: 2048)", 256)
    projector_out: Count = doc("size of the projection (the paper: 2048)", 256)
    off_diagonal: NonNegative = doc("weight of the off-diagonal correlations", 5e-3)
    scale: Positive = doc("of the whole loss", 0.025)


@dataclass(frozen=True)
class SimSiamParams:
    """SimSiam (fidelity.md §4)."""

    __pydantic_config__ = _STRICT

    projector_hidden: Count = doc("width of the projector's hidden layers (CaSSLe: 2048)", 256)
    projector_out: Count = doc("size of the projection (CaSSLe: 2048)", 256)
    predictor_hidden: Count = doc("width of the predictor's hidden layer (CaSSLe: 512)", 64)


@dataclass(frozen=True)
class NNCLRParams:
    """NNCLR (fidelity.md §4)."""

    __pydantic_config__ = _STRICT

    projector_hidden: Count = doc("width of the projector's hidden layers (CaSSLe: 2048)", 256)
    projector_out: Count = doc("size of the projection (CaSSLe: 256)", 64)
    predictor_hidden: Count = doc("width of the predictor's hidden layer (CaSSLe: 4096)", 256)
    temperature: Positive = doc("of the softmax over the batch", 0.2)
    queue_size: Count = doc("projections among which neighbours are sought (CaSSLe: 65536)", 1024)


@dataclass(frozen=True)
class SwAVParams:
    """SwAV (fidelity.md §4)."""

    __pydantic_config__ = _STRICT

    projector_hidden: Count = doc("width of the projector's hidden layer (CaSSLe: 2048)", 256)
    projector_out: Count = doc("size of the projection (CaSSLe: 128)", 64)
    prototypes: Count = doc("number of prototypes (CaSSLe: 3000)", 100)
    temperature: Positive = doc("of the softmax over prototypes", 0.1)
    sinkhorn_iterations: Count = doc("rounds of Sinkhorn-Knopp", 3)
    sinkhorn_epsilon: Positive = doc("sharpness of the assignments", 0.05)
    queue_size: NonNegativeInt = doc("earlier projections that take part in the assignment (CaSSLe: 3840)", 256)
    queue_from_epoch: NonNegativeInt = doc("epoch of each task from which they do", 15)
    freeze_prototypes_epochs: NonNegativeInt = doc("epochs at each task's start in which prototypes rest", 1)


@dataclass(frozen=True)
class DINOParams:
    """DINO (fidelity.md §4)."""

    __pydantic_config__ = _STRICT

    projector_hidden: Count = doc("width of the head's hidden layers (CaSSLe: 2048)", 256)
    projector_out: Count = doc("size of the head's bottleneck, the projection (CaSSLe: 256)", 64)
    prototypes: Count = doc("outputs of the last layer (CaSSLe: 4096)", 256)
    student_temperature: Positive = doc("of the student's softmax", 0.1)
    teacher_temperature_start: Positive = doc("of the momentum network's softmax at a task's start", 0.04)
    teacher_temperature: Positive = doc("and after the warm-up", 0.07)
    teacher_temperature_warmup_epochs: NonNegativeInt = doc("epochs of linear warm-up of that temperature", 50)
    centre_momentum: Probability = doc("of the running centre of the momentum network's outputs", 0.9)
    freeze_last_layer_epochs: NonNegativeInt = doc("epochs at each task's start in which the last layer rests", 1)
    clip_gradient: NonNegative = doc("largest norm of each parameter's gradient; 0: not clipped", 3.0)
    momentum_base: Probability = doc("momentum network: coefficient at a task's first step", 0.996)
    momentum_final: Probability = doc("and at its last", 1.0)


@dataclass(frozen=True)
class SSLParams:
    """One section per SSL method; only those of the grid's methods have an effect."""

    __pydantic_config__ = _STRICT

    simclr: SimCLRParams = section(SimCLRParams)
    mocov2plus: MoCoV2PlusParams = section(MoCoV2PlusParams)
    byol: BYOLParams = section(BYOLParams)
    vicreg: VICRegParams = section(VICRegParams)
    barlow_twins: BarlowTwinsParams = section(BarlowTwinsParams)
    simsiam: SimSiamParams = section(SimSiamParams)
    nnclr: NNCLRParams = section(NNCLRParams)
    swav: SwAVParams = section(SwAVParams)
    dino: DINOParams = section(DINOParams)


@dataclass(frozen=True)
class ContrastiveDistillParams:
    """Contrastive feature distillation (fidelity.md §5)."""

    __pydantic_config__ = _STRICT

    temperature: Positive = doc("of the softmax over all projections", 0.2)


@dataclass(frozen=True)
class DecorrelativeDistillParams:
    """Decorrelative feature distillation (fidelity.md §5)."""

    __pydantic_config__ = _STRICT

    off_diagonal: NonNegative = doc("weight of the off-diagonal correlations", 5e-3)
    scale: Positive = doc("of the whole loss", 0.1)


@dataclass(frozen=True)
class PrototypeDistillParams:
    """Prototype distillation (fidelity.md §5, "knowledge")."""

    __pydantic_config__ = _STRICT

    temperature: Positive = doc("of both softmaxes over prototypes", 0.1)


@dataclass(frozen=True)
class FeatureDistillParams:
    """Feature distillation L_FE^KD (fidelity.md §5)."""

    __pydantic_config__ = _STRICT

    distiller: DistillerName = doc(
        "the loss between prediction and frozen projection, a file of kaizen/distill/; auto: the SSL method's own "
        "(kaizen/registry.py)",
        "auto",
    )
    weight: NonNegative | None = doc("lambda_f; null: the distiller's own (kaizen/registry.py)", None)
    predictor_hidden: NonNegativeInt = doc(
        "width of the distillation predictor's hidden layer (the paper: 2048); 0: no predictor", 256
    )
    contrastive: ContrastiveDistillParams = section(ContrastiveDistillParams)
    decorrelative: DecorrelativeDistillParams = section(DecorrelativeDistillParams)
    prototype: PrototypeDistillParams = section(PrototypeDistillParams)


@dataclass(frozen=True)
class ClassifierDistillParams:
    """Classifier distillation L_C^KD (fidelity.md §6)."""

    __pydantic_config__ = _STRICT

    weight: NonNegative = doc("lambda_c", 2.0)
    temperature: Positive = doc("softens teacher and student alike; 1 in the paper", 1.0)


@dataclass(frozen=True)
class DistillParams:
    """Knowledge distillation from the prior step."""

    __pydantic_config__ = _STRICT

    feature: FeatureDistillParams = section(FeatureDistillParams)
    classifier: ClassifierDistillParams = section(ClassifierDistillParams)


@dataclass(frozen=True)
class TrainParams:
    """Optimisation of one step (fidelity.md §3)."""

    __pydantic_config__ = _STRICT

    epochs: Count = doc("epochs per task", 30)
    batch_size: Annotated[int, Field(ge=2)] = doc("task images per batch", 32)
    replay_batch_size: Count = doc("replay images added to each batch (at most; the shard may be smaller)", 32)
    data_fraction: Fraction = doc("share of each task's rows that is trained on, evenly spaced", 1.0)
    optimizer: Literal["sgd", "lars"] = doc("SGD with momentum, or the same under LARS", "lars")
    lr: Positive = doc("learning rate at batch size 256; scaled by batch_size / 256", 2.0)
    classifier_lr: Positive = doc("learning rate of the classifier; not scaled", 0.1)
    momentum: Annotated[float, Field(ge=0, lt=1)] = doc("SGD momentum", 0.9)
    weight_decay: NonNegative = doc("on all but the classifier", 1e-5)
    lars_eta: Positive = doc("LARS trust coefficient", 0.02)
    warmup_epochs: NonNegativeInt = doc("epochs of linear warm-up", 5)
    warmup_start_lr: NonNegative = doc("learning rate of epoch 0", 0.003)
    min_lr: NonNegative = doc("learning rate that the cosine ends at", 0.0)
    classifier_gradient: bool = doc("let the classifier's losses reach the encoder", False)
    device: Literal["auto", "cpu", "cuda"] = doc("auto: the GPU where there is one", "auto")
    precision: Literal["auto", "float32", "bfloat16"] = doc("auto: bfloat16 where it was measured to win", "auto")
    threads: Annotated[int, Field(ge=1, le=256)] = doc(
        "CPU threads of a step; part of its key, as sums depend on it", 1
    )
    stream_above_mb: Positive = doc(
        "decoded pixels above this stream from the shard instead of staying in memory", 4096.0
    )


@dataclass(frozen=True)
class RuntimeParams:
    """How a job runs, not what it computes: part of no key, changing them reruns nothing."""

    __pydantic_config__ = _STRICT

    save_every_epochs: Count = doc("a step saves its resume state after so many epochs (and on SIGTERM)", 10)
    ingest_workers: Annotated[int, Field(ge=1, le=256)] = doc("processes that read and decode images at ingestion", 2)
    step_mem_mb: Count = doc("memory a step asks the cluster for, in MB", 4000)
    step_minutes: Count = doc("time a step asks the cluster for, in minutes", 240)


@dataclass(frozen=True)
class ReferenceCompatParams:
    """What the reference implementation does where we deliberately differ (fidelity.md §14)."""

    __pydantic_config__ = _STRICT

    teacher_train_mode: bool = doc("teacher's batch norm in training mode", False)
    stem_padding_2: bool = doc("CIFAR stem with padding 2", False)
    epoch_length: bool = doc("an epoch is as long as the longer of the task and replay loaders", False)


@dataclass(frozen=True)
class EvaluationParams:
    """Linear probe and kNN beside the trained classifier."""

    __pydantic_config__ = _STRICT

    probe_l2: NonNegative = doc("linear probe: L2 penalty on its weights", 1e-3)
    probe_iterations: Count = doc("linear probe: L-BFGS iterations", 100)
    probe_fraction: Fraction = doc("share of the training rows that probe and kNN learn from, evenly spaced", 1.0)
    knn_k: Count = doc("kNN: neighbours", 20)
    knn_temperature: Positive = doc("kNN: weights are exp(cosine / temperature)", 0.07)
    batch_size: Count = doc("images per forward pass", 512)


@dataclass(frozen=True)
class ReportParams:
    """Tables and figures."""

    __pydantic_config__ = _STRICT

    title: str = doc("heading of report and figures", "Kaizen")
    formats: Annotated[list[Literal["png", "svg", "pdf"]], Field(min_length=1)] = doc(
        "files made of each figure", ["png", "svg"]
    )


@dataclass(frozen=True)
class Params:
    """The whole of params.yaml."""

    __pydantic_config__ = _STRICT

    dataset: DatasetParams = section(DatasetParams)
    split: SplitParams = section(SplitParams)
    labels: LabelsParams = section(LabelsParams)
    replay: ReplayParams = section(ReplayParams)
    variants: dict[str, VariantParams] = doc("further variants by name", {})
    grid: GridParams = section(GridParams)
    image: ImageParams = section(ImageParams)
    augment: AugmentParams = section(AugmentParams)
    model: ModelParams = section(ModelParams)
    ssl: SSLParams = section(SSLParams)
    distill: DistillParams = section(DistillParams)
    train: TrainParams = section(TrainParams)
    per_method: dict[str, dict[str, Any]] = doc(
        "what an SSL method has otherwise: by its name, sections augment, distill, model and train to lay over the "
        "common ones",
        {},
    )
    evaluation: EvaluationParams = section(EvaluationParams)
    report: ReportParams = section(ReportParams)
    reference_compat: ReferenceCompatParams = section(ReferenceCompatParams)
    runtime: RuntimeParams = section(RuntimeParams)


T = TypeVar("T")


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``overlay`` over ``base``: mappings merge key by key, anything else replaces."""
    merged = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def for_method(params: Params, method: str) -> Params:
    """The parameters with what `per_method` says of ``method`` laid over them."""
    overlay = params.per_method.get(method)
    if not overlay:
        return params
    values = dataclasses.asdict(params)
    return from_dict(Params, merge(values, overlay))


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """Build a parameter dataclass, nested ones included, from JSON that was checked before.

    Raises TypeError on an unknown key: such JSON did not come from this version's plan.
    """
    hints = typing.get_type_hints(kind)
    return kind(**{name: _build(hints[name], value) if name in hints else value for name, value in values.items()})


def _build(hint: Any, value: Any) -> Any:
    """Turn a mapping into the dataclass that its type hint names; leave everything else as it is."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if dataclasses.is_dataclass(member)]
        hint = members[0] if members and value is not None else hint
    if typing.get_origin(hint) is dict:
        return {key: _build(typing.get_args(hint)[1], item) for key, item in value.items()}
    return from_dict(hint, value) if isinstance(hint, type) and dataclasses.is_dataclass(hint) else value
