"""kaizen.evaluation.metrics against figures worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from kaizen.errors import KaizenError
from kaizen.evaluation import metrics
from kaizen.evaluation.confusion import Counts
from kaizen.evaluation.results import Reference, RunResult
from kaizen.plan.point import Point

# Three tasks. Task 2 (the second) is lost completely at the last step, task 1 in parts.
A = [
    [0.9, 0.0, 0.0],
    [0.6, 0.8, 0.0],
    [0.5, 0.2, 1.0],
]
# A probe on all tasks, which knows unseen tasks too, and task 2 best before learning it.
P = [
    [0.8, 0.7, 0.3],
    [0.7, 0.6, 0.4],
    [0.9, 0.5, 0.8],
]
SPECIALISTS = [0.95, 0.9, 0.9]
RANDOM = [0.5, 0.4, 0.1]


def run(
    matrices: Mapping[str, Any] | None = None,
    seed: int = 0,
    confusion: Sequence[Counts] = (),
    **changes: Any,
) -> RunResult:
    values: dict[str, Any] = {
        "method": "simclr",
        "variant": "kaizen",
        "replay_size": 0.1,
        "replay_unit": "proportion",
    }
    point = Point(**{**values, **changes}, seed=seed)
    return RunResult(point, {"classifier": A} if matrices is None else matrices, confusion)


def test_continual_and_final_accuracy() -> None:
    # steps: 0.9; (0.6 + 0.8) / 2 = 0.7; (0.5 + 0.2 + 1.0) / 3 = 0.56667
    assert metrics.seen_accuracy(A) == pytest.approx([0.9, 0.7, 1.7 / 3])
    assert metrics.continual_accuracy(A) == pytest.approx((0.9 + 0.7 + 1.7 / 3) / 3)  # 0.72222
    assert metrics.final_accuracy(A) == pytest.approx(1.7 / 3)


def test_forgetting() -> None:
    # task 1: 0.9 - 0.5 = 0.4; task 2: 0.8 - 0.2 = 0.6; the last task does not count
    assert metrics.forgetting(A) == pytest.approx(0.5)
    # task 1 is best at the end: 0; task 2 is best before it was learnt: 0.7 - 0.5 = 0.2
    assert metrics.forgetting(P) == pytest.approx(0.1)


def test_transfer() -> None:
    # (0.8 - 0.9 + 1.0 - 0.9) / 2
    assert metrics.forward_transfer(A, SPECIALISTS) == pytest.approx(0.0)
    # (0.6 - 0.9 + 0.8 - 0.9) / 2
    assert metrics.forward_transfer(P, SPECIALISTS) == pytest.approx(-0.2)
    # P[1,2] - R_2 = 0.7 - 0.4; P[2,3] - R_3 = 0.4 - 0.1
    assert metrics.forward_transfer_probe(P, RANDOM) == pytest.approx(0.3)
    # (0.5 - 0.9 + 0.2 - 0.8) / 2; the probe: (0.9 - 0.8 + 0.5 - 0.6) / 2
    assert metrics.backward_transfer(A) == pytest.approx(-0.5)
    assert metrics.backward_transfer(P) == pytest.approx(0.0)


def test_run_metrics_take_the_reference_of_their_reader() -> None:
    reference = Reference(
        "simclr", 0, {"classifier": SPECIALISTS, "linear_probe": RANDOM}, {"linear_probe": RANDOM}
    )
    values = metrics.run_metrics(run({"classifier": A, "linear_probe": P, "knn": P}), reference)
    assert values["classifier"] == pytest.approx(
        {
            "continual_accuracy": 13 / 18,
            "final_accuracy": 1.7 / 3,
            "forgetting": 0.5,
            "forward_transfer": 0.0,
            "forward_transfer_probe": None,
            "backward_transfer": -0.5,
        }
    )
    assert values["linear_probe"]["forward_transfer"] == pytest.approx((0.6 - 0.4 + 0.8 - 0.1) / 2)
    assert values["linear_probe"]["forward_transfer_probe"] == pytest.approx(0.3)
    assert values["knn"]["forward_transfer"] is None
    assert values["knn"]["forward_transfer_probe"] is None
    assert tuple(values["knn"]) == metrics.METRICS


@pytest.mark.parametrize("reference", [None, Reference("simclr", 0, None, {})])
def test_undefined_is_none(reference: Reference | None) -> None:
    assert metrics.run_metrics(run(), reference)["classifier"]["forward_transfer"] is None
    single = metrics.run_metrics(
        run({"classifier": [[0.7]]}), Reference("simclr", 0, {"classifier": [0.7]}, {})
    )
    assert single["classifier"] == {
        "continual_accuracy": 0.7,
        "final_accuracy": 0.7,
        "forgetting": None,
        "forward_transfer": None,
        "forward_transfer_probe": None,
        "backward_transfer": None,
    }


def test_joint_training_neither_forgets_nor_transfers() -> None:
    reference = Reference("simclr", 0, {"classifier": SPECIALISTS}, {"linear_probe": RANDOM})
    one_model = [[0.9, 0.8, 0.7]] * 3
    joint = run({"classifier": one_model, "linear_probe": one_model}, variant="joint")
    values = metrics.run_metrics(joint, reference)
    assert values["classifier"] == pytest.approx(
        {
            "continual_accuracy": (0.9 + 0.85 + 0.8) / 3,
            "final_accuracy": 0.8,
            "forgetting": None,
            "forward_transfer": (0.8 - 0.9 + 0.7 - 0.9) / 2,
            "forward_transfer_probe": None,
            "backward_transfer": None,
        }
    )
    assert values["linear_probe"]["forward_transfer_probe"] is None


def test_the_probe_of_the_tasks_seen() -> None:
    # Of the unseen it knows nothing, so its forgetting is the drop since a task was learnt.
    seen = np.tril(P)
    reference = Reference("simclr", 0, {"linear_probe_seen": SPECIALISTS}, {"linear_probe": RANDOM})
    values = metrics.run_metrics(run({"linear_probe_seen": seen}), reference)["linear_probe_seen"]
    assert values["forgetting"] == pytest.approx((0.0 + 0.6 - 0.5) / 2)
    assert values["forward_transfer"] == pytest.approx(-0.2)
    assert values["forward_transfer_probe"] is None


def test_forgetting_bounds_backward_transfer() -> None:
    rng = np.random.default_rng(0)
    for tasks in (2, 5, 9):
        a = rng.random((tasks, tasks))
        # max_t A[t,i] >= A[i,i], so F >= -BWT, and F >= 0
        rows = a.tolist()
        forgetting, transfer = metrics.forgetting(rows), metrics.backward_transfer(rows)
        assert forgetting is not None and transfer is not None
        assert forgetting >= max(0.0, -transfer) - 1e-12
        seen = np.array([a[t, : t + 1].mean() for t in range(tasks)])
        assert metrics.continual_accuracy(rows) == pytest.approx(seen.mean())
        assert forgetting == pytest.approx((a.max(axis=0) - a[-1])[:-1].mean())


def test_arrays_are_accepted_and_kept_as_floats() -> None:
    made = run({"classifier": np.array(A, dtype=np.float32)})
    assert made.tasks == 3
    assert type(made.matrices["classifier"][0][0]) is float
    assert made.matrices["classifier"][2] == pytest.approx((0.5, 0.2, 1.0))


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        (
            {"classifier": [[0.1, 0.2], [0.3]]},
            r"classifier: rows of \[2, 1\] values, not a T x T matrix",
        ),
        ({"classifier": []}, "not a T x T matrix"),
        ({"classifier": [[float("nan")]]}, "row 0: holds nan, but an accuracy lies in 0..1"),
        ({"classifier": [[55.0]]}, "holds 55.0"),
        ({"classifier": [["x"]]}, "not a number"),
        (
            {"oracle": [[0.5]]},
            "'oracle' is none of the readers classifier, ncm, lda, ridge, linear_probe, "
            "linear_probe_seen, knn",
        ),
        ({}, "missing"),
        ({"classifier": [[0.5]], "knn": A}, "differ in their number of tasks"),
    ],
)
def test_malformed_matrices_are_refused(matrices: Mapping[str, Any], message: str) -> None:
    with pytest.raises(KaizenError, match=message) as caught:
        run(matrices)
    assert "simclr-kaizen-replay10pct-seed0" in str(caught.value) and "run again" in str(
        caught.value
    )


def test_the_confusion_of_another_number_of_steps_is_refused() -> None:
    with pytest.raises(KaizenError, match="confusion of 2 steps for 3 tasks"):
        run(confusion=[{(0, 0): 1}] * 2)


def test_a_reference_of_another_length_is_refused() -> None:
    with pytest.raises(KaizenError, match="2 values for 3 tasks"):
        metrics.run_metrics(run(), Reference("simclr", 0, {"classifier": [0.5, 0.5]}, {}))
    with pytest.raises(KaizenError, match=r"random_network of simclr, seed 3, knn.* 1\.5"):
        Reference("simclr", 3, None, {"knn": [1.5]})
