"""kaizen.heads: analytic heads against plain computations on the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from kaizen.evaluation.results import READERS
from kaizen.heads import lda, ncm, ridge
from kaizen.heads.base import LinearHead
from kaizen.heads.drift import DriftMap, PairMoments, fit_drift
from kaizen.heads.expansion import expanded, random_projection
from kaizen.heads.kinds import solve_heads
from kaizen.heads.spectrum import GRID, Spectrum, generalised_cross_validation
from kaizen.heads.statistics import ClassStatistics
from kaizen.params import registry
from kaizen.report.series import HEAD_SHORT, READER_LABELS

KINDS = {name: registry.load(target) for name, target in registry.ANALYTIC_HEADS.items()}
BOTH = pytest.mark.parametrize("per_class", [False, True])


def made_rows(
    classes: list[int], each: int = 30, size: int = 6, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Rows float32 [N, size] about a mean of each class, with a common covariance, and labels."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(size, size))
    labels = np.repeat(classes, each)
    means = np.random.default_rng(7).normal(size=(100, size)) * 3
    rows = means[labels] + rng.normal(size=(len(labels), size)) @ mixing + 5
    return torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(labels)


def same(one: ClassStatistics, other: ClassStatistics, tolerance: float = 1e-9) -> None:
    """Assert that two statistics are equal but for rounding."""
    assert one.classes.tolist() == other.classes.tolist()
    assert one.counts.tolist() == other.counts.tolist()
    for name in ("means", "scatter"):
        first, second = getattr(one, name), getattr(other, name)
        assert first.dtype == torch.float64
        assert torch.allclose(first, second, rtol=tolerance, atol=tolerance), name


@BOTH
def test_statistics_are_those_of_numpy(per_class: bool) -> None:
    rows, labels = made_rows([4, 1, 9])
    found = ClassStatistics.of(rows, labels, per_class)
    assert found.classes.tolist() == [1, 4, 9]
    x, y = rows.double().numpy(), labels.numpy()
    for place, label in enumerate([1, 4, 9]):
        np.testing.assert_allclose(found.means[place], x[y == label].mean(0))
    scatters = [np.cov(x[y == label].T, ddof=0) * 30 for label in [1, 4, 9]]
    np.testing.assert_allclose(found.scatter, scatters if per_class else sum(scatters))
    np.testing.assert_allclose(found.covariance(), sum(scatters) / (90 - 3))
    assert found.rows == 90


@BOTH
def test_statistics_added_are_those_of_all_rows_at_once(per_class: bool) -> None:
    """In any order, with a class that comes back and portions without a row."""
    rows, labels = made_rows([0, 1, 2, 3])
    whole = ClassStatistics.of(rows, labels, per_class)
    order = torch.from_numpy(np.random.default_rng(1).permutation(len(rows)))
    for places in (order, order.flip(0)):
        added = ClassStatistics.empty(6, per_class)
        for part in (places[:5], places[5:5], places[5:60], places[60:]):
            added = added.add(ClassStatistics.of(rows[part], labels[part], per_class))
        same(added, whole)


def test_a_far_mean_takes_no_digits_from_the_scatter() -> None:
    rows, labels = made_rows([0, 1])
    near = ClassStatistics.of(rows.double(), labels)
    far = ClassStatistics.of(rows.double() + 1e6, labels)
    assert torch.allclose(near.scatter, far.scatter, rtol=1e-6)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("penalty", [0.0, 0.1])
def test_a_map_is_that_of_least_squares(affine: bool, penalty: float) -> None:
    """Of numpy.linalg.lstsq with the penalty as further rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5)) + 2
    y = x @ rng.normal(size=(5, 5)) + 3 + rng.normal(size=(200, 5))
    moments = PairMoments.of(torch.from_numpy(x), torch.from_numpy(y))
    found = fit_drift(moments, affine=affine, ridge=penalty)
    mean_x, mean_y = (x.mean(0), y.mean(0)) if affine else (np.zeros(5), np.zeros(5))
    inputs, targets = x - mean_x, y - mean_y
    weight = (penalty * (inputs**2).mean() * len(x)) ** 0.5 * np.eye(5)
    candidates = [
        np.linalg.lstsq(np.vstack([inputs, weight]), np.vstack([targets, c * weight]), None)[0].T
        for c in (0, 1)
    ]
    near = [np.allclose(found.weight, one, atol=1e-9) for one in candidates]
    assert any(near) if penalty else all(near)
    np.testing.assert_allclose(found.offset, mean_y - found.weight.numpy() @ mean_x, atol=1e-9)
    assert affine == bool(found.offset.abs().max() > 0)
    left = targets - inputs @ found.weight.numpy().T
    assert found.residual is not None
    scale = np.trace(found.residual.numpy()) / np.trace(left.T @ left / len(x))
    np.testing.assert_allclose(found.residual, left.T @ left / len(x) * scale, atol=1e-9)
    assert 200 / 200 < scale <= 200 / (200 - 6) + 1e-9
    variance = ((y - y.mean(0)) ** 2).sum()
    assert found.r2 == pytest.approx(1 - (left**2).sum() / variance)
    assert fit_drift(moments, affine=affine, residual=False).residual is None


