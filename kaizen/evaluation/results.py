"""What evaluations found: a run's accuracy matrices, and the references that transfer is measured
by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from kaizen.errors import KaizenError
from kaizen.evaluation.confusion import Counts
from kaizen.params.registry import ANALYTIC_HEADS
from kaizen.plan.point import Point

if TYPE_CHECKING:
    from kaizen.evaluation.calibration import StepCalibration
    from kaizen.evaluation.looks import StepLook

T = TypeVar("T")

# None: nothing was measured; see `RunResult`.
Matrix = Sequence[Sequence[float | None]]

# What every evaluation reads by; and what a summary may have, with the analytic heads.
ALWAYS_READ = ("classifier", "linear_probe", "linear_probe_seen", "knn")
READERS = ("classifier", *ANALYTIC_HEADS, *ALWAYS_READ[1:])
# The variant that is trained on all tasks at once: no rival of the others.
JOINT = "joint"


@dataclass(frozen=True)
class RunResult:
    """One run's accuracy matrices: reader (one of READERS) -> T x T, values 0..1.

    Any T x T sequence or array is accepted and kept as tuples. An entry is None where nothing was
    measured: of a task without test images, and of one that had not arrived yet. ``confusion``
    holds the classifier's counts after each step, or nothing where they are not known; so do
    ``calibration`` (bins of confidence) and ``looks`` (what features say). Raises KaizenError where
    a matrix is not square, not finite or outside 0..1.
    """

    point: Point
    matrices: Mapping[str, Matrix]
    confusion: Sequence[Counts] = ()
    calibration: Sequence[StepCalibration] = ()
    looks: Sequence[StepLook] = ()

    def __post_init__(self) -> None:
        """Check the matrices and turn them into tuples."""
        where = f"run {self.point.name}"
        matrices = {}
        for reader, matrix in self.matrices.items():
            rows = tuple(
                _row(row, f"{where}, {reader}, row {step}") for step, row in enumerate(matrix)
            )
            if not rows or any(len(row) != len(rows) for row in rows):
                raise malformed(
                    f"{where}, {reader}",
                    f"rows of {[len(row) for row in rows]} values, not a T x T matrix",
                )
            matrices[_known(reader, where)] = rows
        if not matrices or len({len(matrix) for matrix in matrices.values()}) > 1:
            raise malformed(
                where, "the readers' matrices are missing or differ in their number of tasks"
            )
        object.__setattr__(self, "matrices", matrices)
        for what in ("confusion", "calibration", "looks"):
            steps = len(getattr(self, what))
            if steps not in (0, self.tasks):
                raise malformed(where, f"the {what} of {steps} steps for {self.tasks} tasks")

    @property
    def tasks(self) -> int:
        """Number of tasks T."""
        return len(next(iter(self.matrices.values())))

    @property
    def joint(self) -> bool:
        """Whether the run is joint training: one model of all tasks, whose accuracies stand in
        every row.
        """
        return self.point.variant == JOINT


# Reference rows: what stands in a method's place, and those of linear discriminant analysis on
# features that no run learnt from the stream.
REFERENCE = "reference"
LDA_ROWS = ("lda_pixels", "lda_random_network", "lda_step_0")


@dataclass(frozen=True)
class Reference:
    """What transfer is measured against, for one method and seed.

    ``specialists``: reader -> T accuracies S_i of task i's specialist on task i, or None where the
    grid trains none. ``random_network``: reader ("linear_probe", "knn") -> T accuracies R_i.
    ``lda``: row (one of LDA_ROWS) -> T x T accuracies; none on a stream that grows.
    """

    method: str
    seed: int
    specialists: Mapping[str, Sequence[float]] | None
    random_network: Mapping[str, Sequence[float]]
    lda: Mapping[str, Matrix] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the accuracies and turn them into tuples."""
        for name in ("specialists", "random_network"):
            where = f"{name} of {self.method}, seed {self.seed}"
            values = getattr(self, name)
            if values is not None:
                checked = {
                    _known(r, where): _accuracies(row, f"{where}, {r}") for r, row in values.items()
                }
                object.__setattr__(self, name, checked)


def _accuracies(values: Any, where: str) -> tuple[float, ...]:
    """A row of accuracies as a tuple of floats; raises KaizenError unless each lies in 0..1."""
    try:
        row = tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise malformed(where, "holds something that is not a number") from error
    for value in row:
        if not 0 <= value <= 1:  # also catches NaN
            raise malformed(where, f"holds {value}, but an accuracy lies in 0..1")
    return row


def _row(values: Any, where: str) -> tuple[float | None, ...]:
    """A row of a matrix; raises KaizenError as `_accuracies` does."""
    measured = iter(_accuracies([value for value in values if value is not None], where))
    return tuple(None if value is None else next(measured) for value in values)


def _known(reader: str, where: str) -> str:
    """``reader`` itself; raises KaizenError where it is none of READERS."""
    if reader not in READERS:
        raise malformed(where, f"{reader!r} is none of the readers {', '.join(READERS)}")
    return reader


def matrix_rows(of_steps: list[T], tasks: int) -> list[T]:
    """What each of the ``tasks`` rows of a matrix holds, from what each step's model came to.

    The one model of joint training has seen all tasks and stands for every step.
    """
    return of_steps if len(of_steps) > 1 else of_steps * tasks


def malformed(where: str, what: str) -> KaizenError:
    """The error of an evaluation that cannot be read as accuracies."""
    return KaizenError(
        f"evaluation of {where}: {what}; delete that evaluation's file and run again"
    )
