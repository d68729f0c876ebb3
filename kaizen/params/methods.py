"""Parameters of the SSL methods, a class for each."""

from __future__ import annotations

from dataclasses import dataclass

from kaizen.params.base import (
    STRICT,
    Count,
    NonNegative,
    NonNegativeInt,
    Positive,
    Probability,
    Temperature,
    doc,
    section,
)


@dataclass(frozen=True)
class SimCLRParams:
    """SimCLR (fidelity.md §4)."""

    __pydantic_config__ = STRICT

    projector_hidden: Count = doc("width of the projector's hidden layer (the paper: 4096)", 256)
    projector_out: Count = doc("size of the projection (the paper: 256)", 64)
    temperature: Temperature = doc("NT-Xent temperature", 0.2)


@dataclass(frozen=True)
class MoCoV2PlusParams:
    """MoCo v2+ (fidelity.md §4)."""

    __pydantic_config__ = STRICT

    projector_hidden: Count = doc("width of the projector's hidden layer (the paper: 2048)", 256)
    projector_out: Count = doc("size of the projection (the paper: 256)", 64)
    temperature: Temperature = doc("of the softmax over the positive and the queue", 0.2)
    queue_size: Count = doc("keys in each view's queue of negatives (the paper: 65536)", 1024)
    momentum_base: Probability = doc("momentum network: coefficient at a task's first step", 0.99)
    momentum_final: Probability = doc("and at its last", 0.999)


@dataclass(frozen=True)
class BYOLParams:
    """BYOL (fidelity.md §4)."""

    __pydantic_config__ = STRICT

    projector_hidden: Count = doc("width of the projector's hidden layer (the paper: 4096)", 256)
    projector_out: Count = doc("size of the projection (the paper: 256)", 64)
    predictor_hidden: Count = doc("width of the predictor's hidden layer (the paper: 4096)", 256)
    momentum_base: Probability = doc("momentum network: coefficient at a task's first step", 0.99)
    momentum_final: Probability = doc("and at its last", 1.0)


@dataclass(frozen=True)
class VICRegParams:
    """VICReg (fidelity.md §4)."""

    __pydantic_config__ = STRICT

    projector_hidden: Count = doc("width of the projector's hidden layers (the paper: 2048)", 256)
    projector_out: Count = doc("size of the projection (the paper: 2048)", 256)
    invariance_weight: NonNegative = doc("of the mean squared error between views", 25.0)
    variance_weight: NonNegative = doc(
        "of the hinge on each dimension's standard deviation, summed over views", 25.0
    )
    covariance_weight: NonNegative = doc("of the off-diagonal covariances, summed over views", 1.0)


@dataclass(frozen=True)
class BarlowTwinsParams:
    """Barlow Twins (fidelity.md §4)."""

    __pydantic_config__ = STRICT

    projector_hidden: Count = doc("width of the projector's hidden layers (the paper: 2048)", 256)
    projector_out: Count = doc("size of the projection (the paper: 2048)", 256)
    off_diagonal: NonNegative = doc("weight of the off-diagonal correlations", 5e-3)
    scale: Positive = doc("of the whole loss", 0.025)


@dataclass(frozen=True)
class SimSiamParams:
    """SimSiam (fidelity.md §4)."""

    __pydantic_config__ = STRICT

    projector_hidden: Count = doc("width of the projector's hidden layers (CaSSLe: 2048)", 256)
    projector_out: Count = doc("size of the projection (CaSSLe: 2048)", 256)
    predictor_hidden: Count = doc("width of the predictor's hidden layer (CaSSLe: 512)", 64)


@dataclass(frozen=True)
class NNCLRParams:
    """NNCLR (fidelity.md §4)."""

    __pydantic_config__ = STRICT

    projector_hidden: Count = doc("width of the projector's hidden layers (CaSSLe: 2048)", 256)
    projector_out: Count = doc("size of the projection (CaSSLe: 256)", 64)
    predictor_hidden: Count = doc("width of the predictor's hidden layer (CaSSLe: 4096)", 256)
    temperature: Temperature = doc("of the softmax over the batch", 0.2)
    queue_size: Count = doc("projections among which neighbours are sought (CaSSLe: 65536)", 1024)


@dataclass(frozen=True)
class SwAVParams:
    """SwAV (fidelity.md §4)."""

    __pydantic_config__ = STRICT

    projector_hidden: Count = doc("width of the projector's hidden layer (CaSSLe: 2048)", 256)
    projector_out: Count = doc("size of the projection (CaSSLe: 128)", 64)
    prototypes: Count = doc("number of prototypes (CaSSLe: 3000)", 100)
    temperature: Temperature = doc("of the softmax over prototypes", 0.1)
    sinkhorn_iterations: Count = doc("rounds of Sinkhorn-Knopp", 3)
    sinkhorn_epsilon: Temperature = doc("sharpness of the assignments", 0.05)
    queue_size: NonNegativeInt = doc(
        "earlier projections that take part in the assignment (CaSSLe: 3840)", 256
    )
    queue_from_epoch: NonNegativeInt = doc("epoch of each task from which they do", 15)
    freeze_prototypes_epochs: NonNegativeInt = doc(
        "epochs at each task's start in which prototypes rest", 1
    )


@dataclass(frozen=True)
class DINOParams:
    """DINO (fidelity.md §4)."""

    __pydantic_config__ = STRICT

    projector_hidden: Count = doc("width of the head's hidden layers (CaSSLe: 2048)", 256)
    projector_out: Count = doc("size of the head's bottleneck, the projection (CaSSLe: 256)", 64)
    prototypes: Count = doc("outputs of the last layer (CaSSLe: 4096)", 256)
    student_temperature: Temperature = doc("of the student's softmax", 0.1)
    teacher_temperature_start: Temperature = doc(
        "of the momentum network's softmax at a task's start", 0.04
    )
    teacher_temperature: Temperature = doc("and after the warm-up", 0.07)
    teacher_temperature_warmup_epochs: NonNegativeInt = doc(
        "epochs of linear warm-up of that temperature", 50
    )
    centre_momentum: Probability = doc(
        "of the running centre of the momentum network's outputs", 0.9
    )
    freeze_last_layer_epochs: NonNegativeInt = doc(
        "epochs at each task's start in which the last layer rests", 1
    )
    clip_gradient: NonNegative = doc(
        "largest norm of each parameter's gradient; 0: not clipped", 3.0
    )
    momentum_base: Probability = doc("momentum network: coefficient at a task's first step", 0.996)
    momentum_final: Probability = doc("and at its last", 1.0)


@dataclass(frozen=True)
class SSLParams:
    """One section per SSL method; only those of the grid's methods have an effect."""

    __pydantic_config__ = STRICT

    simclr: SimCLRParams = section(SimCLRParams)
    mocov2plus: MoCoV2PlusParams = section(MoCoV2PlusParams)
    byol: BYOLParams = section(BYOLParams)
    vicreg: VICRegParams = section(VICRegParams)
    barlow_twins: BarlowTwinsParams = section(BarlowTwinsParams)
    simsiam: SimSiamParams = section(SimSiamParams)
    nnclr: NNCLRParams = section(NNCLRParams)
    swav: SwAVParams = section(SwAVParams)
    dino: DINOParams = section(DINOParams)
