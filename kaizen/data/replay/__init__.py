"""Replay shards: the few images of earlier tasks that a step may train on again. One policy per
file.
"""
