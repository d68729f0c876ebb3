"""Tests through a real SLURM; see `make test-slurm`."""
