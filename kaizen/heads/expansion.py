"""Random features: a wide, fixed, random layer before the statistics (RanPAC: McDonnell et al.,
NeurIPS 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor


def random_projection(size: int, count: int, seed: int) -> Tensor:
    """The weights of ``count`` random features of ``size`` features: float32 [size, count], normal
    with variance 1 / size.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(size, count, generator=generator)
    return torch.mul(drawn, size**-0.5)


def expanded(features: Tensor, projection: Tensor | None) -> Tensor:
    """What an analytic head sees of features float [N, D]: max(0, x P) float64 [N, M], or the
    features in float64 where there is no ``projection`` [D, M].
    """
    x = features.double()
    return x if projection is None else (x @ projection.double()).relu()
