"""The `summary` node: from the evaluations of a grid to metrics, tables, figures and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kaizen.evaluation.confusion import Counts, read_confusion
from kaizen.evaluation.metrics import Reference, RunResult
from kaizen.files import read_json
from kaizen.params import ReportParams, from_dict
from kaizen.report.cards import write_cards
from kaizen.report.classes import Classes
from kaizen.report.losses import History, read_steps
from kaizen.report.summary import write_summary
from kaizen.report.trained_on import trained_on
from kaizen.store.store import Store
from kaizen.training.facts import FACTS, StepFacts, read_facts


def run_summary(spec: dict[str, Any], store: Store, building: Path) -> None:
    """Write the summary's files into ``building``; a reader that had no label to learn from at some
    step is left out.

    Raises KaizenError when an evaluation or a step's history is missing or does not match its
    recorded hash.
    """
    params = spec["params"]

    def file(role: str, name: str) -> Path:
        node = spec["inputs"][role]
        return store.open_file(node["kind"], node["key"], name)

    runs, references = read_results(
        params,
        lambda role: read_json(file(role, "accuracy.json")),
        lambda role: read_confusion(file(role, "confusion.parquet")),
    )
    histories = [
        History(
            point["method"],
            point["variant"],
            point["replay_size"],
            point["replay_unit"],
            point["seed"],
            read_steps([file(role, "history.parquet") for role in point["steps"]]),
        )
        for point in params["runs"]
        if point["history"]
    ]
    report = from_dict(ReportParams, params["report"])
    classes = Classes(tuple(params["classes"]), tuple(tuple(labels) for labels in params["tasks"]))
    trained = trained_on(
        params["runs"], [[_facts(spec, store, role) for role in p["steps"]] for p in params["runs"]]
    )
    write_summary(
        runs, references, report, params["context"], building, histories, classes, trained
    )
    write_cards(spec, store, runs, references, building / "cards")


def _facts(spec: Mapping[str, Any], store: Store, role: str) -> tuple[StepFacts, list[str]]:
    """What a step was trained on, and what of it is otherwise than its parameters say."""
    key = spec["inputs"][role]["key"]
    asked = store.read_record("step", key)["params"]
    facts = read_facts(store.open_file("step", key, FACTS))
    return facts, facts.warnings(asked["train"], asked.get("replay_batch_size", 0))


def read_results(
    params: dict[str, Any],
    accuracy: Callable[[str], dict[str, Any]],
    confusion: Callable[[str], Sequence[Counts]] = lambda role: (),
) -> tuple[list[RunResult], list[Reference]]:
    """The results of a summary with these parameters: its runs in the grid's order, and what
    transfer is measured by.

    ``accuracy`` and ``confusion`` read the evaluation that is its input of a given role.
    """
    runs = [
        RunResult(
            point["method"],
            point["variant"],
            point["replay_size"],
            point["replay_unit"],
            point["seed"],
            {
                reader: rows
                for reader, rows in accuracy(point["input"])["matrices"].items()
                if _defined(rows)
            },
            confusion(point["input"]),
        )
        for point in params["runs"]
    ]
    references = [
        Reference(point["method"], point["seed"], *_reference(accuracy(point["input"])))
        for point in params["references"]
    ]
    return runs, references


def _defined(rows: list[list[float | None]]) -> bool:
    """Whether a reader had labels to learn from at every step."""
    return all(value is not None for row in rows for value in row)


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
