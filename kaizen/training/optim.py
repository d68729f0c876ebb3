"""SGD with momentum, alone or under LARS (You et al. 2017, arXiv:1708.03888; fidelity.md §3).

Own code because constructing any torch.optim optimiser imports torch's compiler, seconds of CPU
time in every process, and because the LARS of the reference has rules of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kaizen.errors import KaizenError

LARS_EPS = 1e-8


@dataclass
class ParameterGroup:
    """Parameters, with their names, that share a learning rate and a weight decay.

    ``lr`` is the group's base rate, from which the schedule computes the current one unless it is
    ``static``.
    """

    name: str
    parameters: list[tuple[str, nn.Parameter]]
    lr: float
    weight_decay: float
    static: bool = False


class SGD:
    """SGD with momentum (PyTorch's rule, no dampening, no Nesterov) over named groups.

    Without LARS, weight decay acts on every parameter of a group. With LARS it acts, as the trust
    ratio does, on parameters of two or more dimensions only: biases and normalisation are left out.
    """

    def __init__(
        self, groups: Sequence[ParameterGroup], momentum: float, lars: bool, lars_eta: float
    ) -> None:
        """Raises ValueError when two parameters would share a name, "<group>.<parameter>"."""
        self.groups = list(groups)
        self.momentum = momentum
        self.lars = lars
        self.lars_eta = lars_eta
        self._parameters: dict[str, nn.Parameter] = {}
        self._buffers: dict[str, Tensor] = {}
        for group in self.groups:
            for name, parameter in group.parameters:
                key = f"{group.name}.{name}"
                if key in self._parameters:
                    raise ValueError(f"two parameters are named {key}")
                self._parameters[key] = parameter

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self, lrs: Mapping[str, float]) -> None:
        """Update every parameter that has a gradient; ``lrs`` gives the current learning rate per
        group name.

        Gradients are left as they are. Never waits for the device.
        """
        for group in self.groups:
            lr = lrs[group.name]
            active = [
                (f"{group.name}.{name}", p) for name, p in group.parameters if p.grad is not None
            ]
            if not active:
                continue
            parameters: list[Tensor] = [p for _, p in active]
            gradients = [p.grad for _, p in active if p.grad is not None]
            if self.lars:
                gradients = self._scaled_by_lars(parameters, gradients, group.weight_decay, lr)
            elif group.weight_decay:
                gradients = list(
                    torch._foreach_add(gradients, parameters, alpha=group.weight_decay)
                )
            if self.momentum:
                # A buffer of zeros makes the first step's buffer the gradient itself, as PyTorch's
                # rule has it.
                buffers = [self._buffer(key) for key, _ in active]
                torch._foreach_mul_(buffers, self.momentum)
                torch._foreach_add_(buffers, gradients)
                gradients = buffers
            torch._foreach_add_(parameters, gradients, alpha=-lr)

    def state(self) -> dict[str, Tensor]:
        """Return the momentum buffers by "<group>.<parameter>": live tensors, changed by the next
        step.
        """
        return dict(self._buffers)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over momentum buffers from `state`, copied to their parameters' device and layout.

        Raises KaizenError when a buffer belongs to no parameter or has another shape or dtype.
        """
        buffers: dict[str, Tensor] = {}
        for key, value in state.items():
            parameter = self._parameters.get(key)
            if (
                parameter is None
                or parameter.shape != value.shape
                or parameter.dtype != value.dtype
            ):
                kind = (
                    "none" if parameter is None else f"{parameter.dtype} {tuple(parameter.shape)}"
                )
                raise KaizenError(
                    f"resume state: momentum buffer {key} is {value.dtype} {tuple(value.shape)} "
                    f"but the parameter is {kind}; the state belongs to another model: delete it "
                    "and run again"
                )
            buffers[key] = torch.zeros_like(parameter, requires_grad=False).copy_(value)
        self._buffers = buffers

    def _buffer(self, key: str) -> Tensor:
        """Return the momentum buffer of a parameter, made on first use."""
        if key not in self._buffers:
            self._buffers[key] = torch.zeros_like(self._parameters[key], requires_grad=False)
        return self._buffers[key]

    def _scaled_by_lars(
        self, parameters: list[Tensor], gradients: list[Tensor], weight_decay: float, lr: float
    ) -> list[Tensor]:
        """Return (g + wd p) q for parameters of two or more dimensions, g for the others.

        q = eta |p| / (|g| + wd |p| + eps), clipped to min(q / lr, 1) (fidelity.md §3). Where |p| or
        |g| is 0 the gradient stays: that is q = 1 for |p| = 0 (its decay is 0) and q = 0 for |g| =
        0 (which drops the decay), so no value has to be read back from the device.
        """
        chosen = [index for index, p in enumerate(parameters) if p.ndim > 1]
        if not chosen:
            return gradients
        p, g = [parameters[index] for index in chosen], [gradients[index] for index in chosen]
        p_norm, g_norm = torch.stack(torch._foreach_norm(p)), torch.stack(torch._foreach_norm(g))
        q = self.lars_eta * p_norm / (g_norm + weight_decay * p_norm + LARS_EPS)
        q = (q / lr).clamp(max=1.0)
        # Not `torch.where`, which would wait for the device to send it the numbers.
        q = q.masked_fill(p_norm == 0, 1.0).masked_fill(g_norm == 0, 0.0)
        decayed = torch._foreach_add(g, p, alpha=weight_decay) if weight_decay else g
        scaled = list(gradients)
        for index, value in zip(chosen, torch._foreach_mul(decayed, q.unbind()), strict=True):
            scaled[index] = value
        return scaled
