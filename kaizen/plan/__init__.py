"""Parameters -> nodes and keys, a pure function; what code a node depends on. Neither torch nor
images.
"""
