"""What a process imports from which jobs are forked (`kaizen.jobs.parallel`, `kaizen.jobs.warm`):
torch, and the modules of the jobs that compute with it.
"""

import kaizen.evaluation.run
import kaizen.training.step  # noqa: F401
