"""Networks: backbones, heads, how they are initialised, saved and kept in full precision. No
losses, and nothing of the stream.
"""
