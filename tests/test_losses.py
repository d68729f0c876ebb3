"""Losses against the reference's golden numbers and against plain loops in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ssl_models import Features, Projections
from torch import Tensor

from kaizen.compute.precision import unit_rows
from kaizen.compute.seeding import seeded
from kaizen.distill.contrastive import ContrastiveDistiller, contrastive_distillation
from kaizen.distill.soft_label import soft_label_distillation
from kaizen.params import ContrastiveDistillParams, FeatureDistillParams, SimCLRParams
from kaizen.ssl.barlow_twins import barlow_twins
from kaizen.ssl.base import Moment
from kaizen.ssl.byol import cosine_regression
from kaizen.ssl.dino import self_distillation
from kaizen.ssl.mocov2plus import info_nce
from kaizen.ssl.nnclr import neighbour_info_nce
from kaizen.ssl.simclr import SimCLR, nt_xent
from kaizen.ssl.simsiam import negative_cosine
from kaizen.ssl.swav import sinkhorn, swapped_prediction
from kaizen.ssl.vicreg import vicreg
from kaizen.training.classification import cross_entropy_sum


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _unit_rows(x: np.ndarray) -> np.ndarray:
    unit: np.ndarray = x / np.sqrt((x * x).sum(axis=1, keepdims=True))
    return unit


def _softmax(row: np.ndarray) -> np.ndarray:
    e = np.exp(row - row.max())
    shares: np.ndarray = e / e.sum()
    return shares


def _log_softmax(row: np.ndarray) -> np.ndarray:
    logarithms: np.ndarray = row - row.max() - np.log(np.exp(row - row.max()).sum())
    return logarithms


def _plain_nt_xent(z1: np.ndarray, z2: np.ndarray, temperature: float) -> float:
    n = len(z1)
    z = _unit_rows(np.concatenate([z1, z2]))
    losses = []
    for i in range(2 * n):
        positive = i + n if i < n else i - n
        others = [float(z[i] @ z[j]) / temperature for j in range(2 * n) if j != i]
        losses.append(np.log(np.sum(np.exp(others))) - float(z[i] @ z[positive]) / temperature)
    return float(np.mean(losses))


def _plain_contrastive(p: np.ndarray, f: np.ndarray, temperature: float) -> float:
    p, f = _unit_rows(p), _unit_rows(f)
    losses = []
    for a, b in [(p, f), (f, p)]:
        for i in range(len(a)):
            losses.append(-_log_softmax(b @ a[i] / temperature)[i])
    return float(np.mean(losses))


def test_nt_xent_golden(golden: dict[str, Tensor]) -> None:
    z1 = golden["in/z1"].clone().requires_grad_()
    loss = nt_xent(z1, golden["in/z2"], 0.2)
    loss.backward()
    torch.testing.assert_close(loss.detach(), golden["out/ssl/simclr_t0.2"], rtol=1e-6, atol=0)
    torch.testing.assert_close(z1.grad, golden["grad/ssl/simclr_t0.2"], rtol=1e-6, atol=1e-12)


def _moco(z1: Tensor, g: dict[str, Tensor]) -> Tensor:
    q1, q2, k1, k2 = (unit_rows(rows) for rows in (z1, g["in/z2"], g["in/p1"], g["in/p2"]))
    queue = g["in/moco_queue"]
    return (info_nce(q1, k2, queue[1], 0.2) + info_nce(q2, k1, queue[0], 0.2)) / 2


# Of a golden number: what its gradient is taken of, and the loss as a function of that and the
# golden inputs.
GOLDEN: dict[str, tuple[str, Callable[[Tensor, dict[str, Tensor]], Tensor]]] = {
    "mocov2plus_t0.2": ("z1", _moco),
    "byol": (
        "p1",
        lambda p1, g: cosine_regression(p1, g["in/z2"]) + cosine_regression(g["in/p2"], g["in/z1"]),
    ),
    "vicreg_25_25_1": ("z1", lambda z1, g: vicreg(z1, g["in/z2"], 25.0, 25.0, 1.0)),
    # The reference computed this one in float32, to 7e-8.
    "barlow_twins_lamb0.005_scale0.025": (
        "z1",
        lambda z1, g: barlow_twins(z1, g["in/z2"], 0.005, 0.025),
    ),
    "simsiam": (
        "p1",
        lambda p1, g: (
            (negative_cosine(p1, g["in/z2"]) + negative_cosine(g["in/p2"], g["in/z1"])) / 2
        ),
    ),
    "nnclr_t0.2": (
        "p1",
        lambda p1, g: (
            (
                neighbour_info_nce(g["in/z1"], g["in/p2"], 0.2)
                + neighbour_info_nce(g["in/z2"], p1, 0.2)
            )
            / 2
        ),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_ssl_losses_golden(golden: dict[str, Tensor], name: str) -> None:
    """The reference's value and, where it is kept, gradient; elsewhere the gradient of finite
    differences.
    """
    argument, loss = GOLDEN[name]
    first = golden[f"in/{argument}"].clone().requires_grad_()
    value = loss(first, golden)
    value.backward()
    torch.testing.assert_close(
        value.detach(), golden[f"out/ssl/{name}"].double(), rtol=1e-6, atol=0
    )
    if f"grad/ssl/{name}" in golden:
        torch.testing.assert_close(first.grad, golden[f"grad/ssl/{name}"], rtol=1e-6, atol=1e-12)
    else:
        assert torch.autograd.gradcheck(lambda x: loss(x, golden), first)


def test_contrastive_distillation_golden(golden: dict[str, Tensor]) -> None:
    p1 = golden["in/p1"].clone().requires_grad_()
    loss = contrastive_distillation(
        p1, golden["in/p2"], golden["in/teacher_z1"], golden["in/teacher_z2"], 0.2
    )
    loss.backward()
    torch.testing.assert_close(
        loss.detach(), golden["out/feature_distill/contrastive_t0.2"], rtol=1e-6, atol=0
    )
    torch.testing.assert_close(
        p1.grad, golden["grad/feature_distill/contrastive_t0.2"], rtol=1e-6, atol=1e-12
    )


def test_classifier_losses_golden(golden: dict[str, Tensor]) -> None:
    student = [golden["in/student_logits1"], golden["in/student_logits2"]]
    teacher = [golden["in/teacher_logits1"], golden["in/teacher_logits2"]]
    expected = golden["out/classifier/cross_entropy_sum_of_two_views"]
    torch.testing.assert_close(
        cross_entropy_sum(student, golden["in/targets"]), expected, rtol=1e-6, atol=0
    )
    expected = golden["out/classifier_distill/soft_label"]
    torch.testing.assert_close(
        soft_label_distillation(student, teacher, 1.0), expected, rtol=1e-6, atol=0
    )


@pytest.mark.parametrize(("n", "temperature"), [(1, 0.2), (2, 0.1), (9, 0.5)])
def test_nt_xent_against_plain_loop(n: int, temperature: float) -> None:
    z1, z2 = _random(1, n, 5), _random(2, n, 5)
    loss = nt_xent(z1, z2, temperature).item()
    assert loss == pytest.approx(
        _plain_nt_xent(z1.numpy(), z2.numpy(), temperature), rel=1e-9, abs=1e-9
    )


def test_contrastive_against_plain_loop() -> None:
    p, f = _random(3, 14, 6), _random(4, 14, 6)
    loss = contrastive_distillation(p[:7], p[7:], f[:7], f[7:], 0.3).item()
    assert loss == pytest.approx(_plain_contrastive(p.numpy(), f.numpy(), 0.3), rel=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_soft_label_against_plain_loop(temperature: float) -> None:
    student, teacher = [_random(5, 4, 3), _random(6, 4, 3)], [_random(7, 4, 3), _random(8, 4, 3)]
    views = []
    for s, t in zip(student, teacher, strict=True):
        rows = [
            -(_softmax(b / temperature) * _log_softmax(a / temperature)).sum()
            for a, b in zip(s.numpy(), t.numpy(), strict=True)
        ]
        views.append(np.mean(rows))
    loss = soft_label_distillation(student, teacher, temperature).item()
    assert loss == pytest.approx(float(np.mean(views)) * temperature**2, rel=1e-9)


@pytest.mark.parametrize("n", [2, 9])
def test_barlow_twins_against_plain_loop(n: int) -> None:
    views = [_random(23, n, 4).numpy(), _random(24, n, 4).numpy()]
    first, second = ((z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5) for z in views)
    expected = 0.0
    for i in range(4):
        for j in range(4):
            c = float(first[:, i] @ second[:, j]) / n
            expected += (c - 1) ** 2 if i == j else 0.3 * c**2
    loss = barlow_twins(torch.from_numpy(views[0]), torch.from_numpy(views[1]), 0.3, 0.7).item()
    assert loss == pytest.approx(0.7 * expected, rel=1e-9)


def _plain_sinkhorn(scores: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    """The paper's form, by totals: each of K prototypes gets N / K samples, each of N samples is
    given away once.
    """
    q: np.ndarray = np.exp(scores / epsilon)
    q /= q.sum()
    for _ in range(iterations):
        for k in range(q.shape[1]):
            q[:, k] /= q[:, k].sum() * q.shape[1]
        for n in range(q.shape[0]):
            q[n] /= q[n].sum() * q.shape[0]
    q *= q.shape[0]
    return q


@pytest.mark.parametrize(("n", "prototypes", "iterations"), [(7, 3, 3), (3, 7, 1), (1, 4, 2)])
def test_sinkhorn_against_plain_loop(n: int, prototypes: int, iterations: int) -> None:
    scores = _random(25, n, prototypes).requires_grad_()
    assignments = sinkhorn(scores, 0.4, iterations)
    assert not assignments.requires_grad
    expected = _plain_sinkhorn(scores.detach().numpy(), 0.4, iterations)
    np.testing.assert_allclose(assignments.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_sinkhorn_balances_prototypes_and_survives_extreme_scores() -> None:
    assignments = sinkhorn(_random(26, 12, 4), 0.5, 100)
    torch.testing.assert_close(assignments.sum(dim=0), torch.full((4,), 3.0, dtype=torch.float64))
    torch.testing.assert_close(assignments.sum(dim=1), torch.ones(12, dtype=torch.float64))
    # exp(30 / 0.05) is infinite and exp(-30 / 0.05) zero, in float32.
    far = sinkhorn(torch.tensor([[30.0, -30.0, 0.0]] * 3), 0.05, 3)
    torch.testing.assert_close(far, torch.full((3, 3), 1 / 3))


def test_swapped_prediction_against_plain_loop() -> None:
    scores, assignments = (
        (_random(27, 5, 4), _random(28, 5, 4)),
        (_random(29, 5, 4).exp(), _random(30, 5, 4).exp()),
    )
    losses = []
    for own, other in ((0, 1), (1, 0)):
        for row, target in zip(scores[own].numpy(), assignments[other].numpy(), strict=True):
            losses.append(-(target * _log_softmax(row / 0.3)).sum())
    loss = swapped_prediction(scores, assignments, 0.3).item()
    assert loss == pytest.approx(float(np.mean(losses)), rel=1e-9)


def test_self_distillation_against_plain_loop() -> None:
    student, teacher, centre = (
        (_random(31, 5, 4), _random(32, 5, 4)),
        (_random(33, 5, 4), _random(34, 5, 4)),
        _random(35, 4),
    )
    losses = []
    for own, other in ((0, 1), (1, 0)):
        for row, target in zip(student[own].numpy(), teacher[other].numpy(), strict=True):
            losses.append(
                -(_softmax((target - centre.numpy()) / 0.05) * _log_softmax(row / 0.2)).sum()
            )
    loss = self_distillation(student, teacher, centre, 0.2, 0.05).item()
    assert loss == pytest.approx(float(np.mean(losses)), rel=1e-9)


def test_cross_entropy_ignores_unlabelled_rows() -> None:
    views = [_random(9, 6, 4), _random(10, 6, 4)]
    targets = torch.tensor([2, -1, 0, 3, -1, 1])
    expected = 0.0
    for view in views:
        picked = [
            -_log_softmax(row)[t]
            for row, t in zip(view.numpy(), targets.tolist(), strict=True)
            if t >= 0
        ]
        expected += float(np.mean(picked))
    views[0].requires_grad_()
    loss = cross_entropy_sum(views, targets)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert views[0].grad is not None
    assert torch.equal(views[0].grad.abs().sum(dim=1) > 0, targets >= 0)


def test_cross_entropy_of_an_unlabelled_batch_is_zero() -> None:
    views = [_random(11, 5, 4).requires_grad_(), _random(12, 5, 4).requires_grad_()]
    loss = cross_entropy_sum(views, torch.full((5,), -1))
    loss.backward()
    assert loss.item() == 0.0
    for view in views:
        assert view.grad is not None
        assert torch.equal(view.grad, torch.zeros(5, 4, dtype=torch.float64))


def test_losses_stay_finite_for_extreme_inputs() -> None:
    z = torch.full((3, 4), 1e4)
    assert nt_xent(z, -z, 0.01).isfinite()
    zeros = torch.zeros(3, 4, requires_grad=True)
    loss = nt_xent(zeros, zeros, 0.1) + contrastive_distillation(zeros, zeros, z, z, 0.01)
    loss = loss + soft_label_distillation([z * 1e4], [-z * 1e4], 1.0)
    loss.backward()
    assert loss.isfinite()
    assert zeros.grad is not None
    assert zeros.grad.isfinite().all()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nt_xent": lambda a, b: nt_xent(a, b, 0.2),
    "contrastive": lambda a, b: contrastive_distillation(a, b, b, a, 0.2),
    "info_nce": lambda a, b: info_nce(a, b, b.T, 0.2),
    "cosine_regression": cosine_regression,
    "vicreg": lambda a, b: vicreg(a, b, 25.0, 25.0, 1.0),
    "barlow_twins": lambda a, b: barlow_twins(a, b, 0.005, 0.025),
    "negative_cosine": negative_cosine,
    "neighbour_info_nce": lambda a, b: neighbour_info_nce(a, b, 0.2),
    "swapped_prediction": lambda a, b: swapped_prediction(
        (a, b), (sinkhorn(a, 0.5, 3), sinkhorn(b, 0.5, 3)), 0.1
    ),
    "self_distillation": lambda a, b: self_distillation((a, b), (b, a), b[0], 0.1, 0.04),
    "soft_label": lambda a, b: soft_label_distillation([a, b], [b, a], 1.0),
    "cross_entropy": lambda a, b: cross_entropy_sum([a, b], torch.arange(6)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_half_inputs_give_a_float32_loss(name: str) -> None:
    """Under autocast, bfloat16 inputs give exactly the loss of the same values held in float32."""
    a, b = _random(13, 6, 8).to(torch.bfloat16), _random(14, 6, 8).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = LOSSES[name](a, b)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, LOSSES[name](a.float(), b.float()))
    assert LOSSES[name](a.double(), b.double()).dtype == torch.float64


@pytest.mark.parametrize(
    "loss",
    [
        cosine_regression,
        negative_cosine,
        lambda predicted, target: neighbour_info_nce(target, predicted, 0.2),
        lambda student, teacher: self_distillation(
            (student, student), (teacher, teacher), torch.zeros(4), 0.1, 0.04
        ),
    ],
    ids=["byol", "simsiam", "nnclr", "dino"],
)
def test_no_gradient_reaches_the_target(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    predicted, target = _random(36, 6, 4).requires_grad_(), _random(37, 6, 4).requires_grad_()
    loss(predicted, target).backward()
    assert target.grad is None
    assert predicted.grad is not None and predicted.grad.any()


def test_no_gradient_reaches_the_teacher() -> None:
    student = _random(15, 6, 4).requires_grad_()
    teacher = _random(16, 6, 4).requires_grad_()
    loss = contrastive_distillation(student, student, teacher, teacher, 0.2)
    (loss + soft_label_distillation([student], [teacher], 2.0)).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_simclr_is_the_loss_of_its_projections() -> None:
    with seeded(0):
        method = SimCLR(
            SimCLRParams(projector_hidden=12, projector_out=6, temperature=0.5),
            Features(10),
        ).double()
    features = (_random(17, 8, 10).requires_grad_(), _random(18, 8, 10))
    views = (torch.empty(8, 1, 4, 4), torch.empty(8, 1, 4, 4))
    output = method(features, views, Moment(0, 1, 0))
    weights = {name: value.numpy() for name, value in method.projector.state_dict().items()}
    for feature, z in zip(features, output.projections, strict=True):
        hidden = np.maximum(feature.detach().numpy() @ weights["0.weight"].T + weights["0.bias"], 0)
        expected = hidden @ weights["2.weight"].T + weights["2.bias"]
        np.testing.assert_allclose(z.detach().numpy(), expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(method.project(feature), z)
    plain = _plain_nt_xent(
        output.projections[0].detach().numpy(), output.projections[1].detach().numpy(), 0.5
    )
    assert output.loss.item() == pytest.approx(plain, rel=1e-9)
    output.loss.backward()
    assert features[0].grad is not None


def test_contrastive_distiller_predicts_then_compares() -> None:
    with seeded(0):
        params = FeatureDistillParams(
            predictor_hidden=9, contrastive=ContrastiveDistillParams(temperature=0.4)
        )
        distiller = ContrastiveDistiller(params, Projections(5)).double()
    z, f = (_random(19, 7, 5), _random(20, 7, 5)), (_random(21, 7, 5), _random(22, 7, 5))
    # copies, as the forward pass below changes the batch norm's running statistics in place
    weights = {
        name: value.clone().numpy() for name, value in distiller.predictor.state_dict().items()
    }
    predicted = []
    for view in z:
        hidden = view.numpy() @ weights["0.weight"].T + weights["0.bias"]
        hidden = np.maximum((hidden - hidden.mean(axis=0)) / np.sqrt(hidden.var(axis=0) + 1e-5), 0)
        predicted.append(hidden @ weights["3.weight"].T + weights["3.bias"])
    expected = _plain_contrastive(
        np.concatenate(predicted), np.concatenate([f[0].numpy(), f[1].numpy()]), 0.4
    )
    assert distiller(z, f).item() == pytest.approx(expected, rel=1e-9)
