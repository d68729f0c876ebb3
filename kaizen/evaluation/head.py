"""The `head` node: analytic heads of a run's steps, from statistics that are carried from step to
step. The encoders stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kaizen.compute.device import choose_compute
from kaizen.data.names import REPLAY_FILE, head_facts_file, head_file, shard_file
from kaizen.data.schema import UNLABELLED
from kaizen.data.shards import shard_info
from kaizen.evaluation.features import StepModels
from kaizen.evaluation.head_files import StepHeads, read_heads, write_heads
from kaizen.files import write_json
from kaizen.heads.drift import DriftMap, PairMoments, fit_drift
from kaizen.heads.expansion import expanded, random_projection
from kaizen.heads.kinds import solve_heads
from kaizen.heads.statistics import ClassStatistics
from kaizen.models.feature_classifier import FeatureClassifier
from kaizen.plan import roles
from kaizen.plan.job import Job
from kaizen.plan.specs import HeadSpec
from kaizen.store.made import Made
from kaizen.store.store import Store
from kaizen.training.reporter import Reporter
from kaizen.views.decode import load_row_groups

# Fixed, so that the evaluation's batch size reaches no head.
_BATCH_SIZE = 256


def run_heads(job: Job[HeadSpec], store: Store, building: Path, reporter: Reporter) -> Made:
    """Write for each step of the node ``step-NN.safetensors`` (`kaizen.evaluation.head_files`), and
    ``step-NN.json``: rows read, the map of drift, and how each head was solved.
    """
    maker = _Maker(job, store)
    first, count = job.spec.first, len(job.spec.tasks)
    for number in range(first, first + count):
        step, facts = maker.step(number)
        write_heads(step, building / head_file(number))
        write_json(building / head_facts_file(number), facts)
        reporter.amount(number - first + 1, count, "steps' heads solved")
    return Made(maker.compute.describe())


@dataclass
class _Seen:
    """What one pass over a step's images found."""

    current: ClassStatistics
    moments: PairMoments
    rows: dict[str, int] = field(default_factory=lambda: {"labelled": 0, "map": 0})


class _Maker:
    """Goes through the steps of a node, one after the other."""

    def __init__(self, job: Job[HeadSpec], store: Store) -> None:
        """Take up the statistics of the prior node, where there is one."""
        self.spec, self.inputs, self.store = job.spec, job.inputs, store
        wanted = job.spec.compute
        self.compute = choose_compute(wanted.device, wanted.precision, wanted.threads)
        self.models = StepModels(job.inputs, store, self.compute, _BATCH_SIZE)
        self.per_class = job.spec.heads.covariance == "per_class"
        self.statistics: ClassStatistics | None = None
        if roles.PRIOR in job.inputs:
            path = store.open_file(job.inputs[roles.PRIOR], head_file(job.spec.first - 1))
            self.statistics = read_heads(path).statistics

    def step(self, number: int) -> tuple[StepHeads, dict[str, Any]]:
        """The heads of step ``number`` and their facts; the statistics then are this step's."""
        params = self.spec.heads
        model = self.models.load(roles.step_role(number))
        mapped = params.drift != "none" and self.statistics is not None
        before = self.models.load(roles.step_role(number - 1)) if mapped else None
        size = model.encoder.feature_dim
        projection = None
        if params.random_features:
            projection = random_projection(size, params.random_features, params.seed)
            size = params.random_features
        seen = self._look(number, model, before, size, projection)
        statistics = self.statistics or ClassStatistics.empty(size, self.per_class)
        drift = self._drift(seen.moments) if before is not None else None
        if drift is not None:
            statistics = statistics.mapped(drift)
        self.statistics = statistics.add(seen.current)
        given = None if params.shrinkage == "auto" else params.shrinkage
        heads = solve_heads(self.spec.kinds, self.statistics, seen.current, given)
        facts = {
            "step": number,
            "classes": len(self.statistics.classes),
            "features": size,
            "rows": seen.rows,
            "drift": drift and {"ridge": drift.ridge, "r2": drift.r2, "condition": drift.condition},
            "heads": {
                kind: {"shrinkage": head.shrinkage, "condition": head.condition}
                for kind, head in heads.items()
            },
        }
        return StepHeads(self.statistics, heads, projection), facts

    def _drift(self, moments: PairMoments) -> DriftMap:
        params = self.spec.heads
        return fit_drift(
            moments,
            affine=params.drift == "affine",
            residual=params.residual,
            ridge=None if params.map_ridge == "auto" else params.map_ridge,
        )

    def _look(
        self,
        number: int,
        model: FeatureClassifier,
        before: FeatureClassifier | None,
        size: int,
        projection: Tensor | None,
    ) -> _Seen:
        """One pass over the images of a step: through its encoder, and the one ``before`` where
        earlier statistics are mapped.

        Labelled images of the step's own tasks make statistics. All of them fit the map, and so do
        the replayed ones, whose classes' statistics are there already.
        """
        seen = _Seen(ClassStatistics.empty(size, self.per_class), PairMoments.empty(size))
        for path, fraction, own in self._files(number, before is not None):
            for images, labels in self._images(path, fraction):
                features = expanded(self.models.features(model, images)[0].cpu(), projection)
                known = labels != UNLABELLED
                if own and known.any():
                    found = ClassStatistics.of(features[known], labels[known], self.per_class)
                    seen.current = seen.current.add(found)
                    seen.rows["labelled"] += found.rows
                if before is not None:
                    old = expanded(self.models.features(before, images)[0].cpu(), projection)
                    seen.moments = seen.moments.add(PairMoments.of(old, features))
        seen.rows["map"] = seen.moments.rows
        return seen

    def _files(self, number: int, replayed: bool) -> Iterator[tuple[Path, float, bool]]:
        """The shards of a step: the share of rows to read, and whether they are the task's own."""
        for task in self.spec.tasks[number - self.spec.first]:
            shards = roles.shards_of(self.inputs, task)
            yield self.store.open_file(shards, shard_file(task, "train")), self.spec.fraction, True
        role = roles.replay_role(number)
        if replayed and role in self.inputs:
            yield self.store.open_file(self.inputs[role], REPLAY_FILE), 1.0, False

    def _images(self, path: Path, fraction: float) -> Iterator[tuple[Tensor, Tensor]]:
        """Images uint8 [N, C, H, W] and labels int64 [N] of a shard, a row group at a time."""
        for group in range(len(shard_info(path).row_groups)):
            images, labels = load_row_groups(path, self.models.image, fraction, [group])
            if len(images):
                yield torch.from_numpy(images), torch.from_numpy(labels)
