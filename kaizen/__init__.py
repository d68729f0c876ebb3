"""Kaizen: self-supervised continual learning as a versioned, resumable workflow."""

__version__ = "0.1.0"
