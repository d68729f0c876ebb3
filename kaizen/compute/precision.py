"""Full precision for losses and similarities inside a mixed-precision region."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor

_HALF = (torch.bfloat16, torch.float16)


def full_precision(device_type: str) -> AbstractContextManager[None]:
    """Disable autocast for ``device_type`` ("cpu", "cuda"): what is computed inside keeps its
    inputs' dtype.
    """
    return torch.autocast(device_type, enabled=False)


def widened(tensor: Tensor) -> Tensor:
    """Convert bfloat16 and float16 to float32; float32 and float64 pass unchanged."""
    return tensor.float() if tensor.dtype in _HALF else tensor


def unit_rows(rows: Tensor) -> Tensor:
    """Scale rows [N, D] to length 1 (a row of zeros stays), in full precision; half types are
    widened to float32.
    """
    with full_precision(rows.device.type):
        return F.normalize(widened(rows), dim=1)
