"""Kaizen: self-supervised continual learning as a versioned, resumable workflow."""

from kaizen.bytecode import load_by_hash

__version__ = "0.1.0"

load_by_hash()
