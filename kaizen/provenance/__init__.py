"""Where a result comes from: what is recorded when a node is made, and what `kaizen explain` finds
out of it later. Nothing here makes a node or changes a result.
"""
