"""The gradients of the joint loss of one batch: computed operation by operation, or on a GPU
replayed from a recording of them.

The step of a small network is over a thousand kernels of a few microseconds each, which Python
cannot launch as fast as the GPU runs them. A CUDA graph launches them all at once. It runs the same
kernels in the same order, so the bits are the same.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kaizen.compute import distributed
from kaizen.compute.device import Compute, sent
from kaizen.ssl.base import Moment
from kaizen.training.objective import Objective
from kaizen.training.student import ContinualModel
from kaizen.views.augment import TwoViewAugment
from kaizen.views.masked import MaskedViews

# Batches that are computed before one is recorded: libraries choose their algorithms and take their
# memory at the first ones.
_UNRECORDED = 3


@dataclass(frozen=True)
class Gradients:
    """Makes the views of a batch, computes its joint loss, and leaves the gradients in the
    student's parameters.
    """

    student: ContinualModel
    teacher: ContinualModel | None
    objective: Objective
    augment: TwoViewAugment
    compute: Compute
    own: slice = field(default_factory=lambda: slice(None))
    """The rows of every batch that this process makes the views of."""

    def __call__(self, images: Tensor, labels: Tensor, seed: int, moment: Moment) -> Tensor:
        """The four unweighted terms, float32 [4], of uint8 images [N, C, H, W] and labels int64
        [N]; ``seed`` is that of the views.
        """
        return self.of_views(self.views(images, seed), labels, moment)

    def views(self, images: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Both views, float32 [N, C, size, size]."""
        generator = torch.Generator().manual_seed(seed)
        return (
            self.augment(images, 0, generator, self.own),
            self.augment(images, 1, generator, self.own),
        )

    def of_views(self, views: tuple[Tensor, Tensor], labels: Tensor, moment: Moment) -> Tensor:
        """The four terms of views that are there."""
        for parameter in self.student.parameters():
            parameter.grad = None
        total, terms = self.objective(
            self.student, self.teacher, views, labels, compute=self.compute, moment=moment
        )
        total.backward()
        return terms


@dataclass(frozen=True)
class _Recording:
    """A CUDA graph of one batch, and the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    terms: Tensor
    gradients: list[tuple[nn.Parameter, Tensor]]
    pending: tuple[Tensor, ...]


class ReplayedGradients:
    """Does as `Gradients`, on a GPU, from a recording made after the first batches.

    Small images' views are part of the recording (`kaizen.views.masked`).
    """

    def __init__(self, gradients: Gradients, note: Callable[[str], None]) -> None:
        """``note`` is told where a network cannot be recorded; it is then computed as before."""
        self._gradients, self._note = gradients, note
        self._ssl = gradients.student.ssl
        self._masked = MaskedViews(gradients.augment)
        self._stream = torch.cuda.Stream()
        self._recording: _Recording | None = None
        self._phase: Hashable = None
        self._computed = 0
        self.record = True
        """Whether batches are recorded at all: not where that failed."""

    def __call__(self, images: Tensor, labels: Tensor, seed: int, moment: Moment) -> Tensor:
        """See `Gradients`."""
        if self._masked.fits(images):
            inputs = (images, sent(self._masked.draw(images, seed), images.device), labels)
        else:
            inputs = (*self._gradients.views(images, seed), labels)
        phase = self._ssl.phase(moment)
        if phase != self._phase:
            # The memory of the last recording is given back before more is taken.
            self._recording, self._phase, self._computed = None, phase, 0
        if self.record and self._recording is None and self._computed >= _UNRECORDED:
            self._recording = self._recorded(inputs, moment)
        if self._recording is None:
            return self._compute(inputs, moment)
        return self._replay(self._recording, inputs)

    def _terms(self, inputs: tuple[Tensor, ...], moment: Moment) -> Tensor:
        """The work itself: from images and choices, or from views, with the labels last."""
        first, second, labels = inputs
        if first.dtype == torch.uint8:
            first, second = self._masked(first, second)
        return self._gradients.of_views((first, second), labels, moment)

    def _replay(self, recording: _Recording, inputs: tuple[Tensor, ...]) -> Tensor:
        for kept, given in zip(recording.inputs, inputs, strict=True):
            kept.copy_(given)
        recording.graph.replay()
        # What reads gradients may have put them aside.
        for parameter, gradient in recording.gradients:
            parameter.grad = gradient
        self._ssl.pending = recording.pending
        return recording.terms

    def _compute(self, inputs: tuple[Tensor, ...], moment: Moment) -> Tensor:
        """On the stream that is recorded later, as autograd remembers where it ran."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            terms = self._terms(inputs, moment)
        current.wait_stream(self._stream)
        self._computed += 1
        return terms

    def _recorded(self, inputs: tuple[Tensor, ...], moment: Moment) -> _Recording | None:
        """Record a batch of these shapes without computing it; where that fails, never again."""
        kept = tuple(given.clone() for given in inputs)
        student = self._gradients.student
        # Gradients of the last batch lie in memory that the recording must not count on.
        for parameter in student.parameters():
            parameter.grad = None
        gc.collect()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                terms = self._terms(kept, moment)
        except RuntimeError as error:
            self.record = False
            torch.cuda.synchronize()
            reason = str(error).splitlines()[0][:200]
            self._note(f"note: the step cannot be recorded for the GPU and runs slower ({reason})")
            return None
        gradients = [(p, p.grad) for p in student.parameters() if p.grad is not None]
        return _Recording(graph, kept, terms, gradients, self._ssl.pending)


def fastest(gradients: Gradients, note: Callable[[str], None]) -> Gradients | ReplayedGradients:
    """The same gradients, recorded where a GPU serves one process."""
    if gradients.compute.device.type == "cuda" and distributed.count() == 1:
        return ReplayedGradients(gradients, note)
    return gradients
