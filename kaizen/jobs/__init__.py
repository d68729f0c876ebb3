"""Making nodes: the workflow of a checkout, the job of one node, what runs now. What a node
computes is not here but in the rooms below.
"""
