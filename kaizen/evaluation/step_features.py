"""Features of earlier tasks' rows from the models of the run that the replay shard is for."""

from __future__ import annotations

import numpy as np
import torch

from kaizen.compute.device import choose_compute
from kaizen.data.names import shard_file
from kaizen.data.shards import shard_info
from kaizen.errors import KaizenError
from kaizen.evaluation.features import StepModels
from kaizen.plan import roles
from kaizen.plan.job import Job
from kaizen.plan.specs import ReplaySpec
from kaizen.store.store import Store
from kaizen.training.reporter import Reporter
from kaizen.views.decode import load_row_groups

# Fixed, so that the evaluation's batch size reaches no replay shard.
_BATCH_SIZE = 256


class StepFeatures:
    """Calling it with a task gives the features of its training rows, by the model right after it
    was learnt.
    """

    def __init__(self, job: Job[ReplaySpec], store: Store, reporter: Reporter) -> None:
        """Take models and shards from a replay node's inputs; ``compute`` says where the models
        run.
        """
        self.inputs, self.store, self.reporter = job.inputs, store, reporter
        wanted = job.spec.compute
        if wanted is None:
            raise KaizenError(f"{job.title}: the policy looks at features; plan again")
        self.compute = choose_compute(wanted.device, wanted.precision, wanted.threads)
        self.models = StepModels(self.inputs, store, self.compute, _BATCH_SIZE)

    def __call__(self, task: int) -> np.ndarray:
        """Features float32 [N, F] of all rows, whole images in the evaluation's transform: what
        only evaluation shows (`image.test_crop`) reaches no training. Decodes one row group at a
        time.
        """
        path = self.store.open_file(roles.shards_of(self.inputs, task), shard_file(task, "train"))
        model = self.models.load(roles.step_role(task))
        info = shard_info(path)
        parts, done = [], 0
        for group in range(len(info.row_groups)):
            images, _ = load_row_groups(path, self.models.image, 1.0, [group])
            features, _ = self.models.features(model, torch.from_numpy(images))
            parts.append(features.cpu().numpy())
            done += info.row_groups[group]
            self.reporter.amount(done, info.rows, f"images of task {task} seen")
        return np.concatenate(parts)
