"""Distillation of features from the prior step's frozen model, a file per loss, and of the
classifier. No trainer code: no optimiser, no files, and no copy of the student as its own teacher.
"""
