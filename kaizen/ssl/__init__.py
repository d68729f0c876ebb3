"""Self-supervised methods, a file each: heads, loss, and what is updated after a step. No trainer
code: no optimiser, no files, no distillation.
"""
