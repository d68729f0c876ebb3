"""kaizen.evaluation.statistics against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from kaizen.evaluation import statistics


@pytest.mark.parametrize("df", [1, 2, 3, 9, 10, 11, 12, 20, 30, 31, 100, 10_000])
def test_t_quantile_is_scipys(df: int) -> None:
    assert statistics.t_quantile(df) == pytest.approx(stats.t.ppf(0.975, df), rel=2e-5)


def test_t_quantile_refuses_no_freedom() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        statistics.t_quantile(0)


def test_estimate() -> None:
    values = [0.5, 0.6, 0.8]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    found = statistics.estimate([*values, None])
    assert found.n == 3
    assert found.mean is not None and found.interval is not None
    assert (found.mean - found.interval, found.mean + found.interval) == pytest.approx(
        (low, high), rel=1e-6
    )
    assert statistics.estimate([0.4, None]) == statistics.Estimate(0.4, None, 1)
    assert statistics.estimate([None]) == statistics.Estimate(None, None, 0)


def test_differences_are_paired_by_seed() -> None:
    of_a = {3: 0.9, 0: 0.5, 1: 0.6, 7: 0.1}
    b = {0: 0.45, 1: 0.5, 3: 0.92, 5: 0.3, 8: 0.2}
    pairs = ([of_a[seed] for seed in (0, 1, 3)], [b[seed] for seed in (0, 1, 3)])
    a: dict[int, float | None] = {**of_a, 8: None}
    found = statistics.paired_difference(a, b)
    interval = stats.ttest_rel(*pairs).confidence_interval(0.95)
    assert (found.n, found.better) == (3, 2)
    assert found.mean is not None and found.interval is not None
    assert found.mean == pytest.approx(np.mean(pairs[0]) - np.mean(pairs[1]))
    assert (found.mean - found.interval, found.mean + found.interval) == pytest.approx(
        tuple(interval), rel=1e-6
    )
    assert statistics.paired_difference(a, b, lower_is_better=True).better == 1
    other = statistics.paired_difference(b, a)
    assert (other.mean, other.interval, other.better) == pytest.approx(
        (-found.mean, found.interval, 1)
    )


def test_one_pair_has_no_interval_no_pair_no_mean_and_a_tie_no_winner() -> None:
    one = statistics.paired_difference({0: 0.5, 1: 0.9}, {0: 0.25, 2: 0.1})
    assert one == statistics.Difference(0.25, None, 1, 1)
    assert statistics.paired_difference({0: 0.5}, {1: 0.5}) == statistics.Difference(
        None, None, 0, 0
    )
    tie = statistics.paired_difference({0: 0.1 + 0.2}, {0: 0.3})
    assert (tie.n, tie.better, statistics.paired_difference({0: 0.3}, {0: 0.1 + 0.2}).better) == (
        1,
        0,
        0,
    )
