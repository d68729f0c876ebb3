"""Analytic heads: classifiers in closed form from statistics of features, carried along as the
encoder drifts. Nothing that trains, no files, no nodes, no images.
"""
