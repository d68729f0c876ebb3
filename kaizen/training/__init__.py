"""One step of training: objective, optimiser, schedule and loop."""
