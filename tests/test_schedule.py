"""The learning rate schedule against the golden numbers and its corner cases."""

from __future__ import annotations

import pytest
from conftest import golden_reference

from kaizen.params import TrainParams
from kaizen.training.schedule import (
    Schedule,
    learning_rate,
    scaled_lr,
    static_rate,
    view_size,
)


def _rates(
    epochs: int, warmup: int, base: float = 1.0, start: float = 0.003, minimum: float = 0.0
) -> list[float]:
    return [
        learning_rate(e, base, epochs, warmup_epochs=warmup, warmup_start=start, minimum=minimum)
        for e in range(epochs)
    ]


def test_golden() -> None:
    golden = golden_reference("learning_rate_per_epoch")
    config = golden["config"]
    rates = _rates(
        config["max_epochs"],
        config["warmup_epochs"],
        config["base_lr"],
        config["warmup_start_lr"],
        config["min_lr"],
    )
    assert len(golden["values"]) == len(rates)
    assert rates == pytest.approx(golden["values"], rel=1e-6, abs=0)


def test_recursion_of_the_cosine() -> None:
    """The closed form equals the recursive one: a rate from the one before it, as schedulers
    step.
    """
    rates = _rates(30, 5, base=0.8, start=0.01, minimum=0.05)
    assert rates[:6] == pytest.approx([0.01, 0.2075, 0.405, 0.6025, 0.8, 0.8])
    from math import cos, pi

    rate = rates[5]
    for epoch in range(6, 30):
        rate = (1 + cos(pi * (epoch - 5) / 25)) / (1 + cos(pi * (epoch - 6) / 25)) * (
            rate - 0.05
        ) + 0.05
        assert rates[epoch] == pytest.approx(rate, rel=1e-9)


def test_no_warm_up_starts_at_the_base_rate() -> None:
    rates = _rates(4, 0)
    assert rates == pytest.approx([1.0, 0.8535533906, 0.5, 0.1464466094])


def test_one_warm_up_epoch() -> None:
    assert _rates(3, 1) == pytest.approx([0.003, 1.0, 0.5])


@pytest.mark.parametrize(("warmup", "last"), [(4, 1.0), (7, 0.003 + 3 * 0.997 / 6)])
def test_warm_up_as_long_as_the_run_or_longer(warmup: int, last: float) -> None:
    rates = _rates(4, warmup)
    assert rates[0] == 0.003
    assert rates[-1] == pytest.approx(last)
    assert rates == sorted(rates)


def test_a_run_of_one_epoch() -> None:
    assert _rates(1, 0) == [1.0]
    assert _rates(1, 1) == [0.003]


def test_rates_stay_between_their_bounds() -> None:
    rates = _rates(50, 10, base=0.4, start=0.003, minimum=0.01)
    assert max(rates) == pytest.approx(0.4)
    assert min(rates[10:]) > 0.01
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_scaling_by_batch_size() -> None:
    assert scaled_lr(1.0, 256) == 1.0
    assert scaled_lr(0.3, 64) == pytest.approx(0.075)


def test_a_static_rate_starts_low_for_one_epoch_where_there_is_a_warm_up() -> None:
    """The reference's SimSiam predictor, and without the switch."""
    assert [static_rate(epoch, 0.5, 10, 0.003) for epoch in range(4)] == [0.003, 0.5, 0.5, 0.5]
    assert [static_rate(epoch, 0.5, 0, 0.003) for epoch in range(4)] == [0.5] * 4


@pytest.mark.parametrize(
    ("size", "start", "full_from", "sizes"),
    [
        (16, 1.0, 0.75, [16] * 8),
        (16, 0.5, 0.0, [16] * 8),
        (16, 0.5, 0.5, [8, 8, 12, 16, 16, 16, 16, 16]),
        (32, 0.5, 1.0, [16, 16, 20, 24, 24, 24, 28, 32]),
        (32, 0.5, 0.75, [16, 20, 20, 24, 28, 28, 32, 32]),
        # Neither a view of nothing nor one larger than the network's input.
        (6, 0.1, 1.0, [4, 4, 4, 4, 4, 4, 4, 4]),
        (5, 0.9, 1.0, [4, 4, 4, 4, 4, 4, 4, 4]),
        (30, 0.97, 0.75, [28, 28, 28, 28, 28, 28, 30, 30]),
    ],
)
def test_views_grow_to_their_full_size(
    size: int, start: float, full_from: float, sizes: list[int]
) -> None:
    found = [view_size(e, 8, size, start=start, full_from=full_from) for e in range(8)]
    assert found == sizes


def test_a_step_s_epochs_follow_its_parameters() -> None:
    train = TrainParams(
        epochs=8, warmup_epochs=2, warmup_start_lr=0.003, min_lr=0.1, start_size=0.5,
        full_size_from=0.5,
    )  # fmt: skip
    plain = Schedule(train)
    rates = [plain.rate(epoch, 0.8, static=False) for epoch in range(8)]
    assert rates == _rates(8, 2, base=0.8, start=0.003, minimum=0.1)
    assert [plain.view_size(epoch, 16) for epoch in range(8)] == [8, 8, 12, 16, 16, 16, 16, 16]
    assert [plain.rate(epoch, 0.8, static=True) for epoch in range(3)] == [0.8] * 3
    reference = Schedule(train, static_warmup=True)
    assert [reference.rate(epoch, 0.8, static=True) for epoch in range(3)] == [0.003, 0.8, 0.8]
    assert [reference.rate(epoch, 0.8, static=False) for epoch in range(8)] == rates
