"""Finished nodes on disk: paths by key, atomic commit, locks, publishing, garbage. Knows nothing of
what a node computes.
"""
