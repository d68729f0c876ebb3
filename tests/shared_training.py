"""Small trainings that several processes can share, for test_distributed.py; run by `torchrun` it
trains them all.

    python -m torch.distributed.run --standalone --nproc-per-node 2 tests/shared_training.py FOLDER

Every process writes what it came to into FOLDER; alone, the test process trains the same ones to
compare.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from ssl_models import METHODS, small_ssl_params
from torch import Tensor, nn

from kaizen.compute import distributed
from kaizen.compute.device import choose_compute
from kaizen.errors import NodeFailed
from kaizen.heads.statistics import ClassStatistics
from kaizen.models.feature_classifier import Architecture
from kaizen.models.shared import SharedBatchNorm, share_encoders, share_statistics
from kaizen.params import AugmentParams, FeatureDistillParams, ImageParams, ModelParams, TrainParams
from kaizen.params.registry import FEATURE_DISTILLERS, SSL_METHODS
from kaizen.plan.specs import PrototypesSpec
from kaizen.training.loop import Step
from kaizen.training.objective import Objective
from kaizen.training.prototypes import Prototypes
from kaizen.training.reporter import PlainReporter
from kaizen.training.step_data import StepData
from kaizen.training.student import build_model, frozen_copy
from kaizen.views.augment import TwoViewAugment
from kaizen.views.batches import ResidentRows

IMAGE = ImageParams(size=8, channels=3, mean=[0.5] * 3, std=[0.25] * 3)
CLASSES = 4
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A step of 4 batches: 7 task rows and 4 replay rows, so that two processes' parts are uneven;
    in float64 of 2 epochs.

    After some more batches in float32, rounding decides of some ReLU whether it lets a gradient
    through, and what two trainings came to is apart by more than rounding.
    """

    method: str
    distiller: str = "auto"
    precision: str = "float64"
    teacher_train_mode: bool = False
    replay: int = 4
    train: dict[str, Any] = field(default_factory=dict)
    prototypes: bool = False

    @property
    def name(self) -> str:
        return "-".join(
            [
                self.method,
                self.distiller,
                self.precision,
                f"{self.teacher_train_mode}",
                f"{self.replay}",
                *self.train,
                *(["prototypes"] if self.prototypes else []),
            ]
        )


CASES = [
    *(
        Case(method, precision=precision)
        for precision in ("float64", "float32")
        for method in METHODS
    ),
    *(Case("swav", distiller) for distiller in FEATURE_DISTILLERS),
    Case("byol", teacher_train_mode=True),
    Case("simclr", replay=0, train={"classifier_gradient": True, "optimizer": "sgd"}),
    Case("mocov2plus", precision="bfloat16"),
    Case("simclr", precision="float32", replay=0, prototypes=True),
]


@dataclass(frozen=True)
class Recorded(Objective):
    """An objective that remembers the terms of every batch."""

    terms: list[Tensor] = field(default_factory=list)

    def __call__(self, *arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
        total, terms = super().__call__(*arguments, **options)
        self.terms.append(terms)
        return total, terms


class RecordedAugment(TwoViewAugment):
    """Views of the wanted precision; remembers the first."""

    def __init__(self, double: bool) -> None:
        super().__init__(AugmentParams(), IMAGE)
        self.double = double
        self.first: Tensor | None = None

    def __call__(self, *arguments: Any) -> Tensor:
        view = super().__call__(*arguments)
        self.first = view if self.first is None else self.first
        return view.double() if self.double else view


def statistics_of_noise(size: int, classes: int) -> ClassStatistics:
    """Those of ``classes`` whose 20 rows of ``size`` features each are noise."""
    noise = torch.randn(20 * classes, size, generator=torch.Generator().manual_seed(3))
    return ClassStatistics.of(noise.relu(), torch.arange(20 * classes) % classes)


def train(case: Case, work: Path) -> Tensors:
    """Train a case, as run_step does with it: per-batch terms, the first views and all weights and
    momenta.
    """
    double = case.precision == "float64"
    compute = choose_compute("cpu", "bfloat16" if case.precision == "bfloat16" else "float32", 1)
    name = SSL_METHODS[case.method].distiller if case.distiller == "auto" else case.distiller
    distill = FeatureDistillParams(
        distiller=name, weight=FEATURE_DISTILLERS[name].weight, predictor_hidden=12
    )
    model = ModelParams(width=4, classifier_hidden=[8])
    architecture = Architecture(model=model, channels=3, logits=CLASSES, seed=3)
    student = build_model(architecture, case.method, small_ssl_params(case.method), distill)
    if double:
        student = student.double()
    teacher = compute.place(frozen_copy(student, case.teacher_train_mode))
    student.ssl.start_task()
    student = compute.place(student)
    data = StepData(_images(28, 1), 7)
    if case.replay:
        data.replay, data.replay_batch_size = _images(12, 2), case.replay
    for shared in (student, teacher):
        share_encoders(shared, data.rows)
    params = TrainParams(
        # A rate of 0.125 for the batches of 7.
        **(
            {"epochs": 2 if double else 1, "batch_size": 7, "warmup_epochs": 0, "lr": 32 / 7}
            | case.train
        )
    )
    drawn = None
    if case.prototypes:
        drawn = Prototypes(
            statistics_of_noise(student.encoder.feature_dim, CLASSES - 1),
            PrototypesSpec("affine", True, "auto"),
            count=4,
            rows=data.rows,
            device=compute.device,
        )
    objective = Recorded(distill.weight, 2.0, 1.0, params.classifier_gradient, prototypes=drawn)
    augment = RecordedAugment(double)
    step = Step(
        student=student,
        teacher=teacher,
        data=data,
        augment=augment,
        objective=objective,
        train=params,
        seed=5,
        compute=compute,
        work=work,
        save_every_epochs=1,
        reporter=PlainReporter("", None, None),
    )
    step.run()
    assert augment.first is not None
    found = {"terms": torch.stack(objective.terms), "views": augment.first.contiguous()}
    for part, tensors in (
        ("weights", student.state_dict()),
        ("teacher", teacher.state_dict()),
        ("momenta", step.optimizer.state()),
    ):
        found |= {
            f"{part}.{key}": value.detach().clone().contiguous() for key, value in tensors.items()
        }
    return found


def _images(count: int, seed: int) -> ResidentRows:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 10, 10), dtype=torch.uint8, generator=generator)
    labels = torch.randint(-1, CLASSES, (count,), generator=generator)
    return ResidentRows(images, labels)


