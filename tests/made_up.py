"""Made-up results of a grid for tests of the report: runs with matrices and confusion, references,
histories; and how a table is read back.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kaizen.evaluation.calibration import binned
from kaizen.evaluation.confusion import Counts
from kaizen.evaluation.kept import KeptFeatures
from kaizen.evaluation.looks import looks_of
from kaizen.evaluation.recorded import ShownImages
from kaizen.evaluation.results import READERS, Matrix, Reference, RunResult
from kaizen.params import ReplayUnit
from kaizen.plan.point import Point
from kaizen.report import tables
from kaizen.report.classes import Classes
from kaizen.report.losses import History
from kaizen.training.terms import TERMS

TASKS = 3
EPOCHS = 4


CLASSES = Classes(("ant", "bee", "cat", "dog", "eel", "fox"), ((3, 0), (5, 1), (2, 4)))
IMAGES = 20  # of each class
RANDOM = {"linear_probe": [0.3] * TASKS, "knn": [0.2] * TASKS}


def matrix(keep: float, seed: int) -> Matrix:
    """Accuracies that fall by ``keep`` with every step after a task was learnt."""
    rng = np.random.default_rng([seed, round(100 * keep)])
    a = np.array(
        [[0.9 * keep ** (t - i) if i <= t else 0.0 for i in range(TASKS)] for t in range(TASKS)]
    )
    found: Matrix = (a * (1 - 0.05 * rng.random(a.shape))).tolist()
    return found


def confusion(accuracies: Matrix) -> list[Counts]:
    """Per step, counts with about the given accuracies; errors go to the step's last class, its own
    to the first.
    """
    steps: list[Counts] = []
    for step, row in enumerate(accuracies):
        counts: dict[tuple[int, int], int] = {}
        for task, labels in enumerate(CLASSES.tasks):
            for label in labels:
                right = round(IMAGES * (row[task] or 0.0))
                wrong = CLASSES.tasks[step][0 if label == CLASSES.tasks[step][-1] else -1]
                counts |= {
                    pair: n
                    for pair, n in (((label, label), right), ((label, wrong), IMAGES - right))
                    if n
                }
        steps.append(counts)
    return steps


def grid(
    methods: Sequence[str] = ("simclr",),
    variants: Sequence[tuple[str, float]] = (("kaizen", 0.9),),
    seeds: Sequence[int] = (0,),
    sizes: Sequence[float] = (0.1,),
    unit: ReplayUnit = "proportion",
) -> tuple[list[RunResult], list[Reference]]:
    """The runs of a grid, the variants each with the ``keep`` of its `matrix`, and the
    references.
    """
    runs = [
        RunResult(
            Point(method, variant, size, unit, seed),
            {reader: matrix(keep + min(size or 0, 0.5) / 10, seed) for reader in READERS},
            confusion(matrix(keep + min(size or 0, 0.5) / 10, seed)),
        )
        for method in methods
        for variant, keep in variants
        for size in (sizes if variant == "kaizen" else (None,))
        for seed in seeds
    ]
    references = [
        Reference(method, seed, {r: [0.95] * TASKS for r in READERS}, RANDOM)
        for method in methods
        for seed in seeds
    ]
    return runs, references


def recorded(run: RunResult, images: int = 12) -> RunResult:
    """The run with calibration and with features of ``images`` kept images of each task."""
    rng = np.random.default_rng([run.point.seed, len(run.point.variant)])
    shown = ShownImages.of([np.repeat(labels, images // 2) for labels in CLASSES.tasks])
    kept = [KeptFeatures(shown, rng.normal(size=(len(shown.row), 8))) for _ in range(TASKS)]
    sure = [rng.random(40) for _ in range(TASKS)]
    bins = [{r: binned(s, rng.random(40) < s) for r in ("classifier", "lda")} for s in sure]
    return dataclasses.replace(run, calibration=bins, looks=looks_of(kept))


def history(run: RunResult) -> History:
    """A run's loss terms: step 0 is the same for all variants, no_distill never distils, only
    kaizen does L_C_KD.
    """

    def value(term: str, step: int, epoch: int) -> float:
        has = {
            "L_FE_KD": run.point.variant != "no_distill",
            "L_C_KD": run.point.variant == "kaizen",
        }
        if term.endswith("KD") and not (step and has[term]):
            return 0.0
        own = len(run.point.variant) + (run.point.replay_size or 0) if step else 0
        return 3.0 + step / 2 + own / 50 + 0.5**epoch

    steps = tuple(
        tuple({t: value(t, step, e) for t in TERMS} for e in range(EPOCHS))
        for step in range(run.tasks)
    )
    return History(
        run.point,
        steps,
    )


def histories(runs: Sequence[RunResult]) -> list[History]:
    """The histories of the runs of the first seed."""
    return [history(run) for run in runs if run.point.seed == 0]


THREE = (("kaizen", 0.9), ("cassle", 0.3), ("no_distill", 0.2))


def parse_csv(path: Path) -> list[dict[str, Any]]:
    """The rows of a table that the report wrote, with the types of its columns."""

    def parse(name: str, text: str) -> Any:
        if text == "":
            return None
        return tables.COLUMNS[name](text)

    with open(path, newline="") as file:
        return [
            {name: parse(name, text) for name, text in row.items()} for row in csv.DictReader(file)
        ]
