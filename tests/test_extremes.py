"""Parameters at the ends of what validation accepts: losses, gradients, votes and weights in
float32 against plain computations in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaizen.distill.contrastive import contrastive_distillation
from kaizen.distill.soft_label import soft_label_distillation
from kaizen.errors import KaizenError
from kaizen.evaluation.readers import linear_probe, nearest_neighbours
from kaizen.evaluation.statistics import estimate
from kaizen.params import EvaluationParams
from kaizen.params.validation import validate
from kaizen.ssl.dino import self_distillation
from kaizen.ssl.mocov2plus import info_nce
from kaizen.ssl.nnclr import neighbour_info_nce
from kaizen.ssl.simclr import nt_xent
from kaizen.ssl.swav import sinkhorn, swapped_prediction
from kaizen.ssl.vicreg import vicreg
from kaizen.training.optim import SGD, ParameterGroup
from kaizen.views.crop import gaussian_weights, sample_boxes

TEMPERATURES = (1e-30, 1e-10, 1e-4, 0.01, 0.5, 1e3, 1e6, 1e30)


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=1, keepdims=True)
    found: np.ndarray = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return found


def _unit(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = x / np.linalg.norm(x, axis=1, keepdims=True)
    return found


# -- kNN: every temperature above 0 has a right answer ----------------------------------------


@pytest.mark.parametrize("temperature", [5e-324, 1e-40, 1e-6, 0.001, 0.0112, 0.07, 1e4, 1e300])
def test_nearest_neighbours_vote_rightly_under_any_temperature(temperature: float) -> None:
    centres = _random(0, 5, 6)
    labels = torch.arange(200) % 5
    train, test = centres[labels] + _random(1, 200, 6), centres[labels] + _random(2, 200, 6)
    params = EvaluationParams(knn_k=9, knn_temperature=temperature)
    found = nearest_neighbours(train.float(), labels, test.float(), 5, params).tolist()
    bank, rows = _unit(train.numpy()), _unit(test.numpy())
    expected = []
    for row in rows:
        similarity = bank @ row
        nearest = np.argsort(-similarity)[:9]
        with np.errstate(over="ignore"):
            weights = np.exp((similarity[nearest] - similarity[nearest[0]]) / temperature)
        votes = [weights[labels.numpy()[nearest] == label].sum() for label in range(5)]
        expected.append(int(np.argmax(votes)))
    assert found == expected
    assert len(set(found)) == 5, "not the lowest class everywhere"


# -- losses under temperatures ----------------------------------------------------------------


def _plain_nt_xent(a: np.ndarray, b: np.ndarray, temperature: float) -> float:
    z = _unit(np.concatenate([a, b]))
    logits = z @ z.T / temperature
    np.fill_diagonal(logits, -np.inf)
    rows = np.arange(len(z))
    return float(-_log_softmax(logits)[rows, np.roll(rows, len(a))].mean())


def _plain_matching(queries: np.ndarray, keys: np.ndarray, temperature: float) -> float:
    """Cross-entropy of row i of the cosines against column i."""
    return float(-np.diag(_log_softmax(_unit(queries) @ _unit(keys).T / temperature)).mean())


def _plain_neighbours(a: np.ndarray, b: np.ndarray, temperature: float) -> float:
    return _plain_matching(b, a, temperature)


def _plain_contrastive(a: np.ndarray, b: np.ndarray, temperature: float) -> float:
    there, back = _plain_matching(a, b, temperature), _plain_matching(b, a, temperature)
    return (there + back) / 2


def _plain_queue(a: np.ndarray, b: np.ndarray, temperature: float) -> float:
    """The first four keys are the queries' own, the others are in the queue of each."""
    q, k = _unit(a[:4]), _unit(b)
    logits = np.stack([[q[i] @ k[i], *(q[i] @ k[4:].T)] for i in range(4)]) / temperature
    return float(-_log_softmax(logits)[:, 0].mean())


def _plain_swapped(a: np.ndarray, b: np.ndarray, temperature: float) -> float:
    first, second = (
        -(np.exp(_log_softmax(other)) * _log_softmax(own / temperature)).sum(axis=1).mean()
        for own, other in ((a, b), (b, a))
    )
    return float(first + second) / 2


def _plain_teacher(a: np.ndarray, b: np.ndarray, temperature: float) -> float:
    first, second = (
        -(np.exp(_log_softmax(t / temperature)) * _log_softmax(s / 0.1)).sum(axis=1).mean()
        for s, t in ((a, b), (b, a))
    )
    return float(first + second) / 2


