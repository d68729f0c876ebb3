"""Parameters of the SSL methods, a class for each."""

from __future__ import annotations

from kaizen.params.base import (
    Count,
    NonNegative,
    NonNegativeInt,
    Positive,
    Probability,
    Temperature,
    doc,
    parameters,
    section,
)


@parameters
class SimCLRParams:
    """SimCLR (fidelity.md §4)."""

    projector_hidden: Count = doc(256, "width of the projector's hidden layer (the paper: 4096)")
    projector_out: Count = doc(64, "size of the projection (the paper: 256)")
    temperature: Temperature = doc(0.2, "NT-Xent temperature")


@parameters
class MoCoV2PlusParams:
    """MoCo v2+ (fidelity.md §4)."""

    projector_hidden: Count = doc(256, "width of the projector's hidden layer (the paper: 2048)")
    projector_out: Count = doc(64, "size of the projection (the paper: 256)")
    temperature: Temperature = doc(0.2, "of the softmax over the positive and the queue")
    queue_size: Count = doc(1024, "keys in each view's queue of negatives (the paper: 65536)")
    momentum_base: Probability = doc(0.99, "momentum network: coefficient at a task's first step")
    momentum_final: Probability = doc(0.999, "and at its last")


@parameters
class BYOLParams:
    """BYOL (fidelity.md §4)."""

    projector_hidden: Count = doc(256, "width of the projector's hidden layer (the paper: 4096)")
    projector_out: Count = doc(64, "size of the projection (the paper: 256)")
    predictor_hidden: Count = doc(256, "width of the predictor's hidden layer (the paper: 4096)")
    momentum_base: Probability = doc(0.99, "momentum network: coefficient at a task's first step")
    momentum_final: Probability = doc(1.0, "and at its last")


@parameters
class VICRegParams:
    """VICReg (fidelity.md §4)."""

    projector_hidden: Count = doc(256, "width of the projector's hidden layers (the paper: 2048)")
    projector_out: Count = doc(256, "size of the projection (the paper: 2048)")
    invariance_weight: NonNegative = doc(25.0, "of the mean squared error between views")
    variance_weight: NonNegative = doc(
        25.0, "of the hinge on each dimension's standard deviation, summed over views"
    )
    covariance_weight: NonNegative = doc(1.0, "of the off-diagonal covariances, summed over views")


@parameters
class BarlowTwinsParams:
    """Barlow Twins (fidelity.md §4)."""

    projector_hidden: Count = doc(256, "width of the projector's hidden layers (the paper: 2048)")
    projector_out: Count = doc(256, "size of the projection (the paper: 2048)")
    off_diagonal: NonNegative = doc(5e-3, "weight of the off-diagonal correlations")
    scale: Positive = doc(0.025, "of the whole loss")


@parameters
class SimSiamParams:
    """SimSiam (fidelity.md §4)."""

    projector_hidden: Count = doc(256, "width of the projector's hidden layers (CaSSLe: 2048)")
    projector_out: Count = doc(256, "size of the projection (CaSSLe: 2048)")
    predictor_hidden: Count = doc(64, "width of the predictor's hidden layer (CaSSLe: 512)")


@parameters
class NNCLRParams:
    """NNCLR (fidelity.md §4)."""

    projector_hidden: Count = doc(256, "width of the projector's hidden layers (CaSSLe: 2048)")
    projector_out: Count = doc(64, "size of the projection (CaSSLe: 256)")
    predictor_hidden: Count = doc(256, "width of the predictor's hidden layer (CaSSLe: 4096)")
    temperature: Temperature = doc(0.2, "of the softmax over the batch")
    queue_size: Count = doc(
        1024, "projections among which neighbours are looked up (CaSSLe: 65536)"
    )


@parameters
class SwAVParams:
    """SwAV (fidelity.md §4)."""

    projector_hidden: Count = doc(256, "width of the projector's hidden layer (CaSSLe: 2048)")
    projector_out: Count = doc(64, "size of the projection (CaSSLe: 128)")
    prototypes: Count = doc(100, "number of prototypes (CaSSLe: 3000)")
    temperature: Temperature = doc(0.1, "of the softmax over prototypes")
    sinkhorn_iterations: Count = doc(3, "rounds of Sinkhorn-Knopp")
    sinkhorn_epsilon: Temperature = doc(0.05, "sharpness of the assignments")
    queue_size: NonNegativeInt = doc(
        256, "earlier projections that take part in the assignment (CaSSLe: 3840)"
    )
    queue_from_epoch: NonNegativeInt = doc(15, "epoch of each task from which they do")
    freeze_prototypes_epochs: NonNegativeInt = doc(
        1, "epochs at each task's start in which prototypes rest"
    )


@parameters
class DINOParams:
    """DINO (fidelity.md §4)."""

    projector_hidden: Count = doc(256, "width of the head's hidden layers (CaSSLe: 2048)")
    projector_out: Count = doc(64, "size of the head's bottleneck, the projection (CaSSLe: 256)")
    prototypes: Count = doc(256, "outputs of the last layer (CaSSLe: 4096)")
    student_temperature: Temperature = doc(0.1, "of the student's softmax")
    teacher_temperature_start: Temperature = doc(
        0.04, "of the momentum network's softmax at a task's start"
    )
    teacher_temperature: Temperature = doc(0.07, "and after the warm-up")
    teacher_temperature_warmup_epochs: NonNegativeInt = doc(
        50, "epochs of linear warm-up of that temperature"
    )
    centre_momentum: Probability = doc(
        0.9, "of the running centre of the momentum network's outputs"
    )
    freeze_last_layer_epochs: NonNegativeInt = doc(
        1, "epochs at each task's start in which the last layer rests"
    )
    clip_gradient: NonNegative = doc(
        3.0, "largest norm of each parameter's gradient; 0: not clipped"
    )
    momentum_base: Probability = doc(0.996, "momentum network: coefficient at a task's first step")
    momentum_final: Probability = doc(1.0, "and at its last")


@parameters
class SSLParams:
    """One section per SSL method; only those of the grid's methods have an effect."""

    simclr: SimCLRParams = section(SimCLRParams)
    mocov2plus: MoCoV2PlusParams = section(MoCoV2PlusParams)
    byol: BYOLParams = section(BYOLParams)
    vicreg: VICRegParams = section(VICRegParams)
    barlow_twins: BarlowTwinsParams = section(BarlowTwinsParams)
    simsiam: SimSiamParams = section(SimSiamParams)
    nnclr: NNCLRParams = section(NNCLRParams)
    swav: SwAVParams = section(SwAVParams)
    dino: DINOParams = section(DINOParams)
