"""Runs side by side, also of other plans than the present: what of their parameters differs, and
how they did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaizen.data.names import ACCURACY_FILE
from kaizen.errors import KaizenError
from kaizen.evaluation.metrics import continual_accuracy, final_accuracy, forgetting
from kaizen.files import canonical_json, printable, read_json
from kaizen.provenance.explain import made_at
from kaizen.provenance.known import Known, KnownNode
from kaizen.provenance.leaves import leaves
from kaizen.provenance.subject import find_subject
from kaizen.store.node_id import Kind
from kaizen.store.records import RECORD

_EVALUATIONS = "results/evaluations"
METRICS = ("CA", "FA", "F")
MOST_RUNS = 500  # of a comparison


def find_runs(asked: Sequence[str], known: Known) -> list[KnownNode]:
    """The evaluations that ``asked`` name: a run, a file or folder of one, or a key; all that are
    known where nothing was asked.

    Raises KaizenError where something names no run's evaluation.
    """
    if not asked:
        nodes = (known.node(node) for node in known.named("evaluation/"))
        found = [node for node in nodes if node is not None]
        return sorted(found, key=lambda node: (node.title, node.id.key))[:MOST_RUNS]
    return [_run(one, known) for one in asked]


def _run(asked: str, known: Known) -> KnownNode:
    published = f"{_EVALUATIONS}/{asked}"
    is_run = f"{published}/{RECORD}" in known.files
    subject = find_subject(published if is_run else asked, known)
    node = known.node(subject.node)
    if node is None or node.id.kind is not Kind.EVALUATION:
        what = node.id if node else subject.node
        raise KaizenError(
            f"{asked} is {what}, no run's evaluation; name a run as in {_EVALUATIONS}/, or the key "
            "of an evaluation (`kaizen compare` alone lists all)"
        )
    return node


def compare(runs: Sequence[KnownNode], known: Known) -> dict[str, Any]:
    """``runs``: name, key, commit, when it was made, and ``metrics`` of the trained classifier
    (fractions, None where not known); ``parameters``: those that differ, as dotted name -> a value
    for each run (None where a run does not have it).
    """
    entries = [_entry(node, known) for node in runs]
    parameters = [dict(leaves(_parameters(node, known))) for node in runs]
    names = sorted({name for one in parameters for name in one})
    values = {name: [one.get(name) for one in parameters] for name in names}
    differing = {n: v for n, v in values.items() if len(set(map(canonical_json, v))) > 1}
    return {"runs": entries, "parameters": differing}


def in_order(found: Mapping[str, Any], by: str | None) -> dict[str, Any]:
    """A comparison with its runs sorted by name or by a metric, the best first; as it is for
    None.
    """
    runs: list[dict[str, Any]] = found["runs"]
    places = list(range(len(runs)))
    if by == "name":
        places.sort(key=lambda place: (runs[place]["name"], runs[place]["key"]))
    elif by is not None:
        sign = 1 if by == "F" else -1
        values = [run["metrics"][by] for run in runs]
        places.sort(key=lambda place: (values[place] is None, sign * (values[place] or 0.0)))
    parameters = {
        name: [values[place] for place in places] for name, values in found["parameters"].items()
    }
    return {"runs": [runs[place] for place in places], "parameters": parameters}


def _entry(node: KnownNode, known: Known) -> dict[str, Any]:
    places = [Path(place).name for place in known.places(node.id.key)]
    made = made_at(node)
    return {
        "name": places[0] if places else node.title.removeprefix("evaluation · "),
        "key": node.id.key,
        "published": bool(places),
        "commit": node.origin.commit if node.origin else None,
        "experiment": _experiment(node),
        "made": made["began"] if made else None,
        "metrics": _metrics(node, known),
    }


def _experiment(node: KnownNode) -> str | None:
    name = getattr(node.origin, "experiment", None)
    return printable(name) if isinstance(name, str) else None


def _metrics(node: KnownNode, known: Known) -> dict[str, float | None]:
    """CA, FA and F of the trained classifier; of an evaluation of one step, and where the file is
    not here, None.
    """
    path = known.file(node, ACCURACY_FILE)
    try:
        matrix = read_json(path)["matrices"]["classifier"] if path else None
        if matrix is None:
            return dict.fromkeys(METRICS)
        found = (continual_accuracy(matrix), final_accuracy(matrix), forgetting(matrix))
        return dict(zip(METRICS, found, strict=True))
    # Whatever a file holds that is not what evaluations write.
    except (KaizenError, KeyError, TypeError, ValueError, IndexError, AttributeError):
        return dict.fromkeys(METRICS)


def _parameters(node: KnownNode, known: Known) -> dict[str, Any]:
    """What a run depends on: the parameters of its last step and of its evaluation."""
    steps = [
        parent
        for _, name in sorted(node.inputs.items())
        if name.kind is Kind.STEP and (parent := known.node(name)) is not None
    ]
    found: dict[str, Any] = {"evaluation": dict(node.record.params)}
    if steps:
        last = steps[-1]
        found |= dict(last.record.params)
        replay = [known.node(one) for one in last.inputs.values() if one.kind is Kind.REPLAY]
        found["replay"] = next((dict(one.record.params) for one in replay if one), None)
    return found
