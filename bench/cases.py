"""The sizes at which training steps are compared: those of the demo, of CIFAR-10-small, of the
paper.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kaizen.params import AugmentParams, ImageParams, JitterParams, ModelParams

_COLOUR = AugmentParams(
    crop_scale=[0.2, 1.0],
    flip=0.5,
    jitter=JitterParams(probability=0.8),
    greyscale=0.2,
    solarize=[0.0, 0.2],
)
_GREY = AugmentParams(crop_scale=[0.3, 1.0])
_CIFAR = ImageParams(size=32, channels=3, mean=[0.4914, 0.4822, 0.4465], std=[0.247, 0.243, 0.261])


@dataclass(frozen=True, kw_only=True)
class Case:
    """A training step's network, batch and images; ``stored`` is the side of the stored images."""

    name: str
    model: ModelParams
    batch: int
    replay: int
    stored: int
    image: ImageParams
    augment: AugmentParams
    projector_hidden: int = 512
    projector_out: int = 128
    classes: int = 10
    learning_rate: float = 0.25
    # Rows of the made-up data, enough for some batches.
    rows: int = 2048
    methods: tuple[str, ...] = ("simclr",)
    # Of a SimCLR step k > 0: products and sums of its convolutions and linear layers.
    gflop: float = 0.0
    # The paper's distillation predictor is as wide as the projector's hidden layer.
    distill_hidden: int = field(default=512)


DIGITS = Case(
    name="digits",
    model=ModelParams(width=16),
    batch=32,
    replay=32,
    stored=8,
    image=ImageParams(size=16, channels=1, mean=[0.305], std=[0.376]),
    augment=_GREY,
    projector_hidden=256,
    projector_out=64,
    distill_hidden=256,
    gflop=3.19,
)
SMALL_64 = Case(
    name="small64",
    model=ModelParams(width=16, classifier_hidden=[256]),
    batch=64,
    replay=8,
    stored=32,
    image=_CIFAR,
    augment=_COLOUR,
    methods=("simclr", "mocov2plus", "byol", "vicreg"),
    gflop=14.4,
)
SMALL_256 = Case(
    name="small256",
    model=ModelParams(width=16, classifier_hidden=[256]),
    batch=256,
    replay=32,
    stored=32,
    image=_CIFAR,
    augment=_COLOUR,
    gflop=57.6,
)
RESNET18 = Case(
    name="resnet18",
    model=ModelParams(backbone="resnet18", classifier_hidden=[1000]),
    batch=16,
    replay=2,
    stored=32,
    image=_CIFAR,
    augment=_COLOUR,
    projector_hidden=4096,
    projector_out=256,
    classes=100,
    distill_hidden=2048,
    gflop=161.1,
)
CASES = (DIGITS, SMALL_64, SMALL_256, RESNET18)
