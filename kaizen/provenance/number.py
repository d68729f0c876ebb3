"""What a number of the metrics is: of which evaluations it is the mean, and whether that is so."""

from __future__ import annotations

import math
from typing import Any

from kaizen.data.names import ACCURACY_FILE
from kaizen.errors import KaizenError
from kaizen.evaluation.metrics import METRICS
from kaizen.evaluation.results import READERS, REFERENCE
from kaizen.files import read_json
from kaizen.params.registry import ANALYTIC_HEADS
from kaizen.plan.specs import SummarySpec, read_spec
from kaizen.provenance.known import Known, KnownNode
from kaizen.provenance.subject import Subject
from kaizen.report.node import read_results
from kaizen.report.series import METRIC_SHORT, READER_LABELS, Series, group, metric_label
from kaizen.store.node_id import Kind

_HEADLINE = {short: metric for metric, short in METRIC_SHORT.items()}
_STATISTICS = {
    "mean": "mean",
    "interval": "half of the 95 % interval",
    "n": "number of seeds with a value",
}


def explain_number(subject: Subject, node: KnownNode, known: Known) -> dict[str, Any] | None:
    """The number that was asked for; None where none was.

    Of a metric also what it means, and ``runs``: each run's own value, its evaluation, and the
    reference that transfer is measured by, with ``agrees``: whether they lead to the number. None
    in their place where evaluations are lost.
    """
    if subject.number is None:
        return None
    steps, value = subject.number
    number: dict[str, Any] = {"path": ".".join(steps), "value": value}
    metric = _metric(steps) if node.id.kind is Kind.SUMMARY else None
    # Reference rows are of no run: their evaluations are among the summary's inputs.
    if metric is None or steps[0] == REFERENCE:
        return number
    reader, name, statistic = metric
    label = (
        f"{metric_label(name)}, {READER_LABELS[reader]}: {_STATISTICS[statistic]} over the "
        "seeds; a fraction"
    )
    number |= {"meaning": label, "runs": None, "agrees": None}
    series = next((one for one in _series(node, known) if (one.method, one.key) == steps[:2]), None)
    if series is None:
        return number
    estimate = series.estimate(reader, name)
    now = {"mean": estimate.mean, "interval": estimate.interval, "n": estimate.n}[statistic]
    agrees = now is not None and math.isclose(now, value, rel_tol=1e-9, abs_tol=1e-12)
    return number | {"runs": _runs(series, reader, name, node, known), "agrees": agrees}


def _metric(steps: tuple[str, ...]) -> tuple[str, str, str] | None:
    """Reader, metric and statistic of a number of metrics.json or metrics_full.json; None of any
    other.
    """
    if len(steps) == 3 and steps[2] in _HEADLINE:
        return "classifier", _HEADLINE[steps[2]], "mean"
    if len(steps) == 4 and steps[2] in ANALYTIC_HEADS and steps[3] in _HEADLINE:
        return steps[2], _HEADLINE[steps[3]], "mean"
    if len(steps) == 5 and steps[2] in READERS and steps[3] in METRICS and steps[4] in _STATISTICS:
        return steps[2], steps[3], steps[4]
    return None


def _series(node: KnownNode, known: Known) -> list[Series]:
    """The series of a summary, from its evaluations; none where one of them is lost."""

    def accuracy(role: str) -> dict[str, Any]:
        evaluation = known.node(node.record.inputs[role])
        path = known.file(evaluation, ACCURACY_FILE) if evaluation else None
        if path is None:
            raise KaizenError(f"{role} is lost")
        content: dict[str, Any] = read_json(path)
        return content

    try:
        return group(*read_results(_spec(node), accuracy))
    # Whatever an evaluation's file holds that is not what evaluations write.
    except (KaizenError, KeyError, TypeError, ValueError, AttributeError, IndexError):
        return []


def _spec(node: KnownNode) -> SummarySpec:
    """What the summary was made of; raises KaizenError where its record is no summary's of this
    version.
    """
    spec = read_spec(node.id.kind, node.record.params, f"the record of {node.id}")
    if not isinstance(spec, SummarySpec):
        raise KaizenError(f"{node.id} is not a summary")
    return spec


def _runs(
    series: Series, reader: str, metric: str, node: KnownNode, known: Known
) -> list[dict[str, Any]]:
    spec, inputs = _spec(node), node.record.inputs
    entries = {entry.point: entry for entry in spec.runs}
    references = {(entry.method, entry.seed): inputs[entry.input].key for entry in spec.references}
    found = []
    for run, values in zip(series.runs, series.metrics, strict=True):
        entry = entries[run.point]
        keys = [inputs[role].key for role in entry.evaluations]
        reported = {"run": entry.name, "value": values[reader][metric], "evaluation": keys[-1]}
        if metric.startswith("forward_transfer"):
            reported["reference"] = references.get((run.point.method, run.point.seed))
        published = [place for key in keys for place in known.places(key)]
        found.append(reported | {"published": published})
    return found
