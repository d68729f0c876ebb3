"""Small models of every SSL method for tests, and one optimiser step of them as the training loop
makes it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from kaizen.models.backbone import Backbone
from kaizen.models.feature_classifier import Architecture
from kaizen.params import ModelParams, SSLParams, TrainParams, registry
from kaizen.ssl.base import Moment, SSLMethod, SSLOutput
from kaizen.training.groups import parameter_groups
from kaizen.training.optim import SGD
from kaizen.training.student import ContinualModel, build_model

METHODS = list(registry.SSL_METHODS)
MOMENTUM_METHODS = ["mocov2plus", "byol", "dino"]
# In epoch 1 of 3 nothing rests any more and SwAV's queue takes part.
LATER = Moment(step=4, steps=12, epoch=1)
_SIZES = {
    "projector_hidden": 16,
    "projector_out": 8,
    "predictor_hidden": 12,
    "queue_size": 20,
    "prototypes": 6,
}


class Features(Backbone):
    """Stands for an encoder: its "images" are the features themselves."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim

    def forward(self, images: Tensor) -> Tensor:
        return images


class Projections(SSLMethod):
    """Stands for a method: its projections are the features themselves, its loss their distance."""

    def __init__(self, projection_dim: int) -> None:
        super().__init__()
        self.projection_dim = projection_dim

    def forward(
        self, features: tuple[Tensor, Tensor], views: tuple[Tensor, Tensor], moment: Moment
    ) -> SSLOutput:
        return SSLOutput((features[0] - features[1]).square().mean(), features)

    def project(self, features: Tensor) -> Tensor:
        return features


def small_ssl_params(method: str, **changes: Any) -> Any:
    """The method's parameters at small sizes, SwAV's queue from epoch 1 on, and with
    ``changes``.
    """
    params = getattr(SSLParams(), method)
    wanted = _SIZES | {"queue_from_epoch": 1} | changes
    names = {field.name for field in dataclasses.fields(params)}
    assert changes.keys() <= names
    return dataclasses.replace(
        params, **{name: value for name, value in wanted.items() if name in names}
    )


def small_model(method: str, seed: int = 0, **changes: Any) -> Any:
    """A model in train mode, its method at the start of a task."""
    ssl = small_ssl_params(method, **changes)
    parts = ModelParams(width=4, classifier_hidden=[8])
    model = build_model(Architecture(model=parts, channels=3, logits=5, seed=seed), method, ssl)
    model.ssl.start_task()
    return model.train()


def random_views(seed: int = 0, count: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(count, 3, 8, 8, generator=generator) for _ in range(2))
    return first, second


def forward(
    model: ContinualModel, views: tuple[Tensor, Tensor], moment: Moment = LATER
) -> SSLOutput:
    features = (model.encoder(views[0]), model.encoder(views[1]))
    output: SSLOutput = model.ssl(features, views, moment)
    return output


def optimizer(model: ContinualModel, lars: bool = True, weight_decay: float = 0.1) -> SGD:
    """SGD as a step uses it, with momentum and, unless set otherwise, a weight decay that
    shows.
    """
    groups = parameter_groups(model, TrainParams(weight_decay=weight_decay))
    return SGD(groups, momentum=0.9, lars=lars, lars_eta=0.02)


def update(
    model: ContinualModel,
    sgd: SGD,
    views: tuple[Tensor, Tensor],
    moment: Moment = LATER,
    lr: float = 0.1,
) -> Tensor:
    """One optimiser step on the SSL loss, in the order of the training loop; returns the loss."""
    loss = forward(model, views, moment).loss
    sgd.zero_grad()
    loss.backward()
    model.ssl.before_update(moment, model.encoder)
    sgd.step({group.name: lr for group in sgd.groups})
    model.ssl.after_step(moment, model.encoder)
    return loss.detach()


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
