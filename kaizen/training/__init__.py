"""One step of training: objective, optimiser, schedule, loop, resume. Methods and distillers are
known by their interface; nothing of plan or workflow.
"""
