"""Where a result comes from: what is recorded when a node is made, and `kaizen explain`, which
tells it.
"""
