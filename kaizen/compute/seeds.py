"""Seeds: every random number flows from an explicit seed and a path of names and counters."""

from __future__ import annotations

import hashlib

from kaizen.files import canonical_json


def derive_seed(seed: int, *path: str | int) -> int:
    """A 63-bit seed for one use, independent of every other path: SHA-256 of seed and path.

    As each epoch and batch has its own, a resumed step needs no saved generator state.
    """
    digest = hashlib.sha256(canonical_json([seed, *path]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
