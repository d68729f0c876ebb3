"""From what a row of a shard stores to its pixels. No torch, and no pyarrow."""

from __future__ import annotations

import numpy as np

from kaizen.data.image_files import decode_file


def decode_row(data: bytes, encoding: str, height: int, width: int, channels: int) -> np.ndarray:
    """Decode a row of a shard to uint8 [H, W, C]; raises ValueError where the bytes do not fit the
    columns.
    """
    if encoding == "raw":
        return np.frombuffer(data, dtype=np.uint8).reshape(height, width, channels)
    if encoding != "file":
        raise ValueError(f"unknown encoding {encoding!r}")
    pixels = decode_file(data)
    if pixels.shape != (height, width, channels):
        raise ValueError(
            f"an image of {pixels.shape} where {(height, width, channels)} was recorded"
        )
    return pixels
