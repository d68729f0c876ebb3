"""What a process imports from which jobs are forked (`kaizen.jobs.parallel`, `kaizen.jobs.warm`):
torch, the modules of the jobs that compute with it, and what compiled functions need.
"""

import kaizen.evaluation.run
import kaizen.training.step  # noqa: F401
from kaizen.compute.compiled import prepare

prepare()
