"""Numbers of an evaluation besides accuracies: confidences, and components of kept features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kaizen.evaluation.head_files import StepHeads
from kaizen.heads.expansion import expanded

_ROWS = 4096  # at a time: float64 of all test images by all classes may be gigabytes


def confidences(scores: Tensor) -> np.ndarray:
    """The largest probability of each row of ``scores`` float [N, K], by softmax: float64 [N]."""
    parts = [
        1 / (part - part.amax(1, keepdim=True)).exp().sum(1)
        for part in (rows.double() for rows in scores.cpu().split(_ROWS))
    ]
    return torch.cat([torch.zeros(0, dtype=torch.float64), *parts]).numpy()


def head_scores(heads: StepHeads, kind: str, features: Tensor) -> Tensor:
    """The scores float64 [N, K] by which an analytic head predicts, of its K classes."""
    head = heads.heads[kind]
    return torch.addmm(head.bias, expanded(features.cpu(), heads.projection), head.weight.T)


def principal_components(features: Tensor) -> np.ndarray:
    """The principal components float32 [n, C] of features float [n, F], the largest first, C the
    smaller of n - 1 and F; scaled to a mean square distance of 1 from their centre, and each with
    the sign that makes its largest entry positive. C is 0 where a feature is not finite.
    """
    x = features.double().cpu()
    count = max(0, min(len(x) - 1, x.shape[1]))
    if not count or not x.isfinite().all():
        return np.zeros((len(x), 0), dtype=np.float32)
    x = x - x.mean(dim=0)
    size = x.square().sum(dim=1).mean().sqrt()
    x = x / size if size > 0 else x
    if x.shape[1] < len(x):
        found = x @ torch.linalg.eigh(x.T @ x).eigenvectors.flip(1)[:, :count]
    else:
        values, vectors = torch.linalg.eigh(x @ x.T)
        found = vectors.flip(1)[:, :count] * values.flip(0)[:count].clamp(min=0).sqrt()
    largest = found.gather(0, found.abs().argmax(dim=0, keepdim=True))
    components: np.ndarray = (found * largest.sign()).float().numpy()
    return components
