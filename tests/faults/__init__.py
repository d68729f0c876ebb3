"""Faults of every kind, and what they cost; see `faults.table`."""
