"""Replay without images: Gaussian pseudo-features of the earlier classes (`replay.policy:
prototypes`).

They are drawn in the features of the prior encoder, where the classes' statistics are, and mapped
to the student's as these move. The map is fitted in closed form before each batch, to sums over the
batches of the step, which fade. All buffers have a fixed place and shape, so that a recording of
the step (`kaizen.training.gradients`) reads and moves them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from kaizen.compute.precision import full_precision
from kaizen.errors import KaizenError
from kaizen.heads.spectrum import Spectrum
from kaizen.heads.statistics import ClassStatistics
from kaizen.models.feature_classifier import read_checkpoint
from kaizen.plan.specs import PrototypesSpec, StepSpec

Pair = tuple[Tensor, Tensor]

# What the sums keep at each batch: about 20 batches count, as many as the student stays alike for.
_KEPT = 0.95
# The map's penalty where it is not given, as a share of a feature's mean variance. A choice by
# cross-validation, as the head's, would decompose a matrix at each fit.
_RIDGE = 1e-3
# What makes up for features that do not vary at all.
_LEAST = 1e-12


class Prototypes:
    """The pseudo-features of a step's batches: ``count`` for each view, of the classes of
    ``statistics``, of which there is one at least; ``rows`` are those of a batch of images.
    """

    def __init__(
        self,
        statistics: ClassStatistics,
        params: PrototypesSpec,
        *,
        count: int,
        rows: int,
        device: torch.device,
    ) -> None:
        """Factor the covariances: one of all classes, or each class's own."""
        size = statistics.size
        self._params, self._rows = params, rows
        self._classes = statistics.classes.to(device)
        self._means = statistics.means.float().to(device)
        self._factors = covariance_factors(statistics).float().to(device)
        self.labels = torch.zeros(count, dtype=torch.int64, device=device)
        """Those of the present draw, the same in both views: int64 [count]."""
        self._old = torch.zeros(2, count, size, device=device)
        self._new = torch.zeros(2, count, size, device=device)
        self._chosen = torch.zeros(2, count, dtype=torch.int64, device=device)
        shapes = {"rows": (), "x": (size,), "y": (size,), "xx": (size, size), "xy": (size, size)}
        self._sums = {
            name: torch.zeros(shape, dtype=torch.float64, device=device)
            for name, shape in shapes.items()
        }
        self._weight = torch.eye(size, device=device)
        self._offset = torch.zeros(size, device=device)

    def state(self) -> dict[str, Tensor]:
        """What training goes on from: live tensors, changed by the next batch."""
        return self._sums

    def prepare(self, seed: int, step: int) -> None:
        """Fit the map, which is I before a step's first batch, and draw the pseudo-features of the
        batch of optimiser step ``step``, before that is computed; never waits for the device.
        """
        if step and self._params.drift != "none":
            self._fit()
        count, size, device = len(self.labels), self._means.shape[1], self._means.device
        generator = torch.Generator().manual_seed(seed)
        # Every class as often as any other, but for a remainder that is drawn.
        turns = -(-count // len(self._classes))
        orders = [torch.randperm(len(self._classes), generator=generator) for _ in range(turns)]
        drawn = [
            torch.cat(orders)[:count],
            torch.randn(2, count, size, generator=generator),
            torch.randint(self._rows, (2, count), generator=generator),
        ]
        if device.type == "cuda":
            drawn = [tensor.pin_memory().to(device, non_blocking=True) for tensor in drawn]
        places, noise, chosen = drawn
        if self._factors.dim() == 3:
            spread = torch.einsum("vrd,red->vre", noise, self._factors[places])
        else:
            spread = noise @ self._factors.T
        self.labels.copy_(self._classes[places])
        self._old.copy_(self._means[places] + spread)
        self._new.copy_(self._mapped(self._old))
        self._chosen.copy_(chosen)

    @torch.no_grad()
    def __call__(self, before: Pair, now: Pair) -> tuple[Pair, Pair]:
        """The pseudo-features of both views in the teacher's and in the student's space, float32
        [count, D] each, without gradient.

        ``before`` and ``now`` are the teacher's and the student's features [N, D] of the batch's
        images, which move the sums. What the map leaves over of images of the batch that were drawn
        is added to the mapped ones, which would be narrower than the classes are.
        """
        old = (self._old[0], self._old[1])
        if self._params.drift == "none":
            return old, old
        with full_precision(self._means.device.type):
            x = [view.detach().float() for view in before]
            y = [view.detach().float() for view in now]
            new = [self._new[0], self._new[1]]
            if self._params.residual:
                for view, chosen in enumerate(self._chosen):
                    rest = y[view][chosen] - self._mapped(x[view][chosen])
                    new[view] = new[view] + rest
            self._observe(torch.cat(x).double(), torch.cat(y).double())
        return old, (new[0], new[1])

    def _mapped(self, rows: Tensor) -> Tensor:
        return rows @ self._weight.T + self._offset

    def _observe(self, x: Tensor, y: Tensor) -> None:
        """Let the sums fade, and add the pairs of rows x and y [N, D]."""
        added = {"x": x.sum(0), "y": y.sum(0), "xx": x.T @ x, "xy": x.T @ y}
        self._sums["rows"].mul_(_KEPT).add_(len(x))
        for name, value in added.items():
            self._sums[name].mul_(_KEPT).add_(value)

    def _fit(self) -> None:
        """y = A x + b by ridge regression that draws A to I, as `kaizen.heads.drift`."""
        rows = self._sums["rows"]
        x, y, xx, xy = (self._sums[name] / rows for name in ("x", "y", "xx", "xy"))
        if self._params.drift == "linear":
            x, y = torch.zeros_like(x), torch.zeros_like(y)
        xx, xy = xx - torch.outer(x, x), xy - torch.outer(x, y)
        ridge = _RIDGE if self._params.map_ridge == "auto" else self._params.map_ridge
        identity = torch.eye(len(x), dtype=x.dtype, device=x.device)
        added = ridge * xx.diagonal().mean() + _LEAST
        factor, _ = torch.linalg.cholesky_ex(xx + added * identity)
        weight = identity + torch.cholesky_solve(xy - xx, factor).T
        self._weight.copy_(weight)
        self._offset.copy_(y - weight @ x)


def prototypes_of(
    params: StepSpec, path: Path, rows: int, device: torch.device, note: Callable[[str], None]
) -> Prototypes | None:
    """The pseudo-features of a step, by the statistics in the file at ``path``; None where no image
    of the earlier tasks had a label. ``note`` is told how many there are.

    Raises KaizenError where the file holds no statistics.
    """
    try:
        statistics = ClassStatistics.of_tensors(read_checkpoint(path))
    except KeyError as error:
        raise KaizenError(
            f"{path} lacks the tensor {error}; delete its folder and run again"
        ) from None
    count = params.replay_batch_size or 0
    if params.prototypes is None or not len(statistics.classes):
        note("note: no earlier image had a label: there are no pseudo-features to replay")
        return None
    note(f"{count} pseudo-features a batch, of {len(statistics.classes)} earlier classes")
    return Prototypes(statistics, params.prototypes, count=count, rows=rows, device=device)


def covariance_factors(statistics: ClassStatistics) -> Tensor:
    """F with F F^T the covariance within classes: float64 [D, D] of all classes, or [K, D, D] of
    each; a class of one row, which has none, gets the mean one.
    """
    common = _factor(statistics.covariance())
    if not statistics.per_class:
        return common
    own = [
        _factor(scatter / (count - 1)) if count > 1 else common
        for scatter, count in zip(statistics.scatter, statistics.counts, strict=True)
    ]
    return torch.stack(own)


def _factor(covariance: Tensor) -> Tensor:
    """By eigenvectors: what few rows say has no Cholesky factor."""
    spectrum = Spectrum.of(covariance)
    return spectrum.vectors * spectrum.values.sqrt()
