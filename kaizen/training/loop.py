"""The training loop of one step: views, objective, optimiser, schedule, resume state."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from kaizen.compute import distributed
from kaizen.compute.device import Compute
from kaizen.compute.seeds import derive_seed
from kaizen.errors import Interrupted, KaizenError, NodeFailed
from kaizen.models.shared import encoder_parameters
from kaizen.params import OptimisationParams
from kaizen.ssl.base import Moment
from kaizen.store.locks import Watch
from kaizen.training.epoch import Epoch
from kaizen.training.gradients import Gradients, ReplayedGradients, fastest
from kaizen.training.groups import parameter_groups
from kaizen.training.objective import Objective
from kaizen.training.optim import SGD
from kaizen.training.reporter import EpochEnd, Reporter
from kaizen.training.resume import Progress, digest, has_resume, load_resume, save_resume
from kaizen.training.schedule import Schedule
from kaizen.training.step_data import StepData
from kaizen.training.student import ContinualModel
from kaizen.training.terms import TERM_TEXTS, TERMS
from kaizen.training.update import fastest_update
from kaizen.views.augment import TwoViewAugment


@dataclass
class Step:
    """One training step from its start, or from its resume state, to the end.

    Where several processes share it (`kaizen.compute.distributed`), each goes through the same
    batches and makes the views of its own rows; the models' encoders are shared
    (`kaizen.models.shared`), and the first process saves and reports.
    """

    student: ContinualModel
    teacher: ContinualModel | None
    data: StepData
    augment: TwoViewAugment
    objective: Objective
    train: OptimisationParams
    seed: int
    compute: Compute
    work: Path
    save_every_epochs: int
    reporter: Reporter
    watch: Watch = field(default_factory=Watch)
    static_warmup: bool = False
    """Whether heads whose rate is not scheduled start low, as the reference's."""
    tried: Callable[[ContinualModel], float | None] = lambda student: None
    """The student's accuracy on test images, for those who watch."""
    size: int = field(init=False)
    """Side of the views at their full size, in pixels."""
    optimizer: SGD = field(init=False)
    gradients: Gradients | ReplayedGradients = field(init=False)
    """Of views of the present epoch's size."""
    take_step: Callable[[Mapping[str, float]], None] = field(init=False)
    """The optimiser's, at the groups' rates."""
    shared_parameters: list[nn.Parameter] = field(init=False)
    """Those whose gradients the processes have parts of."""

    def __post_init__(self) -> None:
        """Make the optimiser, and see which part is this process's."""
        train = self.train
        self.size = self.augment.image.size
        self.optimizer = SGD(
            parameter_groups(self.student, train, self.data.batch_size),
            train.momentum,
            lars=train.optimizer == "lars",
            lars_eta=train.lars_eta,
        )
        self._make_gradients()
        recorded = isinstance(self.gradients, ReplayedGradients)
        self.take_step = fastest_update(self.optimizer, recorded, self.reporter.alarm)
        self.shared_parameters = encoder_parameters(self.student)

    def _make_gradients(self) -> None:
        """Of views as ``augment`` makes them; what was recorded for others is let go."""
        computed = Gradients(
            self.student,
            self.teacher,
            self.objective,
            self.augment,
            self.compute,
            own=distributed.own_rows(self.data.rows),
        )
        self.gradients = fastest(computed, self.reporter.alarm)

    def run(self) -> Progress:
        """Train to the last epoch; returns the progress with the whole history.

        Raises Interrupted once ``watch()`` is true, after saving; NodeFailed when a loss or what
        was learnt is not finite, leaving the last good resume state in place.
        """
        progress = self._resume()
        self.student.train()
        while progress.epoch < self.train.epochs:
            self._train_epoch(progress)
        self._state(progress)
        return progress

    def _train_epoch(self, progress: Progress) -> None:
        """Train what is left of the epoch that ``progress`` stands in, and move it to the next."""
        length = self.data.epoch_length()
        steps = length * self.train.epochs
        self._resize_views(progress.epoch)
        epoch = self._epoch(progress)
        for images, labels in self.data.batches(epoch.seed, epoch.first, length):
            moment = Moment(epoch.number * length + progress.batch, steps, epoch.number)
            views_seed = derive_seed(epoch.seed, "views", progress.batch)
            epoch.add(self.update(images, labels, epoch.rates, views_seed, moment))
            progress.batch += 1
            if distributed.any_process(self.watch()):
                self._settle(epoch, progress)
                self._save(progress)
                raise Interrupted(
                    f"stopped in epoch {epoch.number + 1} of {self.train.epochs}; state saved in "
                    f"{self.work}; the same command resumes it"
                )
        seconds = self._settle(epoch, progress)
        # A supervised step of a task without labels has no batch.
        means = [total / max(length, 1) for total in progress.sums]
        terms = dict(zip(TERMS, means, strict=True))
        losses = {"L": self.objective.total(terms), **terms}
        lr = epoch.rates["encoder"]
        progress.history.append({"epoch": epoch.number, **losses, "lr": lr})
        progress.epoch, progress.batch, progress.sums = epoch.number + 1, 0, []
        speed = (length - epoch.first) * self.data.rows / max(seconds, 1e-9)
        tried = self.tried(self.student)
        self.reporter.epoch(EpochEnd(progress.epoch, self.train.epochs, losses, lr, speed, tried))
        if progress.epoch % self.save_every_epochs == 0 and progress.epoch < self.train.epochs:
            self._save(progress)

    def _epoch(self, progress: Progress) -> Epoch:
        """The epoch that ``progress`` stands in, about to begin or to go on."""
        sums, schedule = progress.sums or [0.0] * len(TERMS), self._schedule
        return Epoch(
            number=progress.epoch,
            seed=derive_seed(self.seed, "epoch", progress.epoch),
            rates={
                group.name: schedule.rate(progress.epoch, group.lr, group.static)
                for group in self.optimizer.groups
            },
            sums=torch.tensor(sums, dtype=torch.float64, device=self.compute.device),
            first=progress.batch,
        )

    def update(
        self, images: Tensor, labels: Tensor, rates: dict[str, float], seed: int, moment: Moment
    ) -> Tensor:
        """One optimiser step on uint8 images [N, C, H, W]; returns the four terms, float32 [4].

        ``seed`` is that of views and pseudo-features, ``rates`` the learning rate of each of the
        optimiser's groups.
        """
        if self.objective.prototypes is not None:
            self.objective.prototypes.prepare(derive_seed(seed, "prototypes"), moment.step)
        terms = self.gradients(images, labels, seed, moment)
        distributed.sum_gradients(self.shared_parameters)
        self.student.ssl.before_update(moment, self.student.encoder)
        self.take_step(rates)
        self.student.ssl.after_step(moment, self.student.encoder)
        return terms

    def _settle(self, epoch: Epoch, progress: Progress) -> float:
        """Put the epoch's sums and seconds into ``progress``; returns the seconds since it began.

        Raises NodeFailed where a sum is not finite.
        """
        progress.sums = self._checked(epoch.sums, epoch.number)
        seconds = time.monotonic() - epoch.began
        progress.seconds += seconds
        return seconds

    def _checked(self, sums: Tensor, epoch: int) -> list[float]:
        """The epoch's sums as numbers; raises NodeFailed naming the terms that were not finite
        first.
        """
        values: list[float] = sums.tolist()
        bad = [
            f"{name} ({TERM_TEXTS[name]})"
            for name, v in zip(TERMS, values, strict=True)
            if not math.isfinite(v)
        ]
        if bad:
            raise self._not_finite(bad, f"in epoch {epoch + 1}")
        return values

    def _not_finite(self, what: list[str], when: str) -> NodeFailed:
        kept = (
            f"the last good state is kept in {self.work}"
            if has_resume(self.work)
            else "no state was saved before"
        )
        return NodeFailed(
            f"{' and '.join(what)} {'is' if len(what) == 1 else 'are'} not finite {when}; {kept}; "
            "lower train.lr, lengthen train.warmup_epochs or set train.precision: float32"
        )

    def _resize_views(self, epoch: int) -> None:
        """Have the views of ``epoch`` in the size that it trains with."""
        size = self._schedule.view_size(epoch, self.size)
        if size != self.augment.image.size:
            image = replace(self.augment.image, size=size)
            self.augment = TwoViewAugment(self.augment.augment, image)
            self._make_gradients()
            self.reporter.note(f"views of {size} x {size} pixels from epoch {epoch + 1}")

    @property
    def _schedule(self) -> Schedule:
        return Schedule(self.train, self.static_warmup)

    def _save(self, progress: Progress) -> None:
        """Replace the resume state, unless another process has taken the node over.

        Raises NodeFailed where the processes that share the step do not agree on it.
        """
        self.watch.confirm()
        state = self._state(progress)
        if distributed.count() > 1:
            distributed.check_agreement(
                digest(state, f"{progress.epoch} {progress.batch}"), str(self.work)
            )
        if distributed.rank() == 0:
            save_resume(self.work, state, progress, self.compute.describe())
        # None leaves, and so has the others ended, while the first one writes.
        distributed.wait()

    def _state(self, progress: Progress) -> dict[str, Tensor]:
        """All tensors that training goes on from; raises NodeFailed naming the first that is not
        finite.

        The last update can break them after the last loss was computed.
        """
        state = {f"model.{name}": tensor for name, tensor in self.student.state_dict().items()}
        state |= self._beside()
        state |= {f"momentum.{name}": tensor for name, tensor in self.optimizer.state().items()}
        names = [name for name, tensor in state.items() if tensor.is_floating_point()]
        finite = torch.stack([state[name].isfinite().all() for name in names]).tolist()
        if not all(finite):
            raise self._not_finite([names[finite.index(False)]], f"after epoch {progress.epoch}")
        return state

    def _beside(self) -> dict[str, Tensor]:
        """What changes beside student and optimiser: the buffers of a teacher in train mode, and
        the sums and map of pseudo-features. The rest comes from files.
        """
        found: dict[str, Tensor] = {}
        if self.teacher is not None and self.teacher.training:
            found |= {f"teacher.{name}": tensor for name, tensor in self.teacher.named_buffers()}
        if self.objective.prototypes is not None:
            state = self.objective.prototypes.state()
            found |= {f"prototypes.{name}": tensor for name, tensor in state.items()}
        return found

    def _resume(self) -> Progress:
        """Load the resume state into student, teacher and optimiser; a fresh start where there is
        none to use.
        """
        with distributed.first_alone():
            tensors, progress, refusal = load_resume(self.work, self.compute.describe())
        if refusal:
            self.reporter.alarm(refusal)
        processes = distributed.count()
        if not distributed.all_processes(bool(tensors)):
            return Progress(processes=[processes])
        state = {f"model.{name}": tensor for name, tensor in self.student.state_dict().items()}
        state |= self._beside()
        names = [name for name in tensors if name.startswith("momentum.")]
        momentum = {name.removeprefix("momentum."): tensors.pop(name) for name in names}
        if set(tensors) != set(state):
            raise KaizenError(
                f"{self.work} holds the state of another model; delete that folder and run again"
            )
        with torch.no_grad():
            for name, tensor in tensors.items():
                state[name].copy_(tensor)
        self.optimizer.load_state(momentum)
        self.reporter.alarm(f"resumes at epoch {progress.epoch + 1}, batch {progress.batch + 1}")
        if progress.processes[-1] != processes:
            self.reporter.alarm(
                f"was trained by {progress.processes[-1]} processes, goes on with {processes}: the "
                "same up to rounding"
            )
            progress.processes.append(processes)
        return progress
