"""From raw images to shards: sources, split, labels, ingestion, replay policies. Pixels are stored
here and not computed with: no views, no networks.
"""
