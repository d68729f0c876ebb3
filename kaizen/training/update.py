"""The optimiser's step: operation by operation, or on a GPU replayed from a recording of it.

It is some hundred small kernels, which take Python longer to launch than the GPU to run. Replayed
they are the same kernels in the same order, so the bits are the same (`kaizen.training.gradients`
does so with the gradients).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

import torch

from kaizen.training.optim import SGD


class ReplayedUpdate:
    """`SGD.step`, recorded once two batches in a row have the same rates, gradients and buffers at
    the same places in memory.
    """

    def __init__(self, optimizer: SGD, note: Callable[[str], None]) -> None:
        """``note`` is told where it cannot be recorded; it is then computed as before."""
        self._optimizer, self._note = optimizer, note
        self._graph: torch.cuda.CUDAGraph | None = None
        self._recorded: Hashable = None
        self._last: Hashable = None
        self.record = True
        """Whether anything is recorded: not where that failed."""

    def __call__(self, rates: Mapping[str, float]) -> None:
        """See `SGD.step`."""
        key = self._key(rates)
        if self.record and key == self._last and key != self._recorded:
            self._make(rates, key)
        self._last = key
        if self._graph is not None and key == self._recorded:
            self._graph.replay()
        else:
            self._optimizer.step(rates)

    def _key(self, rates: Mapping[str, float]) -> Hashable:
        """All that a recording holds fast: numbers, and where tensors lie."""
        tensors = [
            tensor
            for group in self._optimizer.groups
            for _, parameter in group.parameters
            for tensor in (parameter, parameter.grad)
        ]
        places = [
            None if tensor is None else (tensor.data_ptr(), tensor.stride()) for tensor in tensors
        ]
        buffers = [tensor.data_ptr() for tensor in self._optimizer.state().values()]
        return tuple(rates.items()), tuple(places), tuple(buffers)

    def _make(self, rates: Mapping[str, float], key: Hashable) -> None:
        """Record a step of these rates without taking it; where that fails, never again."""
        graph = torch.cuda.CUDAGraph()
        # In the memory of the last one, which is not replayed any more.
        pool = None if self._graph is None else self._graph.pool()
        try:
            with torch.cuda.graph(graph, pool=pool):
                self._optimizer.step(rates)
        except RuntimeError as error:
            self.record, self._graph, self._recorded = False, None, None
            torch.cuda.synchronize()
            reason = str(error).splitlines()[0][:200]
            self._note(f"note: updates cannot be recorded for the GPU and run slower ({reason})")
            return
        self._graph, self._recorded = graph, key


def fastest_update(
    optimizer: SGD, recorded: bool, note: Callable[[str], None]
) -> Callable[[Mapping[str, float]], None]:
    """`SGD.step`, where ``recorded`` from recordings, as the gradients are."""
    return ReplayedUpdate(optimizer, note) if recorded else optimizer.step
