"""A first-in, first-out memory of projections: MoCo's keys, NNCLR's neighbours, SwAV's larger
batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FeatureQueue(nn.Module):
    """Columns of unit length in a ring, saved with the model and so carried from task to task
    (fidelity.md §4).
    """

    columns: Tensor
    position: Tensor

    def __init__(self, queues: int, dim: int, size: int) -> None:
        """Make ``queues`` rings of ``size`` random unit columns: float32 [queues, dim, size]."""
        super().__init__()
        self.register_buffer("columns", F.normalize(torch.randn(queues, dim, size), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def clear(self) -> None:
        """Empty the rings: columns of zeros, to be filled from the first place on."""
        self.columns.zero_()
        self.position.zero_()

    @torch.no_grad()
    def push(self, *rows: Tensor) -> None:
        """Put rows [N, dim], one tensor for each ring, in place of the oldest columns.

        The ring wraps for any N; of more rows than it has places the last ones stay.
        """
        size = self.columns.shape[2]
        count = len(rows[0])
        kept = min(count, size)
        # The position stays a tensor: reading it would wait for the device.
        places = (
            self.position + torch.arange(count - kept, count, device=self.columns.device)
        ) % size
        stacked = torch.stack([part[count - kept :].T for part in rows]).to(self.columns.dtype)
        self.columns.index_copy_(2, places, stacked)
        self.position.add_(count).remainder_(size)
