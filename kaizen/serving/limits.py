"""What one request, and all together, may take of the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kaizen.errors import KaizenError

# Of each number: the least and the most that an option may name.
_BOUNDS = {
    "max_bytes": (1_000, 1 << 31),
    "max_pixels": (1, 89_478_485),
    "max_images": (1, 10_000),
    "max_requests": (1, 100_000),
    "timeout": (0.1, 3600.0),
    "batch_size": (1, 4096),
    "max_wait": (0.0, 10_000.0),
    "workers": (1, 256),
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """A request's bytes, images, seconds (``timeout``) and an image's pixels; how many requests are
    under way at a time. Images of a batch, for how many milliseconds a batch waits for others
    (``max_wait``), and threads that decode (``workers``).
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000
    max_images: int = 64
    max_requests: int = 128
    timeout: float = 30.0
    batch_size: int = 32
    max_wait: float = 5.0
    workers: int = min(8, len(os.sched_getaffinity(0)))

    def __post_init__(self) -> None:
        """Raises KaizenError that names the option where a number is out of its bounds."""
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if not least <= value <= most:
                option = name.replace("_", "-")
                raise KaizenError(f"--{option}: {value} must be from {least} to {most}")
