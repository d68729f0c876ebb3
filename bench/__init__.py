"""Measurements, each a command of its own; docs/performance.md has the results."""
