"""Made-up results of a grid for tests of the report: runs with matrices and confusion, references,
histories.
"""

from __future__ import annotations

import numpy as np

from kaizen.evaluation.results import READERS, Reference, RunResult
from kaizen.plan.point import Point
from kaizen.report.classes import Classes
from kaizen.report.losses import History
from kaizen.training.terms import TERMS

TASKS = 3
EPOCHS = 4


CLASSES = Classes(("ant", "bee", "cat", "dog", "eel", "fox"), ((3, 0), (5, 1), (2, 4)))
IMAGES = 20  # of each class
RANDOM = {"linear_probe": [0.3] * TASKS, "knn": [0.2] * TASKS}


def matrix(keep: float, seed: int) -> np.ndarray:
    """Accuracies that fall by ``keep`` with every step after a task was learnt."""
    rng = np.random.default_rng([seed, round(100 * keep)])
    a = np.array(
        [[0.9 * keep ** (t - i) if i <= t else 0.0 for i in range(TASKS)] for t in range(TASKS)]
    )
    return a * (1 - 0.05 * rng.random(a.shape))


def confusion(accuracies):
    """Per step, counts with about the given accuracies; errors go to the step's last class, its own
    to the first.
    """
    steps = []
    for step, row in enumerate(accuracies):
        counts = {}
        for task, labels in enumerate(CLASSES.tasks):
            for label in labels:
                right = round(IMAGES * row[task])
                wrong = CLASSES.tasks[step][0 if label == CLASSES.tasks[step][-1] else -1]
                counts |= {
                    pair: n
                    for pair, n in (((label, label), right), ((label, wrong), IMAGES - right))
                    if n
                }
        steps.append(counts)
    return steps


def grid(
    methods=("simclr",), variants=(("kaizen", 0.9),), seeds=(0,), sizes=(0.1,), unit="proportion"
):
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


def history(run):
    """A run's loss terms: step 0 is the same for all variants, no_distill never distils, only
    kaizen does L_C_KD.
    """

    def value(term, step, epoch):
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


def histories(runs):
    return [history(run) for run in runs if run.point.seed == 0]


THREE = (("kaizen", 0.9), ("cassle", 0.3), ("no_distill", 0.2))
