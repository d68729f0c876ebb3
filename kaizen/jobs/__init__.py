"""Making nodes: the workflow of a checkout, the job of one node, what runs now. What a node
computes lives in the rooms below.
"""
