"""The parts that SSL methods share: momentum networks, queues, prototypes, heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import golden_reference
from ssl_models import (
    MOMENTUM_METHODS,
    copied,
    forward,
    optimizer,
    random_views,
    small_model,
    update,
)
from torch import nn

from kaizen.compute.precision import unit_rows
from kaizen.models.heads import Layer, mlp
from kaizen.ssl.base import Moment
from kaizen.ssl.momentum import momentum_coefficient
from kaizen.ssl.prototypes import Prototypes
from kaizen.ssl.queue import FeatureQueue


def test_momentum_coefficient_golden() -> None:
    golden = golden_reference("momentum_tau_per_step")
    config, values = golden["config"], golden["values"]
    ours = [
        momentum_coefficient(step, config["max_steps"], config["base_tau"], config["final_tau"])
        for step in range(len(values))
    ]
    assert ours == pytest.approx(values, rel=1e-9)


@pytest.mark.parametrize("method", MOMENTUM_METHODS)
def test_the_momentum_network_moves_its_parameters_only_by_the_formula_after_the_optimiser(
    method: str,
) -> None:
    model = small_model(method, momentum_base=0.9, momentum_final=1.0)
    moment = Moment(step=3, steps=12, epoch=1)
    momentum, start = model.ssl.momentum, copied(model.ssl.momentum.state_dict())
    loss = forward(model, random_views(), moment).loss
    passed = copied(momentum.state_dict())
    # Its own forward passes, and nothing else, move the running statistics.
    moved = {name for name, value in passed.items() if not torch.equal(value, start[name])}
    assert moved and all("running" in name or "num_batches" in name for name in moved)
    loss.backward()
    sgd = optimizer(model)
    model.ssl.before_update(moment, model.encoder)
    sgd.step({group.name: 0.1 for group in sgd.groups})
    assert all(torch.equal(value, passed[name]) for name, value in momentum.state_dict().items())
    model.ssl.after_step(moment, model.encoder)
    tau = 1.0 - 0.1 * (np.cos(np.pi * 3 / 12) + 1) / 2
    student = dict(model.encoder.named_parameters(prefix="encoder"))
    head = [model.ssl.projector, model.ssl.prototypes] if method == "dino" else model.ssl.projector
    student |= dict(nn.ModuleList(head).named_parameters(prefix="projector"))
    parameters = dict(momentum.named_parameters())
    assert parameters.keys() == student.keys()
    for name, value in momentum.state_dict().items():
        if name in parameters:
            expected = tau * passed[name].double() + (1 - tau) * student[name].detach().double()
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
        else:
            assert torch.equal(value, passed[name]), name


@pytest.mark.parametrize("method", MOMENTUM_METHODS)
def test_the_momentum_network_starts_as_a_copy_and_rests_where_the_coefficient_is_1(
    method: str,
) -> None:
    model = small_model(method, momentum_base=1.0, momentum_final=1.0)
    own, student = (
        dict(model.ssl.momentum.named_parameters()),
        dict(model.encoder.named_parameters(prefix="encoder")),
    )
    assert all(
        torch.equal(own[name], value) and own[name] is not value for name, value in student.items()
    )
    before = copied(own)
    update(model, optimizer(model), random_views())
    assert all(torch.equal(value, before[name]) for name, value in own.items())
    assert not any(parameter.requires_grad for parameter in own.values())


@pytest.mark.parametrize("counts", [[3, 3, 3, 3], [5], [7, 1, 12], [4, 0, 30, 2], [1] * 11])
def test_the_queue_keeps_the_newest_rows_and_wraps_for_any_size(counts: list[int]) -> None:
    """Against a plain list of places: row k of all that were ever pushed lies in place k mod 5."""
    queue = FeatureQueue(2, 3, 5)
    torch.testing.assert_close(queue.columns.norm(dim=1), torch.ones(2, 5))
    places = [queue.columns[:, :, place].clone() for place in range(5)]
    pushed = 0
    for count in counts:
        rows = torch.randn(2, count, 3)
        queue.push(rows[0], rows[1])
        for row in range(count):
            places[(pushed + row) % 5] = rows[:, row]
        pushed += count
        assert torch.equal(queue.columns, torch.stack(places, dim=2))
        assert queue.position == pushed % 5
    queue.clear()
    assert not queue.columns.any() and queue.position == 0


def test_the_queue_takes_half_types_and_is_part_of_the_state() -> None:
    queue, other = FeatureQueue(1, 3, 4), FeatureQueue(1, 3, 4)
    rows = torch.randn(3, 3).to(torch.bfloat16)
    queue.push(rows)
    assert torch.equal(queue.columns[0, :, :3], rows.float().T)
    other.load_state_dict(queue.state_dict())
    for one in (queue, other):
        one.push(rows[:2])
    assert torch.equal(queue.columns, other.columns) and queue.position == other.position == 1


@pytest.mark.parametrize("learned", [True, False])
def test_prototypes_score_by_cosine_times_length(learned: bool) -> None:
    prototypes = Prototypes(4, 6, learned_length=learned)
    z = torch.randn(5, 4)
    v = prototypes.direction.detach().numpy().copy()
    # As torch.nn.utils.weight_norm: a learned length starts as the initial weight's, whose product
    # stays the weight.
    weight = v if learned else v / np.linalg.norm(v, axis=1, keepdims=True)
    unit = z.numpy() / np.linalg.norm(z.numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(
        prototypes(z).detach().numpy(), unit @ weight.T, rtol=1e-5, atol=1e-6
    )
    with torch.no_grad():
        prototypes.direction.mul_(3.0)
    np.testing.assert_allclose(
        prototypes(7 * z).detach().numpy(), unit @ weight.T, rtol=1e-5, atol=1e-6
    )
    assert len(list(prototypes.parameters())) == 1 + learned
    assert all(parameter.ndim == 2 for parameter in prototypes.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = prototypes(z)
    assert half.dtype == torch.float32 and torch.equal(half, prototypes(z))
    assert prototypes(torch.zeros(1, 4)).eq(0).all()


def test_unit_rows_are_of_length_1_in_full_precision() -> None:
    rows = torch.randn(3, 5).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(unit_rows(rows), F.normalize(rows.float(), dim=1))
    assert unit_rows(rows.double()).dtype == torch.float64


def test_layers_of_gelu_and_of_batch_norm_without_scale() -> None:
    head = mlp(
        Layer(4, 3, batch_norm=True, relu=False, gelu=True, bias=False),
        Layer(3, 2, batch_norm=True, relu=False, affine=False),
    )
    assert [type(module) for module in head] == [
        nn.Linear,
        nn.BatchNorm1d,
        nn.GELU,
        nn.Linear,
        nn.BatchNorm1d,
    ]
    assert set(dict(head.named_parameters())) == {
        "0.weight",
        "1.weight",
        "1.bias",
        "3.weight",
        "3.bias",
    }
