"""Learning rates (fidelity.md §3) and the size of the views, per epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kaizen.params import OptimisationParams

# What learning rates are given for.
_BASE_BATCH = 256


def scaled_lr(lr: float, batch_size: int) -> float:
    """Scale a learning rate given for batches of 256 linearly to ``batch_size`` task images (replay
    not counted).
    """
    return lr * batch_size / _BASE_BATCH


def learning_rate(
    epoch: int,
    base: float,
    epochs: int,
    *,
    warmup_epochs: int,
    warmup_start: float,
    minimum: float,
) -> float:
    """Return the learning rate of ``epoch`` (from 0) out of ``epochs``: linear warm-up, then half a
    cosine.

    The warm-up rises from ``warmup_start`` at epoch 0 to ``base`` at epoch ``warmup_epochs`` - 1;
    the cosine starts from ``base`` at epoch ``warmup_epochs`` and would reach ``minimum`` at
    ``epochs``, one past the last. Corner cases: 0 warm-up epochs start the cosine at once; 1 gives
    epoch 0 the rate ``warmup_start`` and epoch 1 ``base``; with as many as ``epochs`` or more there
    is no cosine, and with more the run ends on the ramp, before ``base`` is reached.
    """
    if epoch < warmup_epochs:
        return warmup_start + epoch * (base - warmup_start) / max(warmup_epochs - 1, 1)
    progress = (epoch - warmup_epochs) / max(epochs - warmup_epochs, 1)
    return minimum + (base - minimum) * (1 + math.cos(math.pi * progress)) / 2


def static_rate(epoch: int, lr: float, warmup_epochs: int, warmup_start: float) -> float:
    """Return the learning rate of a group that is not scheduled (SimSiam's predictor): ``lr``.

    With ``warmup_epochs`` its epoch 0 has ``warmup_start``, as the reference's has, whose scheduler
    sets all groups' first rate before the method puts this one back (fidelity.md §3).
    """
    return warmup_start if epoch == 0 and warmup_epochs > 0 else lr


def view_size(epoch: int, epochs: int, size: int, *, start: float, full_from: float) -> int:
    """Return the side of the views of ``epoch`` (from 0) in pixels: from ``start`` * ``size`` it
    rises linearly to ``size``, which it has from ``full_from`` * ``epochs`` on.

    In between it is a multiple of 4, so that the maps of features halve without a remainder, and
    each of the few sizes serves several epochs.
    """
    growth = min(1.0, epoch / (full_from * epochs)) if full_from else 1.0
    share = start + (1.0 - start) * growth
    return size if share >= 1.0 else min(size, max(4, round(share * size / 4) * 4))


@dataclass(frozen=True)
class Schedule:
    """What each epoch (from 0) of a step trains with, by its parameters; ``static_warmup``: whether
    rates that are not scheduled start low, as the reference's.
    """

    train: OptimisationParams
    static_warmup: bool = False

    def rate(self, epoch: int, lr: float, static: bool) -> float:
        """The learning rate of a group whose base is ``lr``: `learning_rate`, or `static_rate`."""
        train = self.train
        if static:
            warmup = train.warmup_epochs if self.static_warmup else 0
            return static_rate(epoch, lr, warmup, train.warmup_start_lr)
        return learning_rate(
            epoch,
            lr,
            train.epochs,
            warmup_epochs=train.warmup_epochs,
            warmup_start=train.warmup_start_lr,
            minimum=train.min_lr,
        )

    def view_size(self, epoch: int, size: int) -> int:
        """The side of the views, whose full one is ``size``, in pixels: `view_size`."""
        start, full_from = self.train.start_size, self.train.full_size_from
        return view_size(epoch, self.train.epochs, size, start=start, full_from=full_from)
