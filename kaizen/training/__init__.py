"""One step of training: objective, optimiser, schedule, loop, resume. Methods and distillers are
known by their interface; what is trained was decided by the plan and not here.
"""