def test_moments_added_are_those_of_all_images_at_once() -> None:
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.normal(size=(50, 4)) + 9) for _ in range(2))
    added = PairMoments.empty(4).add(PairMoments.empty(4))
    for part in (slice(0, 1), slice(1, 30), slice(30, 50)):
        added = added.add(PairMoments.of(x[part], y[part]))
    whole = PairMoments.of(x, y)
    assert added.rows == whole.rows == 50
    for name in ("mean_x", "mean_y", "xx", "xy", "yy"):
        assert torch.allclose(getattr(added, name), getattr(whole, name), atol=1e-9), name
    np.testing.assert_allclose(whole.about_zero().xy, x.T @ y)


def test_the_penalty_of_least_error_is_that_of_leave_one_out_in_the_mean() -> None:
    """GCV against its definition on the rows: the residuals over the mean of 1 - h_ii."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 8))
    y = x[:, :2] + rng.normal(size=(40, 2))
    x, y = x - x.mean(0), y - y.mean(0)
    error = generalised_cross_validation(
        Spectrum.of(torch.from_numpy(x.T @ x / 40)),
        torch.from_numpy(x.T @ y / 40),
        (y**2).sum() / 40,
        40,
    )
    for added in (1e-3, 0.1, 3.0):
        hat = x @ np.linalg.solve(x.T @ x + 40 * added * np.eye(8), x.T)
        expected = ((y - hat @ y) ** 2).sum() / 40 / (1 - (np.trace(hat) + 1) / 40) ** 2
        assert error(added) == pytest.approx(expected)
    assert error(0.0) == float("inf")


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("given", [None, 1e-3])
@pytest.mark.parametrize("images", [200, 4, 1, 0])
@BOTH
def test_an_encoder_that_does_not_move_leaves_the_statistics_as_they_are(
    images: int, given: float | None, affine: bool, per_class: bool
) -> None:
    """Also from fewer images than features, from one, and from none."""
    rows, labels = made_rows([0, 1, 2])
    before = ClassStatistics.of(rows, labels, per_class)
    seen, _ = made_rows([7], each=images, seed=3)
    moments = PairMoments.of(seen, seen) if images else PairMoments.empty(6)
    drift = fit_drift(moments, affine=affine, ridge=given)
    same(before.mapped(drift), before, 1e-12)
    assert drift.r2 == 1


@BOTH
def test_mapped_statistics_are_those_of_mapped_rows(per_class: bool) -> None:
    rows, labels = made_rows([0, 1, 2])
    rng = np.random.default_rng(5)
    weight, offset = torch.from_numpy(rng.normal(size=(6, 6))), torch.from_numpy(rng.normal(size=6))
    drift = DriftMap(weight, offset, None, 0.0, 1.0, 1.0)
    mapped = ClassStatistics.of(rows, labels, per_class).mapped(drift)
    same(mapped, ClassStatistics.of(drift(rows.double()), labels, per_class))
    residual = torch.diag(torch.arange(1, 7).double())
    wider = ClassStatistics.of(rows, labels, per_class).mapped(
        DriftMap(weight, offset, residual, 0.0, 1.0, 1.0)
    )
    added = wider.scatter - mapped.scatter
    expected = residual * (30 if per_class else 90)
    assert torch.allclose(added, expected.expand_as(added))


def test_what_the_map_leaves_over_keeps_old_classes_as_wide_as_they_are() -> None:
    """A residual covariance makes up for the noise that a map cannot follow."""
    generator = torch.Generator().manual_seed(0)
    old, new = (torch.randn(4000, 5, generator=generator).double() for _ in range(2))
    moved = torch.zeros(4000, dtype=torch.int64)
    moments = PairMoments.of(old[2000:], (old + new)[2000:])
    before = ClassStatistics.of(old[:2000], moved[:2000])
    true = ClassStatistics.of((old + new)[:2000], moved[:2000]).covariance().trace()
    without, with_rest = (
        before.mapped(fit_drift(moments, residual=residual)).covariance().trace()
        for residual in (False, True)
    )
    assert without < 0.6 * true
    assert with_rest == pytest.approx(true.item(), rel=0.06)


def solved(
    kind: str, rows: Tensor, labels: Tensor, given: float | None = None, per_class: bool = False
) -> LinearHead:
    """A head of ``kind`` of all rows at once."""
    statistics = ClassStatistics.of(rows, labels, per_class)
    return solve_heads([kind], statistics, statistics, given)[kind]


def test_ncm_is_the_nearest_mean() -> None:
    rows, labels = made_rows([3, 8, 5])
    means = torch.stack([rows[labels == label].double().mean(0) for label in (3, 5, 8)])
    nearest = torch.tensor([3, 5, 8])[torch.cdist(rows.double(), means).argmin(1)]
    assert solved("ncm", rows, labels).predict(rows).tolist() == nearest.tolist()


@BOTH
def test_lda_is_the_class_of_the_nearest_mean_in_the_inverse_covariance(per_class: bool) -> None:
    rows, labels = made_rows([3, 8, 5])
    x, y = rows.double().numpy(), labels.numpy()
    means = np.stack([x[y == label].mean(0) for label in (3, 5, 8)])
    rest = x - means[np.searchsorted([3, 5, 8], y)]
    covariance = rest.T @ rest / (90 - 3)
    covariance = 0.8 * covariance + 0.2 * np.trace(covariance) / 6 * np.eye(6)
    apart = x[:, None] - means
    distance = np.einsum("nkd,de,nke->nk", apart, np.linalg.inv(covariance), apart)
    expected = np.array([3, 5, 8])[distance.argmin(1)]
    head = solved("lda", rows, labels, 0.2, per_class)
    assert head.predict(rows).tolist() == expected.tolist()
    assert head.shrinkage == 0.2
    assert head.condition == pytest.approx(np.linalg.cond(covariance))


def test_ridge_is_least_squares_on_one_hot_targets() -> None:
    rows, labels = made_rows([3, 8, 5])
    x = rows.double().numpy()
    targets = (labels.numpy()[:, None] == [3, 5, 8]).astype(float)
    inputs = np.hstack([x, np.ones((90, 1))])
    expected = inputs @ np.linalg.lstsq(inputs, targets, None)[0]
    head = solved("ridge", rows, labels, 0.0)
    scores = rows.double() @ head.weight.T + head.bias
    np.testing.assert_allclose(scores, expected, atol=1e-9)


def test_a_class_counts_as_much_as_one_with_more_rows() -> None:
    """Ridge weighs classes alike: three times the rows of one class change no score."""
    rows, labels = made_rows([0, 1, 2], each=40)
    many = torch.cat([rows, rows[labels == 1], rows[labels == 1]])
    more = torch.cat([labels, labels[labels == 1], labels[labels == 1]])
    for kind in ("ncm", "ridge"):
        one = solved(kind, rows, labels, 0.1, per_class=True)
        other = solved(kind, many, more, 0.1, per_class=True)
        assert torch.allclose(one.weight, other.weight), kind
        assert torch.allclose(one.bias, other.bias), kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [None, 0.0, 1.0])
@pytest.mark.parametrize(("each", "size"), [(1, 6), (2, 6), (3, 50), (1, 50), (30, 6)])
@BOTH
def test_few_images_give_a_head_that_still_tells_classes_apart(
    kind: str, given: float | None, each: int, size: int, per_class: bool
) -> None:
    """One image a class, more features than images, and a shrinkage of none or all."""
    rows, labels = made_rows([0, 1, 2], each=each, size=size)
    head = solved(kind, rows, labels, given, per_class)
    assert head.weight.isfinite().all()
    assert head.bias.isfinite().all()
    assert head.condition is None or 1 <= head.condition < 1e16
    assert (head.predict(rows) == labels).double().mean() >= 0.6
    if each == 1:
        assert head.predict(rows).tolist() == labels.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_one_class_is_predicted_alone(kind: str) -> None:
    rows, labels = made_rows([6], each=1)
    assert solved(kind, rows, labels).predict(rows).tolist() == [6]
    none = ClassStatistics.empty(6)
    with pytest.raises(ValueError, match="without a class"):
        solve_heads([kind], none, none)[kind].predict(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_classes_and_rows_does_not_matter(kind: str) -> None:
    rows, labels = made_rows([0, 1, 2, 3])
    order = torch.from_numpy(np.random.default_rng(2).permutation(len(rows)))
    one, other = solved(kind, rows, labels), solved(kind, rows[order], labels[order])
    assert one.predict(rows).tolist() == other.predict(rows).tolist()
    assert torch.allclose(one.weight, other.weight)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_is_the_same_to_the_bit_when_made_again(kind: str) -> None:
    rows, labels = made_rows([0, 1, 2, 3])
    one, other = solved(kind, rows, labels), solved(kind, rows.clone(), labels.clone())
    assert torch.equal(one.weight, other.weight)
    assert torch.equal(one.bias, other.bias)
    assert one.shrinkage == other.shrinkage


@pytest.mark.parametrize("kind", ["lda", "ridge"])
def test_shrinkage_is_chosen_by_the_current_task_alone(kind: str) -> None:
    """Of a task without labels, or of one image a class, from what all classes have."""
    rows, labels = made_rows([0, 1, 2, 3], each=8)
    few, few_labels = made_rows([4, 5], each=8, seed=4)
    whole = ClassStatistics.of(rows, labels)
    current = ClassStatistics.of(few * 3, few_labels)
    together = whole.add(current)
    chosen = KINDS[kind](together, current, None).shrinkage
    assert chosen == KINDS[kind](current, current, None).shrinkage
    alone = KINDS[kind](whole, ClassStatistics.empty(6), None).shrinkage
    assert alone == KINDS[kind](whole, whole, None).shrinkage


def test_oas_is_its_formula_and_falls_with_the_number_of_rows() -> None:
    covariance = torch.diag(torch.tensor([3.0, 1.0, 0.5, 0.5]).double())
    squares, trace, size, rows = 10.5, 5.0, 4, 50
    expected = ((1 - 2 / size) * squares + trace**2) / (
        (rows + 1 - 2 / size) * (squares - trace**2 / size)
    )
    assert lda.oas(covariance, rows) == pytest.approx(expected)
    assert lda.oas(covariance, 5000) < lda.oas(covariance, 50) < lda.oas(covariance, 10)
    assert lda.oas(torch.zeros(4, 4).double(), 50) == 1
    assert lda.oas(covariance, 0) == 1


def test_a_penalty_that_is_chosen_is_one_of_the_grid() -> None:
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.normal(size=(30, 4))) for _ in range(2))
    # Unrelated features: the largest penalty is the best.
    assert fit_drift(PairMoments.of(x, y)).ridge in GRID[-3:]
    assert fit_drift(PairMoments.of(x, 2 * x)).ridge == GRID[0]


def test_random_features_are_those_of_their_seed() -> None:
    rows, labels = made_rows([0, 1, 2])
    one, again, other = (random_projection(6, 40, seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    found = expanded(rows, one)
    np.testing.assert_allclose(found, np.maximum(rows.double().numpy() @ one.double().numpy(), 0))
    assert expanded(rows, None).dtype == torch.float64
    head = solved("ridge", found, labels)
    assert (head.predict(found) == labels).double().mean() > 0.9


def test_the_kinds_are_those_of_the_registry() -> None:
    assert {"ncm": ncm.solve, "lda": lda.solve, "ridge": ridge.solve} == KINDS


def test_every_head_has_a_label_and_a_colour() -> None:
    assert set(READER_LABELS) == set(READERS)
    assert set(HEAD_SHORT) == {"classifier", *KINDS}
