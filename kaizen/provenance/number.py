"""What a number of the metrics is: of which evaluations it is the mean, and whether that is so."""

from __future__ import annotations

import math
from typing import Any

from kaizen.errors import KaizenError
from kaizen.evaluation.metrics import METRICS
from kaizen.evaluation.results import READERS
from kaizen.files import read_json
from kaizen.provenance.known import Known, KnownNode
from kaizen.provenance.subject import Subject
from kaizen.report.node import read_results
from kaizen.report.series import METRIC_SHORT, READER_LABELS, Series, group, metric_label

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
    metric = _metric(steps) if node.kind == "summary" else None
    if metric is None:
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
    if len(steps) == 5 and steps[2] in READERS and steps[3] in METRICS and steps[4] in _STATISTICS:
        return steps[2], steps[3], steps[4]
    return None


def _series(node: KnownNode, known: Known) -> list[Series]:
    """The series of a summary, from its evaluations; none where one of them is lost."""

    def accuracy(role: str) -> dict[str, Any]:
        entry = node.record["inputs"][role]
        evaluation = known.node(entry["kind"], entry["key"])
        path = known.file(evaluation, "accuracy.json") if evaluation else None
        if path is None:
            raise KaizenError(f"{role} is lost")
        content: dict[str, Any] = read_json(path)
        return content

    try:
        return group(*read_results(node.record["params"], accuracy))
    except KaizenError:
        return []


def _runs(
    series: Series, reader: str, metric: str, node: KnownNode, known: Known
) -> list[dict[str, Any]]:
    params, inputs = node.record["params"], node.record["inputs"]
    references = {
        (point["method"], point["seed"]): inputs[point["input"]]["key"]
        for point in params["references"]
    }
    found = []
    for run, values in zip(series.runs, series.metrics, strict=True):
        point = next(
            point
            for point in params["runs"]
            if (point["method"], point["variant"], point["seed"])
            == (run.method, run.variant, run.seed)
            and (point["replay_size"], point["replay_unit"]) == (run.replay_size, run.replay_unit)
        )
        key = inputs[point["input"]]["key"]
        entry = {"run": point["name"], "value": values[reader][metric], "evaluation": key}
        if metric.startswith("forward_transfer"):
            entry["reference"] = references.get((run.method, run.seed))
        found.append(entry | {"published": known.places(key)})
    return found
