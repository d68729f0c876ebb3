"""From parameters to nodes and their keys, a pure function, and the code that a node depends on. No
torch, no images, no clock, and nothing that writes.
"""
