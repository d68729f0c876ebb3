"""The metrics of continual learning as functions of an accuracy matrix (fidelity.md §13).

A is T x T: ``A[t][i]`` is the accuracy (0..1) on task i's test images after step t, for all i, also
i > t, arg max over all classes of the stream. Indices are 0-based here; the formulas in the
docstrings are the paper's, 1-based. A metric that is undefined (fewer than two tasks, no
specialists) is None, never NaN. What was not measured (None: a task without test images; on a
stream that grows, one that had not arrived yet) is left out of means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from kaizen.evaluation.results import Matrix, Reference, RunResult, malformed

METRICS = (
    "continual_accuracy",
    "final_accuracy",
    "forgetting",
    "forward_transfer",
    "forward_transfer_probe",
    "backward_transfer",
)


def continual_accuracy(a: Matrix) -> float | None:
    """CA = (1/T) sum_t (1/t) sum_{i<=t} A[t,i]."""
    return _mean(seen_accuracy(a))


def seen_accuracy(a: Matrix) -> list[float | None]:
    """Per step, the mean accuracy over the tasks seen so far: (1/t) sum_{i<=t} A[t,i], T values."""
    return [_mean(row[: step + 1]) for step, row in enumerate(a)]


def final_accuracy(a: Matrix) -> float | None:
    """FA = (1/T) sum_i A[T,i]."""
    return _mean(a[-1])


def forgetting(a: Matrix) -> float | None:
    """F = 1/(T-1) sum_{i<T} max_t (A[t,i] - A[T,i]); None for one task.

    The maximum runs over all steps t, as fidelity.md §13 defines it: also over t < i, before task i
    was seen. For a classifier an unseen class scores about 0, so this equals the more common
    maximum over t >= i; a probe on all tasks may score best before task i is learnt, and losing
    that counts too. t = T is among the steps, so F is never negative (backward transfer is the
    signed figure). On a stream that grows nothing is measured before a task arrives, and the
    maximum is the common one.
    """
    measured = [[value for row in a if (value := row[i]) is not None] for i in range(len(a))]
    return _mean(_less(max(measured[i], default=None), a[-1][i]) for i in range(len(a) - 1))


def forward_transfer(a: Matrix, specialists: Sequence[float | None] | None) -> float | None:
    """FT = 1/(T-1) sum_{i>=2} (A[i,i] - S_i); None for one task or without specialists."""
    if len(a) < 2 or specialists is None:
        return None
    _same_length(specialists, len(a), "specialists' accuracies")
    return _mean(_less(a[i][i], specialists[i]) for i in range(1, len(a)))


def forward_transfer_probe(
    p: Matrix, random_network: Sequence[float | None] | None
) -> float | None:
    """CaSSLe's forward transfer, 1/(T-1) sum_{i>=2} (P[i-1,i] - R_i), of a probe's matrix
    (fidelity.md §13).

    None for one task or without a random network's accuracies.
    """
    if len(p) < 2 or random_network is None:
        return None
    _same_length(random_network, len(p), "random network's accuracies")
    return _mean(_less(p[i - 1][i], random_network[i]) for i in range(1, len(p)))


def backward_transfer(a: Matrix) -> float | None:
    """BWT = 1/(T-1) sum_{i<T} (A[T,i] - A[i,i]); None for one task."""
    return _mean(_less(a[-1][i], a[i][i]) for i in range(len(a) - 1))


def _less(one: float | None, other: float | None) -> float | None:
    """The difference; None where one of the two was not measured."""
    return None if one is None or other is None else one - other


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of what was measured; None where nothing was."""
    measured = [value for value in values if value is not None]
    return fmean(measured) if measured else None


def run_metrics(run: RunResult, reference: Reference | None) -> dict[str, dict[str, float | None]]:
    """All METRICS of a run: reader -> metric -> value (fractions, not percent).

    ``forward_transfer_probe`` is defined for the readers that were also fitted on a random network;
    not for a probe on the tasks seen, which knows no class of a task to come. Of joint training,
    which learns no task after another, forgetting and what compares a task before and after
    learning it are undefined.
    """
    stream = not run.joint
    specialists = (reference.specialists if reference else None) or {}
    random_network = reference.random_network if reference else {}
    return {
        reader: {
            "continual_accuracy": continual_accuracy(a),
            "final_accuracy": final_accuracy(a),
            "forgetting": forgetting(a) if stream else None,
            "forward_transfer": forward_transfer(a, specialists.get(reader)),
            "forward_transfer_probe": forward_transfer_probe(a, random_network.get(reader))
            if stream
            else None,
            "backward_transfer": backward_transfer(a) if stream else None,
        }
        for reader, a in run.matrices.items()
    }


def _same_length(values: Sequence[float | None], tasks: int, what: str) -> None:
    """Raise KaizenError where a reference has another number of tasks than the run."""
    if len(values) != tasks:
        raise malformed(what, f"{len(values)} values for {tasks} tasks")
