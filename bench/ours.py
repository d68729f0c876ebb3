"""Our training step on made-up images, exactly as `kaizen.training.step` puts it together."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bench.cases import Case
from kaizen.compute.device import Compute
from kaizen.compute.seeds import derive_seed
from kaizen.heads.statistics import ClassStatistics
from kaizen.models.feature_classifier import Architecture
from kaizen.models.fused_convolutions import fuse_convolutions
from kaizen.models.fused_norms import fuse_norms
from kaizen.params import FeatureDistillParams, SSLParams, TrainParams
from kaizen.params.registry import FEATURE_DISTILLERS, SSL_METHODS
from kaizen.plan.specs import PrototypesSpec
from kaizen.ssl.base import Moment
from kaizen.training.loop import Step
from kaizen.training.objective import Objective
from kaizen.training.prototypes import Prototypes
from kaizen.training.reporter import PlainReporter
from kaizen.training.step_data import StepData
from kaizen.training.student import build_model, frozen_copy
from kaizen.views.augment import TwoViewAugment
from kaizen.views.batches import Batch, ResidentRows


def made_up_rows(case: Case, count: int, seed: int, device: torch.device) -> ResidentRows:
    """``count`` images uint8 of the case's stored size, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, case.image.channels, case.stored, case.stored)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, case.classes, (count,), generator=generator)
    return ResidentRows(images.to(device), labels.to(device))


def made_up_statistics(size: int, classes: int) -> ClassStatistics:
    """Of ``classes`` with 20 rows of ``size`` features each."""
    rows = torch.randn(20 * classes, size, generator=torch.Generator().manual_seed(3))
    return ClassStatistics.of(rows.relu(), torch.arange(20 * classes) % classes)


class OurStep:
    """Batches of one step: of a first one, or with ``later`` of one with a teacher and replay, of
    images or with ``prototypes`` of pseudo-features.
    """

    def __init__(
        self,
        case: Case,
        method: str,
        compute: Compute,
        later: bool,
        prototypes: bool = False,
        fused: bool = True,
    ) -> None:
        """Build student, teacher, optimiser and data; unless ``fused``, of torch's operators alone
        but on a CPU.
        """
        distiller = SSL_METHODS[method].distiller
        distill = FeatureDistillParams(
            distiller=distiller,
            weight=FEATURE_DISTILLERS[distiller].weight,
            predictor_hidden=case.distill_hidden,
        )
        params = getattr(SSLParams(), method)
        known = {f.name for f in dataclasses.fields(params)}
        sizes: dict[str, Any] = {
            "projector_hidden": case.projector_hidden,
            "projector_out": case.projector_out,
        }
        if "predictor_hidden" in known:
            sizes["predictor_hidden"] = case.projector_hidden
        architecture = Architecture(
            model=case.model,
            channels=case.image.channels,
            logits=case.classes,
            seed=0,
            image_size=case.image.size,
        )
        ssl = dataclasses.replace(params, **sizes)
        student = build_model(architecture, method, ssl, distill if later else None)
        teacher = compute.place(frozen_copy(student, train_mode=False)) if later else None
        fused = fused or compute.device.type == "cpu"
        if teacher is not None and fused:
            fuse_convolutions(teacher, compute)
        student.ssl.start_task()
        student = compute.place(student).train()
        if fused:
            fuse_norms(student, compute, print)
        data = StepData(made_up_rows(case, case.rows, 1, compute.device), case.batch)
        drawn = None
        if prototypes:
            drawn = Prototypes(
                made_up_statistics(student.encoder.feature_dim, case.classes // 2),
                PrototypesSpec("affine", True, "auto"),
                count=case.replay,
                rows=case.batch,
                device=compute.device,
            )
        elif later:
            data.replay = made_up_rows(case, max(case.replay * 4, 64), 2, compute.device)
            data.replay_batch_size = case.replay
        self.step = Step(
            student=student,
            teacher=teacher,
            data=data,
            augment=TwoViewAugment(case.augment, case.image),
            objective=Objective(
                distill.weight if later else None,
                2.0 if later else None,
                1.0,
                False,
                prototypes=drawn,
            ),
            train=TrainParams(batch_size=case.batch, lr=case.learning_rate),
            seed=5,
            compute=compute,
            work=Path("/nonexistent"),
            save_every_epochs=1000,
            reporter=PlainReporter("", None, None),
        )
        self.rates = {group.name: 0.01 for group in self.step.optimizer.groups}
        self.images = data.rows
        self._batches = self._endless()
        self._done = 0

    def _endless(self) -> Iterator[Batch]:
        for epoch in itertools.count():
            yield from self.step.data.batches(epoch, 0, self.step.data.epoch_length())

    def __call__(self) -> None:
        """One batch: views, loss, backward pass, update."""
        images, labels = next(self._batches)
        moment = Moment(self._done % 10_000, 10_000, 3)
        self.step.update(images, labels, self.rates, derive_seed(7, "views", self._done), moment)
        self._done += 1
