"""From accuracy matrices and histories to tables, figures and cards. No torch, and no numbers that
the evaluation did not make.
"""
