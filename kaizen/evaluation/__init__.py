"""What a trained step is worth: accuracy matrices, probes, and the metrics of continual
learning.
"""
