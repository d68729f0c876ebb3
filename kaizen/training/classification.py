"""The classifier's supervised term L_C^CT (fidelity.md §6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kaizen.compute.precision import full_precision, widened
from kaizen.data.schema import UNLABELLED


def cross_entropy_sum(logits: Sequence[Tensor], targets: Tensor) -> Tensor:
    """Sum over views of the mean cross-entropy over labelled rows.

    Each element of ``logits`` is one view's [N, K]; ``targets`` is [N], int64, -1 where a row has
    no label. When no row is labelled the result is exactly 0 with zero gradient, where the plain
    mean would be NaN (fidelity.md §14.17). Returns a scalar in float32 (float64 for float64
    inputs).
    """
    with full_precision(logits[0].device.type):
        labelled = (targets != UNLABELLED).sum().clamp(min=1)
        sums = [
            F.cross_entropy(widened(view), targets, ignore_index=UNLABELLED, reduction="sum")
            for view in logits
        ]
        return torch.stack(sums).sum() / labelled
