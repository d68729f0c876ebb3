"""Folders of models for the tests of exports, and real images: untrained networks whose batch norms
have statistics, and a small one that was trained on digits in seconds.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.torch
import torch
from project import REPOSITORY
from sklearn.datasets import load_digits
from torch import nn

from kaizen.data.names import CHECKPOINT, HEADS_FILE, PREPROCESSING_FILE
from kaizen.evaluation.head_files import StepHeads, write_heads
from kaizen.heads.expansion import expanded, random_projection
from kaizen.heads.lda import solve
from kaizen.heads.statistics import ClassStatistics
from kaizen.models.config import (
    KnownClass,
    ModelConfig,
    Preprocessing,
    write_config,
    write_preprocessing,
)
from kaizen.models.feature_classifier import (
    Architecture,
    FeatureClassifier,
    build_feature_classifier,
)
from kaizen.params import ImageParams, NetworkParams
from kaizen.views.augment import evaluation_transform

CIFAR = REPOSITORY.parent / "shared" / "data" / "cifar10-images.tar.xz"
SMALL = NetworkParams(width=8, classifier_hidden=[16])


def write_model(
    folder: Path,
    network: FeatureClassifier,
    params: NetworkParams,
    image: ImageParams,
    *,
    classes: Sequence[KnownClass] = (KnownClass(1, 7, "one"), KnownClass(4, 2, "four")),
    preprocessing: Preprocessing | None = None,
) -> Path:
    """Write the folder of a model, as a step and the summary do; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(network.state_dict(), folder / CHECKPOINT)
    last = network.classifier[-1]
    assert isinstance(last, nn.Linear)
    config = ModelConfig(
        key="0123456789abcdef",
        lineage=["aa", "bb"],
        method="simclr",
        network=params,
        stem_padding_2=False,
        logits=last.out_features,
        classes=list(classes),
        image=image,
        precision="float32",
    )
    write_config(config, folder)
    shown = preprocessing or Preprocessing(test_crop=1.0, resize=None, bit_depth=None)
    write_preprocessing(shown, folder / PREPROCESSING_FILE)
    return folder


def made_network(
    params: NetworkParams, image: ImageParams, logits: int = 5, seed: int = 3
) -> FeatureClassifier:
    """An untrained network in eval mode, whose batch norms do something."""
    architecture = Architecture(
        model=params, channels=image.channels, logits=logits, seed=seed, image_size=image.size
    )
    network = build_feature_classifier(architecture).eval()
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0.0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0.0, 0.2, generator=generator)
    return network


def image_params(size: int, channels: Literal[1, 3], load_size: int | None = None) -> ImageParams:
    """What a network of the tests sees."""
    return ImageParams(
        size=size,
        load_size=load_size,
        channels=channels,
        mean=[0.3, 0.4, 0.5][:channels],
        std=[0.3, 0.2, 0.25][:channels],
    )


def digits() -> tuple[np.ndarray, np.ndarray]:
    """All handwritten digits of scikit-learn, uint8 [1797, 8, 8], and their labels."""
    data = load_digits()
    return np.rint(data.images * (255 / 16)).astype(np.uint8), data.target


def cifar(count: int) -> list[bytes]:
    """So many images of CIFAR-10 of all classes, as files."""
    with tarfile.open(CIFAR, "r|xz") as archive:
        step = 60_000 // count
        found: list[bytes] = []
        for number, member in enumerate(one for one in archive if one.isfile()):
            if number % step == 0 and len(found) < count:
                file = archive.extractfile(member)
                assert file is not None
                found.append(file.read())
    return found


def train_on_digits(folder: Path, head: bool = False) -> Path:
    """Write a small model that has learnt 1,200 digits, with statistics that any training leaves;
    with ``head`` an LDA head of random features answers, which has not seen the digit 4.
    """
    images, labels = digits()
    image = image_params(16, 1)
    pixels = evaluation_transform(torch.from_numpy(images[:1200])[:, None], image)
    targets = torch.from_numpy(labels[:1200]).long()
    network = made_network(SMALL, image, logits=10).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.003)
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        for rows in torch.randperm(1200, generator=generator).split(100):
            loss = nn.functional.cross_entropy(network(pixels[rows]), targets[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    network.eval()
    kind = "lda" if head else "trained"
    write_model(
        folder,
        network,
        SMALL,
        image,
        classes=[KnownClass(n, n, f"digit {n}") for n in range(10)],
        preprocessing=Preprocessing(test_crop=1.0, resize=None, bit_depth=None, head=kind),
    )
    if head:
        _write_head(folder, network, pixels, targets)
    return folder


def _write_head(
    folder: Path, network: FeatureClassifier, pixels: torch.Tensor, targets: torch.Tensor
) -> None:
    projection = random_projection(network.encoder.feature_dim, 50, seed=0)
    known = targets != 4
    with torch.no_grad():
        seen = expanded(network.encoder(pixels[known]), projection)
    statistics = ClassStatistics.of(seen, targets[known])
    heads = {"lda": solve(statistics, statistics, 0.1)}
    write_heads(StepHeads(statistics, heads, projection), folder / HEADS_FILE)