LOSSES: dict[str, tuple[Callable[..., Tensor], Callable[..., float]]] = {
    "nt_xent": (nt_xent, _plain_nt_xent),
    "nnclr": (lambda a, b, t: neighbour_info_nce(b, a, t), _plain_neighbours),
    "contrastive": (
        lambda a, b, t: contrastive_distillation(a[:4], a[4:], b[:4], b[4:], t),
        _plain_contrastive,
    ),
    "moco": (
        lambda a, b, t: info_nce(
            F.normalize(a[:4], dim=1), F.normalize(b[:4], dim=1), F.normalize(b[4:], dim=1).T, t
        ),
        _plain_queue,
    ),
    "swav": (
        lambda a, b, t: swapped_prediction(
            (a, b), (a.detach().softmax(dim=1), b.softmax(dim=1)), t
        ),
        _plain_swapped,
    ),
    "dino student": (
        lambda a, b, t: self_distillation((a, b), (a, b), torch.zeros(5), t, 1.0),
        _plain_swapped,
    ),
    "dino teacher": (
        lambda a, b, t: self_distillation((a, b), (a, b), torch.zeros(5), 0.1, t),
        _plain_teacher,
    ),
}  # fmt: skip


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_under_extreme_temperatures(name: str, temperature: float) -> None:
    ours, plain = LOSSES[name]
    a, b = _random(3, 8, 5), _random(4, 8, 5)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        row = a.to(dtype, copy=True).requires_grad_()
        loss = ours(row, b.to(dtype), temperature)
        loss.backward()
        tolerance = 1e-3 if dtype == torch.float32 else 1e-9
        expected = plain(a.numpy(), b.numpy(), temperature)
        assert loss.item() == pytest.approx(expected, rel=tolerance, abs=tolerance)
        assert row.grad is not None
        gradients.append(row.grad.double())
    # Relative to the largest, as at 1e-30 all gradients are that large and at 1e30 that small.
    scale = gradients[1].abs().max()
    if scale > 0:
        torch.testing.assert_close(gradients[0] / scale, gradients[1] / scale, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("temperature", [1e-30, 1e-20, 1e-3, 2.0, 1e3, 1e6, 1e9])
def test_soft_labels_under_extreme_temperatures(temperature: float) -> None:
    student, teacher = _random(5, 6, 4), _random(6, 6, 4)
    row = student.float().requires_grad_()
    loss = soft_label_distillation([row, row], [teacher.float()] * 2, temperature)
    loss.backward()
    assert loss.dtype == torch.float32
    s, t = student.float().double().numpy(), teacher.float().double().numpy()
    p_t = np.exp(_log_softmax(t / temperature))
    expected = -(p_t * _log_softmax(s / temperature)).sum(axis=1).mean() * temperature**2
    assert loss.item() == pytest.approx(float(expected), rel=1e-5, abs=0)
    # d/ds T^2 CE = T (softmax(s/T) - softmax(t/T)) / N, which for high T is (s - t - mean) / (K N).
    if temperature >= 1e3:
        gap = s - t
        expected_gradient = (gap - gap.mean(axis=1, keepdims=True)) / 4 / 6
        tolerance = 1e-5 + 5 / temperature
    else:
        expected_gradient = temperature * (np.exp(_log_softmax(s / temperature)) - p_t) / 6
        tolerance = 1e-5
    assert row.grad is not None
    scale = np.abs(expected_gradient).max()
    np.testing.assert_allclose(row.grad / scale, expected_gradient / scale, atol=tolerance)


def test_temperatures_without_a_right_value_are_refused() -> None:
    for place, value in (
        ("ssl: {simclr: {temperature: %s}}", 1e-40),
        ("ssl: {mocov2plus: {temperature: %s}}", 1e31),
        ("ssl: {swav: {sinkhorn_epsilon: %s}}", 1e-40),
        ("ssl: {dino: {teacher_temperature: %s}}", 1e-40),
        ("distill: {feature: {contrastive: {temperature: %s}}}", 1e-40),
        ("distill: {classifier: {temperature: %s}}", 1e10),
    ):
        path = place.replace("{", "").replace("}", "").replace(": %s", "").replace(": ", ".")
        values: object = value
        for part in reversed(path.split(".")):
            values = {part: values}
        with pytest.raises(KaizenError, match=path):
            validate(values)  # type: ignore[arg-type]
    assert validate({"evaluation": {"knn_temperature": 1e-40}}).evaluation.knn_temperature == 1e-40


@pytest.mark.parametrize("epsilon", [1e-30, 1e-3, 0.05, 1e3, 1e30])
def test_sinkhorn_under_extreme_sharpness(epsilon: float) -> None:
    scores = _random(7, 6, 4)
    log = scores.numpy() / epsilon
    for _ in range(3):
        log = _log_softmax(_log_softmax(log.T).T)
    tolerance = 2e-3 if epsilon < 0.01 else 1e-5
    found = sinkhorn(scores.float(), epsilon, 3).numpy()
    np.testing.assert_allclose(found, np.exp(log), atol=tolerance)


def test_sinkhorn_with_rows_of_zeros() -> None:
    """SwAV's queue before it is full: such rows weigh on all prototypes alike."""
    scores = torch.cat([_random(8, 3, 4), torch.zeros(5, 4, dtype=torch.float64)])
    q = np.exp(scores.numpy() / 0.5)
    for _ in range(3):
        q = q / q.sum(axis=0)
        q = q / q.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(sinkhorn(scores, 0.5, 3).numpy(), q, rtol=1e-9)


def test_an_empty_queue_costs_moco_what_orthogonal_negatives_do() -> None:
    q = F.normalize(_random(9, 3, 4).float(), dim=1)
    loss = info_nce(q, q, torch.zeros(4, 7), 0.2).item()
    assert loss == pytest.approx(-math.log(math.exp(5) / (math.exp(5) + 7)), rel=1e-5)


# -- batches of two, zero norms, tiny widths --------------------------------------------------


@pytest.mark.parametrize("n", [2, 3])
def test_vicreg_of_the_smallest_batches(n: int) -> None:
    views = [_random(10, n, 4).numpy(), _random(11, n, 4).numpy()]
    expected = 25 * ((views[0] - views[1]) ** 2).mean()
    for z in views:
        covariance = np.cov(z, rowvar=False)
        expected += 25 * np.maximum(0, 1 - np.sqrt(np.diag(covariance) + 1e-4)).mean()
        expected += (covariance**2).sum() / 4 - (np.diag(covariance) ** 2).sum() / 4
    loss = vicreg(torch.from_numpy(views[0]), torch.from_numpy(views[1]), 25, 25, 1).item()
    assert loss == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(
    ("weight", "gradient", "lr", "expected"),
    [
        (0.0, 1.0, 0.1, -0.1),  # |p| = 0: no scaling, no decay
        (1.0, 0.0, 0.1, 1.0),  # |g| = 0: no decay
        (0.0, 0.0, 0.1, 0.0),
        (1.0, 1.0, 0.0, 1.0),  # warm-up from 0
        (1e-15, 1.0, 0.1, 1e-15 - 0.1 * (0.02 * 2e-15 / 2 / 0.1)),
        (1.0, 1e-15, 0.1, 1.0 - 0.1 * 0.1 * 1.0),  # q / lr = 0.02 / 0.1 / 0.1 clipped to 1
    ],
)
def test_lars_of_zero_and_tiny_norms(
    weight: float, gradient: float, lr: float, expected: float
) -> None:
    parameter = nn.Parameter(torch.full((2, 2), weight))
    parameter.grad = torch.full((2, 2), gradient)
    group = ParameterGroup("encoder", [("w", parameter)], lr, 0.1)
    SGD([group], 0.0, True, 0.02).step({"encoder": lr})
    torch.testing.assert_close(parameter.detach(), torch.full((2, 2), expected), rtol=1e-4, atol=0)


def test_blur_of_a_tiny_sigma_changes_nothing() -> None:
    for sigma in (1e-38, 1e-30, 1e-10, 1e-3):
        assert torch.equal(gaussian_weights(torch.tensor([sigma]), 5, 8)[0], torch.eye(5)), sigma


def test_crops_of_any_ratio() -> None:
    uniforms = torch.rand(50, 22, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # Nearly all candidates are too thin for the image; those that are left keep to the range.
    boxes = sample_boxes(uniforms, 32, 32, [0.5, 1.0], [1e-200, 1e200])
    assert (boxes[:, 2:] >= 1).all() and (boxes[:, :2] + boxes[:, 2:] <= 32).all()
    # The same formula in plain Python.
    u = uniforms.numpy()
    for row, box in zip(u, boxes.tolist(), strict=True):
        expected = [0, 0, 32, 32]
        for i in range(10):
            area = (row[i] * 0.5 + 0.5) * 1024
            ratio = math.exp((2 * row[10 + i] - 1) * 200 * math.log(10))
            height, width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 1 <= height <= 32 and 1 <= width <= 32:
                top, left = (
                    int((32 - s + 1) * p) for s, p in ((height, row[20]), (width, row[21]))
                )
                expected = [top, left, height, width]
                break
        assert box == expected


# -- readers and statistics -------------------------------------------------------------------


def test_a_constant_feature_does_not_sway_the_probe() -> None:
    labels = torch.arange(300) % 3
    train = (_random(12, 3, 4)[labels] + 0.3 * _random(13, 300, 4)).float()
    test = (_random(12, 3, 4)[labels] + 0.3 * _random(14, 300, 4)).float()
    alone = linear_probe(train, labels, test, EvaluationParams())
    # Its float32 mean is not itself; test rows have another value.
    constant = torch.full((300, 1), 1234.567)
    assert constant.mean(dim=0) != constant[0, 0]
    found = linear_probe(
        torch.cat([train, constant], dim=1),
        labels,
        torch.cat([test, constant + torch.arange(300)[:, None]], dim=1),
        EvaluationParams(),
    )
    assert torch.equal(found, alone)


def test_a_probe_and_neighbours_of_one_row() -> None:
    one, test = torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0, -1.0], [0.0, 0.0]])
    assert linear_probe(one, torch.tensor([3]), test, EvaluationParams()).tolist() == [3, 3]
    assert (
        nearest_neighbours(one, torch.tensor([3]), test, 5, EvaluationParams()).tolist() == [3] * 2
    )


def test_the_statistics_of_one_value_and_of_equal_values() -> None:
    assert estimate([0.5]) == estimate([0.5, None])
    assert (estimate([0.5]).mean, estimate([0.5]).interval) == (0.5, None)
    equal = estimate([0.1] * 3)
    assert equal.mean == pytest.approx(0.1) and equal.interval == 0.0
    assert estimate([None]).mean is None
