"""Reference rows: what the grid's accuracies are read by, clearly no rivals of its variants.

Chance, and streaming linear discriminant analysis on features that no run learnt from the stream
(`kaizen.evaluation.reference_rows`). They are series like the others, of the method `REFERENCE`,
and have the same figures in every reader's table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kaizen.evaluation.metrics import run_metrics
from kaizen.evaluation.results import READERS, REFERENCE, Matrix, Reference, RunResult
from kaizen.plan.point import Point
from kaizen.report.classes import Classes
from kaizen.report.series import METRIC_SHORT, Series, method_label
from kaizen.report.tables import Metrics, in_order, percent

STEP_0 = "lda_step_0"
LABELS = {
    "chance": "Chance",
    "lda_pixels": "LDA on pixels",
    "lda_random_network": "LDA on a random network",
    STEP_0: "LDA on step 0's encoder",
}
_COLOUR = "#4D4D4D"
_NAMED = 4  # series that a sentence names
_JUDGED = ("continual_accuracy", "final_accuracy")


def reference_series(
    runs: Sequence[RunResult], references: Sequence[Reference], classes: Classes | None
) -> list[Series]:
    """The reference rows of a grid; none where its evaluations have none (a growing stream).

    Neither methods nor seeds have a part in chance and pixels: one of each. The random network is
    of a seed, step 0's encoder of a method and a seed.
    """
    known = [reference for reference in references if reference.lda]
    if not known:
        return []
    readers = [reader for reader in READERS if any(reader in run.matrices for run in runs)]
    found: list[Series] = []

    def add(key: str, label: str, of_seeds: dict[int, Matrix]) -> None:
        rows = tuple(
            RunResult(
                Point(REFERENCE, key, None, "proportion", seed), dict.fromkeys(readers, matrix)
            )
            for seed, matrix in sorted(of_seeds.items())
        )
        metrics = tuple(run_metrics(row, None) for row in rows)
        found.append(Series(REFERENCE, key, None, "proportion", key, label, _COLOUR, rows, metrics))

    first = known[0]
    if classes is not None:
        add("chance", LABELS["chance"], {first.seed: chance(classes.tasks)})
    add("lda_pixels", LABELS["lda_pixels"], {first.seed: first.lda["lda_pixels"]})
    of_first = [reference for reference in known if reference.method == first.method]
    networks = {reference.seed: reference.lda["lda_random_network"] for reference in of_first}
    add("lda_random_network", LABELS["lda_random_network"], networks)
    for method in dict.fromkeys(reference.method for reference in known):
        add(
            f"{STEP_0}_{method}",
            f"{LABELS[STEP_0]} ({method_label(method)})",
            {
                reference.seed: reference.lda[STEP_0]
                for reference in known
                if reference.method == method
            },
        )
    return found


def chance(tasks: Sequence[Sequence[int]]) -> list[list[float | None]]:
    """What guessing among the classes seen so far comes to, T x T: ``tasks`` are labels of each.

    A class has as many images as each other of its task.
    """
    matrix: list[list[float | None]] = []
    for step in range(len(tasks)):
        seen = {label for labels in tasks[: step + 1] for label in labels}
        row: list[float | None] = []
        for labels in tasks:
            known = len(seen.intersection(labels))
            row.append(known / len(labels) / len(seen) if labels and seen else None)
        matrix.append(row)
    return matrix


def beaten_sentences(metrics: Metrics) -> list[str]:
    """For each reference row that has a higher mean CA or FA than the trained classifier of some
    series a sentence that names them; ``metrics`` as `kaizen.report.tables.nested` makes them.
    """
    rivals = [
        (f"{method_label(method)} {entry['label']}", entry)
        for method, entries in in_order(metrics)
        if method != REFERENCE
        for entry in entries.values()
    ]
    sentences = []
    for row in dict(in_order(metrics)).get(REFERENCE, {}).values():
        parts = []
        for metric in _JUDGED:
            bar = row["classifier"][metric]["mean"]
            behind = [name for name, entry in rivals if _is_below(entry, metric, bar)]
            if behind:
                who = "every row" if len(behind) == len(rivals) else _some(behind)
                parts.append(f"{METRIC_SHORT[metric]} ({percent(bar)} %) that of {who}")
        if parts:
            sentences.append(f"{row['label']} beats trained classifiers: in {'; in '.join(parts)}.")
    return sentences


def _is_below(entry: Mapping[str, Any], metric: str, bar: float | None) -> bool:
    mean = entry["classifier"][metric]["mean"]
    return mean is not None and bar is not None and mean < bar


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
