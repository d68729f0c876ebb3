"""Ways to read classes from a model's features besides its classifier: a linear probe, and nearest
neighbours.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import LBFGS

from kaizen.params import EvaluationParams


@dataclass(frozen=True)
class Probe:
    """A fitted linear layer: ``classes`` int64 [K], ``weight`` float32 [K, F], ``bias`` [K], and
    mean and deviation [F] of the features that it was fitted on.
    """

    classes: Tensor
    weight: Tensor
    bias: Tensor
    mean: Tensor
    std: Tensor

    @torch.no_grad()
    def predict(self, test: Tensor) -> Tensor:
        """The classes of features float32 [M, F]: int64 [M]."""
        scores = F.linear((test - self.mean) / self.std, self.weight, self.bias)
        return self.classes[scores.argmax(dim=1)]


def linear_probe(train: Tensor, labels: Tensor, test: Tensor, params: EvaluationParams) -> Tensor:
    """Predict classes of test features float32 [M, F], int64 [M], by `fit_probe`."""
    return fit_probe(train, labels, params).predict(test)


def fit_probe(train: Tensor, labels: Tensor, params: EvaluationParams) -> Probe:
    """Fit a linear layer on frozen training features.

    Multinomial logistic regression on standardised features by full-batch L-BFGS from zero: convex,
    so neither seed nor learning rate matters. ``train`` float32 [N, F], ``labels`` int64 [N] (all
    labelled). A class without a training row is never predicted.
    """
    classes, targets = labels.unique(return_inverse=True)
    mean, std = train.mean(dim=0), train.std(dim=0, correction=0).clamp(min=1e-6)
    # A constant feature says nothing. Its mean is rounded: divided by a deviation near zero, the
    # rest would outweigh all others in a test row that differs.
    std = std.where((train != train[:1]).any(dim=0), torch.inf)
    inputs = (train - mean) / std
    weight = torch.zeros(len(classes), train.shape[1], device=train.device, requires_grad=True)
    bias = torch.zeros(len(classes), device=train.device, requires_grad=True)
    optimizer = _LBFGS(
        [weight, bias], max_iter=params.probe_iterations, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (
            F.cross_entropy(F.linear(inputs, weight, bias), targets)
            + params.probe_l2 * weight.square().sum() / 2
        )
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return Probe(classes, weight.detach(), bias.detach(), mean, std)


class _LBFGS(LBFGS):
    """torch's, without what keeps torch's compiler away from it: that imports the compiler, seconds
    of each evaluation's start, also where nothing is compiled.
    """

    add_param_group = inspect.unwrap(LBFGS.add_param_group)
    zero_grad = inspect.unwrap(LBFGS.zero_grad)


def nearest_neighbours(
    train: Tensor,
    labels: Tensor,
    test: Tensor,
    num_classes: int,
    params: EvaluationParams,
    *,
    chunk: int = 1024,
) -> Tensor:
    """Predict classes by the k nearest training features under cosine similarity, votes weighted by
    exp(similarity / temperature) (Wu et al. 2018, arXiv:1805.01978).

    Shapes as in `linear_probe`; labels are below ``num_classes``. Any temperature above 0 will do:
    the weights are relative to the nearest row's, which changes no vote's order.
    """
    bank = F.normalize(train, dim=1)
    k = min(params.knn_k, len(bank))
    predicted = []
    for start in range(0, len(test), chunk):
        similarity, index = (F.normalize(test[start : start + chunk], dim=1) @ bank.T).topk(
            k, dim=1
        )
        # Relative to the nearest and in float64, as exp(1 / temperature) overflows float32 below
        # 0.0113 and the temperature itself may be below the smallest float32.
        nearer = similarity.double() - similarity[:, :1].double()
        weights = (nearer / params.knn_temperature).exp()
        votes = torch.zeros(len(weights), num_classes, device=test.device, dtype=torch.float64)
        predicted.append(votes.scatter_add_(1, labels[index], weights).argmax(dim=1))
    return (
        torch.cat(predicted) if predicted else torch.zeros(0, dtype=torch.int64, device=test.device)
    )
