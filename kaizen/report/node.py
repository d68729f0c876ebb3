"""The `summary` node: from the evaluations of a grid to metrics, tables, figures and the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kaizen.data.names import ACCURACY_FILE, CONFUSION_FILE, FACTS_FILE, HISTORY_FILE
from kaizen.evaluation.calibration import CALIBRATION_FILE, StepCalibration, read_calibration
from kaizen.evaluation.confusion import Counts, read_confusion
from kaizen.evaluation.kept import FEATURES_FILE, KeptFeatures, read_features
from kaizen.evaluation.looks import looks_of
from kaizen.evaluation.results import Matrix, Reference, RunResult, matrix_rows
from kaizen.files import read_json
from kaizen.params.typed import as_json
from kaizen.plan.job import Job
from kaizen.plan.specs import RunEntry, SummarySpec, step_spec
from kaizen.report.cards import write_cards
from kaizen.report.classes import Classes
from kaizen.report.losses import History, read_steps
from kaizen.report.summary import write_summary
from kaizen.report.trained_on import trained_on
from kaizen.store.node_id import NodeId
from kaizen.store.store import Store
from kaizen.training.facts import StepFacts, read_facts

T = TypeVar("T")


def run_summary(job: Job[SummarySpec], store: Store, building: Path) -> None:
    """Write the summary's files into ``building``; a reader that had no label to learn from at some
    step is left out.

    Raises KaizenError when an evaluation or a step's history is missing or does not match its
    recorded hash.
    """
    spec = job.spec

    def file(role: str, name: str) -> Path:
        return store.open_file(job.inputs[role], name)

    def recorded(role: str, name: str, read: Callable[[Path], Sequence[T]]) -> Sequence[T]:
        """What a file holds that evaluations of an older Kaizen do not have."""
        there = name in store.read_record(job.inputs[role]).files
        return read(file(role, name)) if there else ()

    runs, references = read_results(
        spec,
        lambda role: read_json(file(role, ACCURACY_FILE)),
        lambda role: read_confusion(file(role, CONFUSION_FILE)),
        lambda role: recorded(role, CALIBRATION_FILE, read_calibration),
        lambda role: recorded(role, FEATURES_FILE, read_features),
    )
    histories = [
        History(run.point, read_steps([file(role, HISTORY_FILE) for role in run.steps]))
        for run in spec.runs
        if run.history
    ]
    classes = Classes(tuple(spec.classes), tuple(tuple(labels) for labels in spec.tasks))
    context = dict(sorted(as_json(spec.context).items()))
    steps = [[_facts(store, job.inputs[role]) for role in run.steps] for run in spec.runs]
    trained = trained_on([run.point for run in spec.runs], steps) + _retired_text(spec)
    write_summary(
        runs,
        references,
        spec.report,
        context,
        building,
        histories=histories,
        classes=classes,
        trained=trained,
    )
    write_cards(job, store, runs, references, building / "cards")


def _retired_text(spec: SummarySpec) -> str:
    """What was given up of a stream that grows, and what the readers of features do without it."""
    if not spec.retired:
        return ""
    tasks = ", ".join(map(str, spec.retired))
    return (
        f"\n**Retired:** the training images of task {tasks} were given up. In the rows after that "
        "the linear probe and the nearest neighbours learn from the other tasks' images, and from "
        "the replay memory where a run has one: these accuracies are not those of a probe on all "
        "labels.\n"
    )


def _facts(store: Store, step: NodeId) -> tuple[StepFacts, list[str]]:
    """What a step was trained on, and what of it is otherwise than its parameters say."""
    asked = step_spec(store.read_record(step))
    facts = read_facts(store.open_file(step, FACTS_FILE))
    return facts, facts.warnings(asked.train.batch_size, asked.replay_batch_size or 0)


def read_results(
    spec: SummarySpec,
    accuracy: Callable[[str], dict[str, Any]],
    confusion: Callable[[str], Sequence[Counts]] = lambda role: (),
    calibration: Callable[[str], Sequence[StepCalibration]] = lambda role: (),
    features: Callable[[str], Sequence[KeptFeatures]] = lambda role: (),
) -> tuple[list[RunResult], list[Reference]]:
    """The results of a summary: its runs in the grid's order, and what transfer is measured by.

    ``accuracy`` and the others read the evaluation that is its input of a given role; what is not
    there for every step of a run, as older evaluations do not have it, is left out.
    """

    def of_steps(run: RunEntry, read: Callable[[str], Sequence[T]]) -> list[T]:
        found = [read(role) for role in run.evaluations]
        return [one for every in found for one in every] if all(found) else []

    runs, tasks = [], len(spec.tasks)
    for run in spec.runs:
        matrices = _matrices([accuracy(role) for role in run.evaluations], tasks)
        measured = matrices.get("classifier", [])
        defined = {reader: rows for reader, rows in matrices.items() if _defined(rows, measured)}
        runs.append(
            RunResult(
                run.point,
                defined,
                matrix_rows(of_steps(run, confusion), tasks),
                matrix_rows(of_steps(run, calibration), tasks),
                matrix_rows(list(looks_of(of_steps(run, features))), tasks),
            )
        )
    references = [
        Reference(entry.method, entry.seed, *_reference(content), content.get("lda", {}))
        for entry in spec.references
        for content in (accuracy(entry.input),)
    ]
    return runs, references


def _matrices(contents: list[dict[str, Any]], tasks: int) -> dict[str, Matrix]:
    """A run's matrices from its evaluation, or on a stream that grows from one for each step."""
    if "matrices" in contents[0]:
        return dict(contents[0]["matrices"])
    rows = matrix_rows([content["row"] for content in contents], tasks)
    return {
        reader: [[*row[reader], *[None] * (tasks - len(row[reader]))] for row in rows]
        for reader in rows[0]
    }


def _defined(rows: Matrix, measured: Matrix) -> bool:
    """Whether a reader had labels to learn from at every step: what the classifier was measured
    on, it was too.
    """
    pairs = (
        pair
        for row, all_ in zip(rows, measured, strict=True)
        for pair in zip(row, all_, strict=True)
    )
    return all(value is not None or known is None for value, known in pairs)


def _reference(
    content: dict[str, Any],
) -> tuple[dict[str, list[float]] | None, dict[str, list[float]]]:
    """The specialists' and the random network's accuracies, readers without values left out."""
    specialists = content["specialists"]
    if specialists is not None:
        specialists = {
            reader: values for reader, values in specialists.items() if None not in values
        }
    return specialists, {
        reader: v for reader, v in content["random_network"].items() if None not in v
    }
