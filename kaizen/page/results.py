"""The published results as the page needs them: the summary's series, histories and classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from kaizen.data.names import ACCURACY_FILE, CONFUSION_FILE, HISTORY_FILE, shard_file
from kaizen.errors import KaizenError
from kaizen.evaluation.calibration import CALIBRATION_FILE, read_calibration
from kaizen.evaluation.confusion import read_confusion
from kaizen.evaluation.kept import FEATURES_FILE, read_features
from kaizen.evaluation.mistaken import MISTAKEN_FILE, MistakenPair, read_mistaken
from kaizen.evaluation.results import Reference, RunResult
from kaizen.files import read_json, read_text
from kaizen.page.pictures import Examples, examples
from kaizen.plan.point import Point
from kaizen.plan.roles import shards_of
from kaizen.plan.specs import SummarySpec, read_spec
from kaizen.provenance.known import Known, KnownNode
from kaizen.report.classes import Classes
from kaizen.report.figures.grid import Grid
from kaizen.report.losses import History, read_steps
from kaizen.report.node import read_results
from kaizen.report.reference_rows import reference_series
from kaizen.report.series import group
from kaizen.report.tables import Metrics, nested
from kaizen.store.layout import METRICS

T = TypeVar("T")


@dataclass(frozen=True)
class MadeFrom:
    """The keys of a run's evaluation (its last, of a stream that grows) and of its steps; of what
    transfer is measured by, None where there is none.
    """

    name: str
    evaluation: str
    steps: tuple[str, ...] = ()
    reference: str | None = None


@dataclass(frozen=True, kw_only=True)
class Results(Grid):
    """What the page shows. ``metrics`` are those of metrics_full.json; ``made`` says of each run
    what it was made from.
    """

    classes: Classes
    title: str
    context: dict[str, Any]
    metrics: Metrics
    made: dict[Point, MadeFrom] = field(default_factory=dict)
    summary: str = ""
    texts: str = ""
    reference_nodes: tuple[str, ...] = ()
    examples: Examples = field(default_factory=Examples)

    def wrong(self) -> list[str]:
        """The numbers of metrics_full.json that the evaluations do not lead to, as dotted paths."""
        found = []
        for method, entries in nested(self.all).items():
            for key, entry in entries.items():
                there = self.metrics.get(method, {}).get(key, {})
                for reader, values in entry.items():
                    if isinstance(values, dict) and there.get(reader) != values:
                        found.append(f"{method}.{key}.{reader}")
        return found


def gather(
    title: str,
    context: dict[str, Any],
    runs: Sequence[RunResult],
    references: Sequence[Reference],
    classes: Classes,
    **more: Any,
) -> Results:
    """Results from what `kaizen.report.node.read_results` gives; ``more`` are further fields."""
    series = tuple(group(runs, references))
    rows = tuple(reference_series(runs, references, classes))
    metrics = more.pop("metrics", None) or nested([*series, *rows])
    return Results(
        title=title,
        context=context,
        series=series,
        references=rows,
        metrics=metrics,
        classes=classes,
        **more,
    )


def read(known: Known) -> Results:
    """The results that are published in ``known``'s checkout.

    Raises KaizenError where there are none, or a file that they come from is missing or altered.
    """
    entry = known.files.get(METRICS)
    node = known.node(entry.node) if entry else None
    if node is None:
        raise KaizenError(
            f"{METRICS} is not published here; `snakemake --cores all` or `kaizen run` makes it"
        )
    spec = read_spec(node.id.kind, node.record.params, f"the record of {node.id}")
    if not isinstance(spec, SummarySpec):
        raise KaizenError(f"{node.id} is not a summary; `snakemake --cores all` makes it again")
    inputs = node.record.inputs

    def of_role(role: str, name: str) -> Path:
        return _file(known, known.node(inputs[role]), name, role)

    def read_recorded(role: str, name: str, read: Callable[[Path], T]) -> T | None:
        """What a file holds that evaluations of an older Kaizen do not have."""
        made = known.node(inputs[role])
        there = made is None or name in made.record.files
        return read(of_role(role, name)) if there else None

    runs, references = read_results(
        spec,
        lambda role: read_json(of_role(role, ACCURACY_FILE)),
        lambda role: read_confusion(of_role(role, CONFUSION_FILE)),
        lambda role: read_recorded(role, CALIBRATION_FILE, read_calibration) or (),
        lambda role: read_recorded(role, FEATURES_FILE, read_features) or (),
    )
    by_reference = {(one.method, one.seed): inputs[one.input].key for one in spec.references}
    made = {
        run.point: MadeFrom(
            run.name,
            inputs[run.evaluations[-1]].key,
            tuple(inputs[role].key for role in run.steps),
            by_reference.get((run.point.method, run.point.seed)),
        )
        for run in spec.runs
    }
    histories = [
        History(run.point, read_steps([of_role(role, HISTORY_FILE) for role in run.steps]))
        for run in spec.runs
        if run.history
    ]
    return gather(
        " ".join(spec.report.title.split()),
        dict(node.record.params.get("context") or {}),
        runs,
        references,
        Classes(tuple(spec.classes), tuple(tuple(labels) for labels in spec.tasks)),
        metrics=read_json(_file(known, node, "metrics_full.json", "the summary")),
        histories=histories,
        made=made,
        summary=node.id.key,
        texts=read_text(_file(known, node, "report.md", "the summary")),
        reference_nodes=tuple(by_reference.values()),
        examples=_examples(
            spec,
            lambda role: read_recorded(role, MISTAKEN_FILE, read_mistaken),
            lambda task: _shard(known, node, task),
        ),
    )


def _examples(
    spec: SummarySpec,
    mistaken: Callable[[str], list[MistakenPair] | None],
    shard: Callable[[int], Path | None],
) -> Examples:
    """The most confused pairs after the last step of the first run of each series."""
    found: dict[Point, list[MistakenPair]] = {}
    series = set()
    for run in sorted(spec.runs, key=lambda run: run.point.seed):
        if run.point.series not in series:
            series.add(run.point.series)
            pairs = mistaken(run.evaluations[-1])
            if pairs is None:
                return Examples()
            found[run.point] = pairs
    return examples(found, shard, spec.report.example_images)


def _shard(known: Known, summary: KnownNode, task: int) -> Path | None:
    """The test shard of a task; None where it is not here."""
    try:
        shards = known.node(shards_of(summary.inputs, task))
    except KeyError:
        return None
    return known.file(shards, shard_file(task, "test")) if shards else None


def _file(known: Known, node: KnownNode | None, name: str, what: str) -> Path:
    path = known.file(node, name) if node else None
    if path is None:
        raise KaizenError(
            f"{name} of {what} is missing or was altered, so no page can be made of it; "
            "`snakemake --cores all` publishes it again"
        )
    return path
