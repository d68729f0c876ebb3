"""The interface through which training knows a self-supervised method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn


@dataclass(frozen=True)
class Moment:
    """Where in a task the training is, counted from 0: optimiser step ``step`` of ``steps``, in
    ``epoch``.
    """

    step: int
    steps: int
    epoch: int


class SSLOutput(NamedTuple):
    """What a method returns for a batch of N images in two views.

    ``loss`` is L_FE^CT, a scalar in float32 (float64 for float64 inputs). ``projections`` are the
    two [N, D] tensors handed to feature distillation, gradient attached (fidelity.md §4, last
    line).
    """

    loss: Tensor
    projections: tuple[Tensor, Tensor]


class SSLMethod(nn.Module, ABC):
    """A self-supervised method: its heads on top of the encoder, its loss, and its updates between
    steps.

    A subclass is built as ``(params, encoder)``, its parameters and the student's encoder [N, C, H,
    W] -> [N, F], of which it may keep a copy but no reference. Everything that the next task
    inherits (heads, momentum networks, queues) is a parameter or buffer, so it travels in the state
    dict.
    """

    projection_dim: int
    # Heads whose learning rate the schedule leaves alone (fidelity.md §3).
    static_heads: frozenset[str] = frozenset()
    # Attributes that only a student needs; the frozen teacher goes without.
    student_only: tuple[str, ...] = ()
    # What `forward` leaves for `after_step`, and nothing else from one to the other.
    pending: tuple[Tensor, ...] = ()

    @abstractmethod
    def forward(
        self, features: tuple[Tensor, Tensor], views: tuple[Tensor, Tensor], moment: Moment
    ) -> SSLOutput:
        """Compute the loss from the encoder's features of two views, each [N, F].

        ``views`` are the images themselves, [N, C, H, W], for methods with a momentum encoder: to
        be given to a backbone and to nothing else, as processes that share a step have their own
        part of them, while every backbone within the model returns the features of all N
        (`kaizen.models.shared`). The loss is computed in full precision even under autocast.
        Buffers that the loss depends on (queues) are left alone until `after_step`.
        """

    @abstractmethod
    def project(self, features: Tensor) -> Tensor:
        """Map features [N, F] to what feature distillation compares, [N, D]; the frozen teacher
        uses this.
        """

    def parameter_groups(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Trainable parameters with their names, grouped by the head they belong to ("projector",
        "predictor").

        Frozen copies (momentum networks) have requires_grad False and are left out.
        """
        groups: dict[str, list[tuple[str, nn.Parameter]]] = {}
        for path, parameter in self.named_parameters():
            if parameter.requires_grad:
                head, _, name = path.partition(".")
                groups.setdefault(head, []).append((name or head, parameter))
        return groups

    def phase(self, moment: Moment) -> Hashable:
        """What `forward` takes from ``moment``: while it is the same, one recording of the forward
        pass serves (`kaizen.training.gradients`). None by default: nothing.
        """
        return None

    def start_task(self) -> None:
        """Prepare for a task once the prior step's state is loaded; nothing by default."""

    def before_update(self, moment: Moment, encoder: nn.Module) -> None:
        """Change gradients, between the backward pass and the optimiser's step; nothing by default.

        A parameter whose gradient is None rests: the optimiser leaves it alone, momentum and weight
        decay included.
        """

    def after_step(self, moment: Moment, encoder: nn.Module) -> None:
        """Update what gradients do not (momentum networks, queues) after an optimiser step; nothing
        by default.
        """


class PrototypeMethod(SSLMethod):
    """A method that compares projections with learned prototypes, which prototype distillation
    builds on.

    An optional capability: other methods are plain `SSLMethod`s. The frozen teacher keeps the
    prototypes.
    """

    # Maps projections [N, projection_dim], which it normalises itself, to scores [N,
    # prototype_count].
    prototypes: nn.Module
    prototype_count: int

    def prototype_scores(self, projections: Tensor) -> Tensor:
        """Score projections, or predictions of them, [N, projection_dim] against every prototype:
        [N, prototype_count].

        The rows' length has no effect. Computed in full precision even under autocast.
        """
        scores: Tensor = self.prototypes(projections)
        return scores
