"""What a trained step is worth: features, readers of them, accuracy matrices, and the metrics of
continual learning. Nothing that trains a network, no tables, no figures.
"""
