"""SGD and LARS against the golden steps and a plain loop in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from conftest import golden_reference
from torch import Tensor, nn

from kaizen.errors import KaizenError
from kaizen.training.optim import SGD, ParameterGroup

LRS = {"encoder": 0.4, "classifier": 0.05}


def _parameters(seed: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3), (4,), (2, 3, 2, 2), (2, 4), (2,)]
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for s in shapes]


def _optimiser(
    parameters: list[nn.Parameter], lars: bool, momentum: float = 0.9, wd: float = 0.03
) -> SGD:
    encoder = [(f"p{i}", p) for i, p in enumerate(parameters[:3])]
    head = [(f"p{i}", p) for i, p in enumerate(parameters[3:])]
    groups = [
        ParameterGroup("encoder", encoder, 0.4, wd),
        ParameterGroup("classifier", head, 0.05, 0.0),
    ]
    return SGD(groups, momentum, lars, lars_eta=0.02)


def _gradients(parameters: list[nn.Parameter], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]


def _set(parameters: list[nn.Parameter], gradients: list[Tensor]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()


def _plain_steps(
    start: list[np.ndarray], steps: list[list[np.ndarray]], lars: bool, momentum: float
) -> list[Any]:
    """The update rule of fidelity.md §3, one parameter at a time."""
    values = [v.copy() for v in start]
    buffers: list[np.ndarray | None] = [None] * len(start)
    for gradients in steps:
        for i, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
            lr, wd = (0.4, 0.03) if i < 3 else (0.05, 0.0)
            g = gradient.copy()
            if lars:
                p_norm, g_norm = float(np.sqrt((value**2).sum())), float(np.sqrt((g**2).sum()))
                if value.ndim != 1 and p_norm != 0 and g_norm != 0:
                    q = min(0.02 * p_norm / (g_norm + wd * p_norm + 1e-8) / lr, 1)
                    g = (g + wd * value) * q
            else:
                g = g + wd * value
            old = buffers[i]
            new = g if old is None else momentum * old + g
            buffers[i] = new
            values[i] = value - lr * new
    return values


@pytest.mark.parametrize("lars", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_against_plain_loop(lars: bool, momentum: float) -> None:
    parameters = _parameters(0)
    start = [p.detach().numpy().copy() for p in parameters]
    optimiser = _optimiser(parameters, lars, momentum)
    steps = []
    for number in range(5):
        gradients = _gradients(parameters, 100 + number)
        if number == 2:
            gradients[2] *= 1e-3  # small gradients: the clip acts
        if number == 3:
            gradients[0].zero_()  # zero gradient: no decay under LARS
        _set(parameters, gradients)
        optimiser.step(LRS)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            assert parameter.grad is not None and torch.equal(parameter.grad, gradient)
        steps.append([g.numpy() for g in gradients])
    expected = _plain_steps(start, steps, lars, momentum)
    for parameter, value in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), value, rtol=1e-10, atol=1e-14)


def test_lars_leaves_the_gradient_of_zero_weights_unscaled() -> None:
    weight = nn.Parameter(torch.zeros(3, 2))
    optimiser = SGD([ParameterGroup("encoder", [("w", weight)], 1.0, 0.1)], 0.9, True, 0.02)
    weight.grad = torch.full((3, 2), 0.5)
    optimiser.step({"encoder": 2.0})
    assert torch.equal(weight.detach(), torch.full((3, 2), -1.0))


def test_lars_with_learning_rate_zero_changes_nothing() -> None:
    parameters = _parameters(1)
    before = [p.detach().clone() for p in parameters]
    optimiser = _optimiser(parameters, lars=True)
    _set(parameters, _gradients(parameters, 5))
    optimiser.step({"encoder": 0.0, "classifier": 0.0})
    assert all(torch.equal(p.detach(), b) for p, b in zip(parameters, before, strict=True))


def test_lars_golden() -> None:
    golden = golden_reference("lars")
    config = golden["config"]
    parameters = [nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in golden["init"]]
    second = config["group2"]
    groups = [
        ParameterGroup(
            "encoder",
            [("w", parameters[0]), ("b", parameters[1])],
            config["lr"],
            config["weight_decay"],
        ),
        ParameterGroup("classifier", [("w", parameters[2])], second["lr"], second["weight_decay"]),
    ]
    optimiser = SGD(groups, config["momentum"], True, config["eta"])
    assert len(golden["steps"]) == 4
    for step in golden["steps"]:
        _set(parameters, [torch.tensor(g, dtype=torch.float64) for g in step["grads"]])
        optimiser.step({"encoder": config["lr"], "classifier": second["lr"]})
        for parameter, value in zip(parameters, step["params"], strict=True):
            torch.testing.assert_close(
                parameter.detach(), torch.tensor(value, dtype=torch.float64), rtol=1e-6, atol=1e-12
            )


@pytest.mark.parametrize("lars", [False, True])
def test_state_round_trip_resumes_identically(lars: bool) -> None:
    parameters = _parameters(2)
    optimiser = _optimiser(parameters, lars)
    for number in range(3):
        _set(parameters, _gradients(parameters, number))
        optimiser.step(LRS)
    saved = {key: value.clone() for key, value in optimiser.state().items()}
    assert list(saved) == [
        "encoder.p0",
        "encoder.p1",
        "encoder.p2",
        "classifier.p0",
        "classifier.p1",
    ]
    resumed = [nn.Parameter(p.detach().clone()) for p in parameters]
    second = _optimiser(resumed, lars)
    second.load_state(saved)
    for number in range(3, 6):
        for values, sgd in ((parameters, optimiser), (resumed, second)):
            _set(values, _gradients(values, number))
            sgd.step(LRS)
    assert all(torch.equal(a, b) for a, b in zip(parameters, resumed, strict=True))
    assert all(torch.equal(optimiser.state()[key], value) for key, value in second.state().items())
    assert not torch.equal(
        saved["encoder.p0"], second.state()["encoder.p0"]
    )  # the state given was copied


def test_load_state_keeps_the_parameters_layout() -> None:
    weight = nn.Parameter(torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last))
    optimiser = SGD([ParameterGroup("encoder", [("w", weight)], 1.0, 0.0)], 0.9, False, 0.02)
    saved = torch.randn(2, 3, 4, 4)
    optimiser.load_state({"encoder.w": saved})
    assert torch.equal(optimiser.state()["encoder.w"], saved)
    assert optimiser.state()["encoder.w"].stride() == weight.stride()


def test_load_state_refuses_another_models_state() -> None:
    optimiser = _optimiser(_parameters(3), lars=False)
    with pytest.raises(KaizenError, match=r"encoder\.p9 .* parameter is none"):
        optimiser.load_state({"encoder.p9": torch.zeros(1)})
    with pytest.raises(KaizenError, match=r"encoder\.p0 .*\(3, 4\).*\(4, 3\)"):
        optimiser.load_state({"encoder.p0": torch.zeros(3, 4, dtype=torch.float64)})
    with pytest.raises(KaizenError, match=r"float32 .*float64"):
        optimiser.load_state({"encoder.p0": torch.zeros(4, 3)})
    assert optimiser.state() == {}


@pytest.mark.parametrize("lars", [False, True])
def test_parameters_without_gradient_are_skipped(lars: bool) -> None:
    parameters = _parameters(4)
    before = [p.detach().clone() for p in parameters]
    optimiser = _optimiser(parameters, lars)
    _set(parameters, _gradients(parameters, 1))
    optimiser.zero_grad()
    assert all(p.grad is None for p in parameters)
    parameters[0].grad = torch.ones(4, 3, dtype=torch.float64)
    optimiser.step(LRS)
    changed = [not torch.equal(p.detach(), b) for p, b in zip(parameters, before, strict=True)]
    assert changed == [True, False, False, False, False]
    assert list(optimiser.state()) == ["encoder.p0"]


def test_two_parameters_of_one_name_are_refused() -> None:
    group = ParameterGroup("encoder", [("w", nn.Parameter(torch.ones(1)))], 1.0, 0.0)
    with pytest.raises(ValueError, match=r"encoder\.w"):
        SGD([group, group], 0.9, False, 0.02)


def test_sgd_learns_a_least_squares_fit() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, generator=generator, dtype=torch.float64)
    truth = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    weight = nn.Parameter(torch.zeros(1, 3, dtype=torch.float64))
    optimiser = SGD([ParameterGroup("encoder", [("w", weight)], 0.05, 0.0)], 0.9, False, 0.02)
    for _ in range(300):
        optimiser.zero_grad()
        ((x @ (weight - truth).T) ** 2).mean().backward()
        optimiser.step({"encoder": 0.05})
    torch.testing.assert_close(weight.detach(), truth, rtol=1e-6, atol=1e-6)
