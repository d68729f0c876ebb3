"""Where and how a job computes: device, precision, seeds, processes. No networks, and nothing of
the stream.
"""
