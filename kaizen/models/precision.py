"""Full precision for losses inside a mixed-precision region."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

_HALF = (torch.bfloat16, torch.float16)


def full_precision(device_type: str) -> AbstractContextManager[None]:
    """Disable autocast for ``device_type`` ("cpu", "cuda"): what is computed inside keeps its inputs' dtype."""
    return torch.autocast(device_type, enabled=False)


def widened(tensor: Tensor) -> Tensor:
    """Convert bfloat16 and float16 to float32; float32 and float64 pass unchanged."""
    return tensor.float() if tensor.dtype in _HALF else tensor
