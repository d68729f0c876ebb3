"""What can be named in the parameters, where it lives, and what belongs to it; one line each.

Nothing is imported until `load` is called, so parameters and plan may read this without torch.
"""

from __future__ import annotations

import importlib
from typing import Any, Literal, NamedTuple


class Method(NamedTuple):
    """An SSL method: its class, the feature distiller that the paper pairs it with (fidelity.md
    §5), and whether it has heads whose rate is not scheduled (`SSLMethod.static_heads`).
    """

    target: str
    distiller: str
    static_heads: bool = False


class Distiller(NamedTuple):
    """A feature distiller: its class, and the paper's weight lambda_f for it (fidelity.md §5)."""

    target: str
    weight: float


class ReplayPolicy(NamedTuple):
    """A replay policy: its function, and what it needs: the seed, or features from the run's own
    steps. One without ``images`` makes what draws pseudo-features of statistics instead, and
    has no replay shard.
    """

    target: str
    seeded: bool = False
    features: bool = False
    images: bool = True


# The parameters of `dataset` that have an effect for some sources only.
# Those of the files of images; sources whose images are pixels have no use for them.
FILE_PARAMETERS = ("classes", "encoding", "raw_limit", "bit_depth")
SOURCE_PARAMETERS = ("test_fraction", "seed", "unlabelled", "synthetic", *FILE_PARAMETERS)


class DataSource(NamedTuple):
    """A data source: its class, whether it has a `dataset.path`, which of `SOURCE_PARAMETERS` it
    reads, and which others only where the data have no test part and a share is held out.
    """

    target: str
    path: Literal["none", "optional", "needed"]
    reads: tuple[str, ...] = ()
    reads_to_hold_out: tuple[str, ...] = ()


SSL_METHODS = {
    "simclr": Method("kaizen.ssl.simclr:SimCLR", "contrastive"),
    "mocov2plus": Method("kaizen.ssl.mocov2plus:MoCoV2Plus", "contrastive"),
    "byol": Method("kaizen.ssl.byol:BYOL", "predictive"),
    "vicreg": Method("kaizen.ssl.vicreg:VICReg", "predictive_mse"),
    "barlow_twins": Method("kaizen.ssl.barlow_twins:BarlowTwins", "decorrelative"),
    "simsiam": Method("kaizen.ssl.simsiam:SimSiam", "predictive", static_heads=True),
    "nnclr": Method("kaizen.ssl.nnclr:NNCLR", "contrastive"),
    "swav": Method("kaizen.ssl.swav:SwAV", "prototype"),
    "dino": Method("kaizen.ssl.dino:DINO", "prototype"),
}

# What stands in a method's place where labels alone train the encoder: a variant that is not
# `self_supervised` has it, whichever methods the grid names.
SUPERVISED = "supervised"

# What a step can be trained with.
METHODS = SSL_METHODS | {SUPERVISED: Method("kaizen.ssl.supervised:Supervised", "")}

FEATURE_DISTILLERS = {
    "contrastive": Distiller("kaizen.distill.contrastive:ContrastiveDistiller", 1.0),
    "predictive": Distiller("kaizen.distill.predictive:PredictiveDistiller", 1.0),
    "predictive_mse": Distiller("kaizen.distill.predictive_mse:PredictiveMSEDistiller", 25.0),
    "decorrelative": Distiller("kaizen.distill.decorrelative:DecorrelativeDistiller", 1.0),
    "prototype": Distiller("kaizen.distill.prototype:PrototypeDistiller", 1.0),
}

# The backbones built in, with the packages that they need beyond torch; `TIMM` and a name is any
# model of timm's.
BACKBONES: dict[str, tuple[str, ...]] = {
    "small_resnet": (),
    "resnet18": (),
    "resnet50": (),
}
TIMM = "timm/"


def backbone_packages(backbone: str) -> tuple[str, ...]:
    """Return the packages whose versions the training of a backbone depends on, beyond torch."""
    return ("timm",) if backbone.startswith(TIMM) else BACKBONES[backbone]


REPLAY_POLICIES = {
    "first_n": ReplayPolicy("kaizen.data.replay.first_n:choose"),
    "balanced_random": ReplayPolicy("kaizen.data.replay.balanced_random:choose", seeded=True),
    "reservoir": ReplayPolicy("kaizen.data.replay.reservoir:choose", seeded=True),
    "herding": ReplayPolicy("kaizen.data.replay.herding:choose", features=True),
    "prototypes": ReplayPolicy("kaizen.training.prototypes:prototypes_of", images=False),
}

# The head that the steps train: the paper's. The others are solved from statistics of features.
TRAINED = "trained"
ANALYTIC_HEADS = {
    "ncm": "kaizen.heads.ncm:solve",
    "lda": "kaizen.heads.lda:solve",
    "ridge": "kaizen.heads.ridge:solve",
}

# The source of a stream that grows: its tasks are what `kaizen append` took.
STREAM = "stream"

SOURCES = {
    "cifar10": DataSource("kaizen.data.sources.cifar:Cifar", "optional"),
    "cifar100": DataSource("kaizen.data.sources.cifar:Cifar", "optional"),
    "digits": DataSource("kaizen.data.sources.digits:Digits", "none", ("test_fraction", "seed")),
    "domain_folder": DataSource(
        "kaizen.data.sources.domain_folder:DomainFolder", "needed", FILE_PARAMETERS
    ),
    "image_folder": DataSource(
        "kaizen.data.sources.image_folder:ImageFolder",
        "needed",
        FILE_PARAMETERS,
        ("test_fraction", "seed"),
    ),
    "imagenet": DataSource("kaizen.data.sources.imagenet:ImageNet", "needed", FILE_PARAMETERS),
    "stl10": DataSource("kaizen.data.sources.stl10:STL10", "optional", ("unlabelled",)),
    STREAM: DataSource(
        "kaizen.data.sources.arrival:Arrival",
        "needed",
        FILE_PARAMETERS,
        ("test_fraction", "seed"),
    ),
    "synthetic": DataSource(
        "kaizen.data.sources.synthetic:Synthetic", "none", ("seed", "synthetic")
    ),
    "tiny_imagenet": DataSource(
        "kaizen.data.sources.tiny_imagenet:TinyImageNet", "needed", FILE_PARAMETERS
    ),
}


def module_of(target: str) -> str:
    """Return the module of a target such as "kaizen.ssl.simclr:SimCLR"."""
    return target.partition(":")[0]


def load(target: str) -> Any:
    """Import the class or function that a target such as "kaizen.ssl.simclr:SimCLR" names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
