"""How an experiment begins: the files of a new project, what a folder of images is, and the
parameters that fit it. Nothing of it is in any key, and no job imports it.
"""
