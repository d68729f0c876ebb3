"""The processes that share a training step, over torch.distributed; with a single one every
function is free.

Features are gathered, not methods (see `kaizen.models.shared`): each process encodes its rows of
the batch, and all compute the same loss of all rows. So the only sums over processes are the
encoders' gradients and batch statistics.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kaizen.errors import KaizenError, NodeFailed

# The longest that one process may make the others wait: reading and decoding differ, above all
# between hosts.
_PATIENCE = datetime.timedelta(minutes=30)


@contextlib.contextmanager
def process_group(device: str) -> Iterator[None]:
    """Join the processes that `torchrun` started, by its environment variables; NCCL on GPUs, one
    each, else Gloo.

    ``device`` is `train.device`. Raises KaizenError where a host has fewer GPUs than processes.
    """
    backend = "gloo"
    if device != "cpu" and torch.cuda.is_available():
        local, wanted = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        there = torch.cuda.device_count()
        if wanted > there:
            raise KaizenError(
                f"runtime.processes: {wanted} processes need a GPU each, and this machine has "
                f"{there}; set it to {there}, or train.device to cpu"
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=_PATIENCE)
    # Not in `finally`: after a failure the others may be gone or waiting, and `torchrun` ends them.
    yield
    dist.destroy_process_group()


def count() -> int:
    """How many processes share the step."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0: the first one alone writes and reports."""
    return dist.get_rank() if dist.is_initialized() else 0


def own_rows(total: int) -> slice:
    """The rows of a batch of ``total`` that this process encodes; the processes' shares differ by
    one at most.
    """
    return _rows_of(rank(), total)


def _rows_of(process: int, total: int) -> slice:
    return slice(process * total // count(), (process + 1) * total // count())


def gather_rows(own: Tensor, total: int) -> Tensor:
    """All ``total`` rows of a batch, [total, F], of which each process gives its `own_rows`, in any
    dtype.

    The gradient that reaches them goes on to the own ones: every process computes the same loss of
    all rows, so it is the whole one already. Raises ValueError for another number of rows, as the
    other processes would wait for it without end.
    """
    if count() == 1:
        return own
    rows = own_rows(total)
    if len(own) != rows.stop - rows.start:
        raise ValueError(
            f"{len(own)} rows of {total} in process {rank()}, which encodes "
            f"{rows.stop - rows.start}"
        )
    gathered: Tensor = _GatherRows.apply(own, total)  # type: ignore[no-untyped-call]  # torch's
    return gathered


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, total: int) -> Tensor:
        ctx.rows = own_rows(total)
        largest = -(-total // count())
        padded = own.new_zeros(largest, *own.shape[1:])
        padded[: len(own)] = own
        parts = gather(padded)
        lengths = (_rows_of(process, total) for process in range(count()))
        return torch.cat(
            [part[: rows.stop - rows.start] for part, rows in zip(parts, lengths, strict=True)]
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0][ctx.rows].contiguous(), None


def gather(own: Tensor) -> Tensor:
    """The tensors of all processes, equal in shape, stacked in the processes' order; without
    gradient.
    """
    own = own.contiguous()
    parts = [torch.empty_like(own) for _ in range(count())]
    dist.all_gather(parts, own)
    return torch.stack(parts)


def sum_up(tensor: Tensor) -> Tensor:
    """Replace a tensor by its sum over the processes, in place; returns it."""
    dist.all_reduce(tensor)
    return tensor


@torch.no_grad()
def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients, of which each process has a part, by their sums; in one message per
    dtype.
    """
    if count() == 1:
        return
    of_dtype: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            of_dtype.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in of_dtype.values():
        whole = sum_up(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        parts = whole.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(
            gradients, [part.view(g.shape) for part, g in zip(parts, gradients, strict=True)]
        )


def any_process(answer: bool) -> bool:
    """Whether any process says yes; asked on the CPU, so that no GPU is waited for."""
    if count() == 1:
        return answer
    return bool(sum_up(torch.tensor(int(answer))))


def all_processes(answer: bool) -> bool:
    """Whether every process says yes."""
    return not any_process(not answer)


def check_agreement(digest: str, where: str) -> None:
    """Raise NodeFailed in every process unless all have the same SHA-256, in hexadecimal digits, of
    their weights.
    """
    digests = gather(torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8))
    others = [
        str(number) for number, other in enumerate(digests) if not torch.equal(other, digests[0])
    ]
    if others:
        raise NodeFailed(
            f"{where}: process {', '.join(others)} (from 0) has other weights than process 0; the "
            "processes must run on machines of one kind, with the same torch: the last good state "
            "is kept, run again on such"
        )


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Let process 0 go through the body before the others do."""
    if rank() > 0:
        wait()
    yield
    if rank() == 0:
        wait()


def wait() -> None:
    """Return once every process has come here."""
    any_process(False)
