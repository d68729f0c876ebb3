"""Each SSL method learns on digits: its loss falls, and its features tell digits apart better than
untrained ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ssl_models import METHODS, forward, optimizer, update
from torch import Tensor

from kaizen.data.sources.base import Part
from kaizen.data.sources.digits import Digits
from kaizen.models.backbone import Backbone
from kaizen.models.feature_classifier import Architecture
from kaizen.params import AugmentParams, DatasetParams, ImageParams, ModelParams, SSLParams
from kaizen.ssl.base import Moment
from kaizen.training.schedule import learning_rate
from kaizen.training.student import build_model
from kaizen.views.augment import TwoViewAugment

EPOCHS, BATCH = 8, 64


class Setting(NamedTuple):
    """How a method trains here, and by how much its mean loss must fall: about half of what it
    does.
    """

    fall: float | None
    lr: float = 0.075
    changes: dict[str, Any] = {}  # noqa: RUF012


SETTINGS = {
    "simclr": Setting(0.6),
    "mocov2plus": Setting(0.35, 0.25, {"queue_size": 256, "momentum_final": 0.99}),
    "byol": Setting(0.7, 0.25),
    "vicreg": Setting(3.0, 0.015),
    "barlow_twins": Setting(0.8, 0.025, {"off_diagonal": 0.05}),
    "simsiam": Setting(0.3, 0.15, {"projector_out": 64}),
    "nnclr": Setting(0.5),
    # With softer assignments the few, similar images of this size leave all prototypes alike.
    "swav": Setting(
        0.5,
        0.075,
        {"prototypes": 30, "sinkhorn_epsilon": 0.01, "queue_size": 128, "queue_from_epoch": 3},
    ),
    # DINO's loss is the cross-entropy with a target whose entropy follows centre and temperature:
    # it says nothing across epochs and is smallest when all collapses into one prototype. The
    # features must be better.
    "dino": Setting(
        None,
        0.075,
        {
            "prototypes": 64,
            "teacher_temperature_start": 0.01,
            "teacher_temperature": 0.02,
            "teacher_temperature_warmup_epochs": 4,
        },
    ),
}


class Images(NamedTuple):
    pixels: Tensor
    labels: Tensor


def images(part: Part, every: int) -> Images:
    """Digits, uint8 [N, 1, 8, 8], and their labels."""
    source = Digits(DatasetParams())
    rows = source.rows(part)[::every]
    pixels = np.stack([source.read(row) for row in rows]).transpose(0, 3, 1, 2)
    return Images(torch.from_numpy(pixels.copy()), torch.tensor([row.label for row in rows]))


@torch.no_grad()
def neighbour_accuracy(encoder: Backbone, train: Images, test: Images) -> float:
    """Share of test images that most of their 5 nearest training images agree with, by cosine of
    features.
    """
    encoder.eval()
    known, asked = (
        F.normalize(encoder((part.pixels / 255 - 0.305) / 0.376), dim=1) for part in (train, test)
    )
    encoder.train()
    votes = F.one_hot(train.labels[(asked @ known.T).topk(5, dim=1).indices], 10).sum(dim=1)
    return (votes.argmax(dim=1) == test.labels).float().mean().item()


def batches(train: Images, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The epoch's batches, as two views."""
    generator = torch.Generator().manual_seed(epoch)
    augment = TwoViewAugment(AugmentParams(), ImageParams(size=8))
    order = torch.randperm(len(train.pixels), generator=generator)
    for start in range(0, len(order) - BATCH + 1, BATCH):
        pixels = train.pixels[order[start : start + BATCH]]
        yield augment(pixels, 0, generator), augment(pixels, 1, generator)


@pytest.mark.parametrize("method", METHODS)
def test_the_method_learns_on_digits(method: str) -> None:
    setting = SETTINGS[method]
    train, test = images("train", every=2), images("test", every=1)
    params = dataclasses.replace(getattr(SSLParams(), method), **setting.changes)
    architecture = Architecture(model=ModelParams(width=8), channels=1, logits=10, seed=0)
    model = build_model(architecture, method, params).train()
    length = len(train.pixels) // BATCH
    # The start is the second of two epochs without training; the first fills the queues, whose
    # random columns are easier negatives than projections.
    start: list[float] = []
    for step, views in enumerate([*batches(train, EPOCHS), *batches(train, EPOCHS + 1)]):
        moment = Moment(step, 2 * length, 0)
        start.append(forward(model, views, moment).loss.item())
        model.ssl.after_step(moment, model.encoder)
    accuracy = neighbour_accuracy(model.encoder, train, test)
    model.ssl.start_task()
    sgd = optimizer(model, lars=False, weight_decay=1e-5)
    losses: list[float] = []
    for epoch in range(EPOCHS):
        lr = learning_rate(
            epoch, setting.lr, EPOCHS, warmup_epochs=1, warmup_start=0.003, minimum=0.0
        )
        for step, views in enumerate(batches(train, epoch)):
            losses.append(
                update(
                    model, sgd, views, Moment(epoch * length + step, EPOCHS * length, epoch), lr
                ).item()
            )
    learned = neighbour_accuracy(model.encoder, train, test)
    assert np.isfinite(losses).all()
    if setting.fall is not None:
        assert np.mean(losses[-length:]) < np.mean(start[-length:]) - setting.fall
    assert learned > accuracy + 0.03
