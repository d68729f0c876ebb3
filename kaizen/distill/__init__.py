"""Knowledge distillation from the prior step's frozen model: features and classifier."""