NORMS = {
    "2d": (nn.BatchNorm2d(3), (5, 3, 4, 2)),
    "1d": (nn.BatchNorm1d(3), (5, 3)),
    "1d of sequences": (nn.BatchNorm1d(3), (5, 3, 4)),
    "not affine": (nn.BatchNorm2d(3, affine=False), (5, 3, 2, 2)),
    "average of all": (nn.BatchNorm2d(3, momentum=None), (5, 3, 2, 2)),
    "not tracking": (nn.BatchNorm2d(3, track_running_stats=False), (5, 3, 2, 2)),
    "channels last": (nn.BatchNorm2d(3), (5, 3, 4, 4)),
    "far from zero": (nn.BatchNorm2d(3), (5, 3, 4, 4)),
}


def normalise(name: str) -> Tensors:
    """Twice through a batch norm, then once in evaluation: the own rows' outputs and gradients, and
    running statistics.

    Several processes share the norm; alone it is torch's own.
    """
    norm, shape = copy.deepcopy(NORMS[name])
    generator = torch.Generator().manual_seed(7)
    dtype = torch.float32 if name == "far from zero" else torch.float64
    norm = norm.to(dtype)
    if norm.affine:
        norm.weight.data.uniform_(0.5, 2, generator=generator)
        norm.bias.data.uniform_(-1, 1, generator=generator)
    if distributed.count() > 1:
        share_statistics(norm)
        assert isinstance(norm, SharedBatchNorm)
    found: Tensors = {}
    for turn in range(3):
        norm.train(turn < 2)
        batch = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        batch += 1000.0 if name == "far from zero" else 0.0
        if name == "channels last":
            batch = batch.to(memory_format=torch.channels_last)
        weights = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        own = distributed.own_rows(len(batch))
        x = batch[own].requires_grad_()
        y = norm(x)
        (y * weights[own]).pow(2).sum().backward()
        assert x.grad is not None
        found |= {f"{turn}.output": y.detach(), f"{turn}.gradient": x.grad}
    distributed.sum_gradients(norm.parameters())
    found |= {f"weights.{key}": value.detach() for key, value in norm.state_dict().items()}
    for key, value in norm.named_parameters():
        assert value.grad is not None
        found[f"gradients.{key}"] = value.grad
    return {key: value.contiguous() for key, value in found.items()}


def main(folder: Path) -> None:
    with distributed.process_group("cpu"):
        rank = distributed.rank()
        for case in CASES:
            safetensors.torch.save_file(
                train(case, folder / case.name), folder / f"{case.name}.{rank}"
            )
        again = train(CASES[0], folder / "again")
        safetensors.torch.save_file(again, folder / f"again.{rank}")
        try:
            distributed.check_agreement(("00" if rank else "ff") * 32, "in a test")
        except NodeFailed as error:
            (folder / f"disagreement.{rank}").write_text(str(error))
        for name in NORMS:
            safetensors.torch.save_file(normalise(name), folder / f"{name}.{rank}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
