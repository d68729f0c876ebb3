"""Finished nodes on disk: paths by key, atomic commit, locks, publishing, garbage. No torch, and
nothing of what a node computes.
"""
