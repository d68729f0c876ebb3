"""The summary of a grid: metrics for DVC, tidy tables, figures and the report's page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaizen import files
from kaizen.evaluation.results import Reference, RunResult
from kaizen.params import ReportParams
from kaizen.report import tables
from kaizen.report.classes import Classes, per_class_rows
from kaizen.report.differences import difference_rows, differences_markdown
from kaizen.report.figures.grid import Grid
from kaizen.report.figures.summary import draw_figures
from kaizen.report.losses import History
from kaizen.report.markdown import plain
from kaizen.report.recorded import (
    calibration_markdown,
    calibration_rows,
    feature_rows,
    reliability_rows,
)
from kaizen.report.reference_rows import beaten_sentences, reference_series
from kaizen.report.series import Series, group

_CAPTIONS = {
    "accuracy_bars": (
        "The metrics of every series with their intervals: continual accuracy (over the whole "
        "stream), final accuracy (after its last task), forgetting and forward transfer. Each "
        "panel has an axis of its own."
    ),
    "per_task_heatmap": (
        "Accuracy on each task after each step. Read downwards, a column shows how a task is "
        "forgotten; the diagonal is each task just after it was learnt."
    ),
    "accuracy_over_steps": (
        "Mean accuracy on the tasks seen so far, with the interval as a band. It falls for every "
        "variant, as there are more and more classes to tell apart; the slower the better."
    ),
    "heads": (
        "Final accuracy of each reader of the same features: the trained head, those that are "
        "solved from statistics, and the probes."
    ),
    "replay_size": (
        "Accuracy, forgetting and forward transfer against the size of the replay memory, which "
        "is to scale."
    ),
    "differences": (
        "Differences between variants at the same seeds, in percentage points; filled where the "
        "interval excludes 0."
    ),
    "confusion_matrix": (
        "What the classifier takes the images of each class (a row) for after the last step, in "
        "percent of the class; classes in the order of the stream. A dark column is a class that "
        "others are mistaken for: where the classifier forgets, those of the last task. With many "
        "classes the colours follow the square root of the share, so that errors spread over them "
        "show, and axes count the tasks."
    ),
    "loss_terms": (
        "The terms of the loss during training, each the mean of an epoch and without its weight; "
        "tasks one after the other, one seed per variant. Terms that a variant does not have are "
        "left out; step 0, which has no step before it to distil from, is the same for all. Joint "
        "training has no stream and is not shown. Terms that span magnitudes have a logarithmic "
        "axis, which says so."
    ),
    "calibration_error": (
        "The expected calibration error of the trained classifier after each step: how far "
        "accuracy and confidence are apart, in percentage points. Lower is better."
    ),
    "features": (
        "The effective rank of the features of a few test images after each step, and how alike "
        "they are to those of the step before (CKA; 1 is the same)."
    ),
}

_HOW_TO_READ = """\
Every accuracy is measured on held-out test images, the classifier choosing among all classes of the
stream: it does not know which task an image belongs to. With T tasks, A[t,i] is the accuracy on
task i after step t (tasks and steps are counted from 0, as in the files' names).

- **CA**, continual accuracy: the mean over all steps of the accuracy on the tasks seen so far.
  Higher is better.
- **FA**, final accuracy: the mean over all tasks after the last step. Higher is better.
- **F**, forgetting: how far a task's accuracy has fallen from its best at any step to the last one,
  in percentage points, mean over all tasks but the last. Lower is better, 0 is best.
- **FT**, forward transfer: accuracy on a task just learnt minus that of a specialist, a model
  trained on this task alone, in percentage points. A specialist has few classes to tell apart, so
  it is usually negative; higher is better.
- **FT probe**: accuracy of a probe on a task *before* it is learnt minus that of the same probe on
  a random network.
- **BWT**, backward transfer: accuracy on a task after the last step minus that just after learning
  it.

*Analytic heads* (`grid.heads`) are classifiers in closed form on the run's own encoder: statistics
of each class, carried from step to step without an image, and one system of equations
(docs/heads.md).

*Reference* rows are no rivals, but what accuracies are read by, and are the same in every table.
*Chance* guesses among the classes seen so far. *LDA* is streaming linear discriminant analysis: the
mean of each class seen so far and one covariance of all, in one pass over the labelled images and
with no image kept, on features that nothing trained on the stream: the pixels (averaged down to at
most 16 a side), an untrained network, and the encoder of step 0, frozen. Where a method is below
such a row, the grid does not show what learning from the stream is good for.

The same features are read in further ways. The *linear probe on the labels of all tasks* and the *k
nearest neighbours* say what the features hold, whether or not a task was learnt yet. The *linear
probe on the labels of the tasks seen* is fitted after each step on what the stream has brought so
far, CaSSLe's own protocol: the fairer view of a baseline whose classifier learns from the current
task's labels only.

*Joint training* learns all tasks at once: no rival, and no bound that nothing can exceed. Its one
model stands for every step, so nothing is forgotten or transferred and those figures are undefined
(a dash).

*Supervised* has no self-supervised loss: the labels alone train the encoder, through the
classifier, whose hidden layer stands where a method has its projector. Images without a label take
no part. No SSL method does either, so a grid has it once per seed.

*Calibration*: confidence is the largest of the probabilities that a model answers with, the softmax
over all its classes. The *expected calibration error* (ECE) is how far accuracy and confidence are
apart in a bin of confidence, mean over the test images of the tasks seen so far. Scores of the
*ridge* head are no probabilities; their softmax, which is what it answers with, is far too unsure.

*Features* are looked at on a few test images, the same after each step. Their *effective rank* is
how many directions they take up: exp of the entropy of the singular values' shares. *CKA* says how
alike they are to those of the step before, whatever turn or scale lies between: 1 is the same.
"""

_BOLD = (
    "bold where the interval of the difference to every other variant of the method, at the same "
    "seeds, excludes 0 (side by side: to every other head)"
)
_TABLES = {
    "results": "every metric of every run and reader",
    "accuracy": "the accuracy matrices: accuracy on each task after each step",
    "differences": (
        "differences of each metric between any two variants of a method, paired by seed"
    ),
    "per_class": "the classifier's accuracy on each class after each step",
    "calibration": "the expected calibration error of classifier and heads after each step",
    "reliability": "accuracy and confidence by bins of confidence after the last step",
    "features": "the features' effective rank, and how alike they are to those of the step before",
}


def write_summary(
    runs: Sequence[RunResult],
    references: Sequence[Reference],
    report: ReportParams,
    context: dict[str, Any],
    out: Path,
    *,
    histories: Sequence[History] = (),
    classes: Classes | None = None,
    trained: str = "",
) -> dict[str, Any]:
    """Write the summary of a grid into the folder ``out`` and return the content of
    metrics_full.json.

    Files: metrics.json (the classifier's means: method -> variant -> CA, FA, F, FT),
    metrics_full.json (every reader and metric with interval and n); results, accuracy, differences
    (where a method has several series) and per_class (.parquet and .csv, tidy); table.md,
    report.md, figures/<name>.<format> and figures/<name>.csv. The same input gives the same bytes.
    ``context`` is shown at the head of the report: plain values, lists or nested mappings.
    ``histories`` are those of one run per series, or of none: the figure of the loss terms is left
    out then; per_class and the figure of the confusion are without ``classes`` or the runs'
    confusion. ``trained`` is the section on what was trained on (`kaizen.report.trained_on`).
    Raises KaizenError on runs that do not belong together and where ``out`` cannot be
    written.
    """
    series = group(runs, references)
    levels = reference_series(runs, references, classes)
    metrics = tables.nested([*series, *levels])
    files.write_json(out / "metrics.json", tables.headline(metrics))
    files.write_json(out / "metrics_full.json", metrics)
    tidy = {
        "results": tables.result_rows([*series, *levels]),
        "accuracy": tables.accuracy_rows([*series, *levels]),
        "differences": difference_rows(series),
        "per_class": per_class_rows(series, classes) if classes else [],
        "calibration": calibration_rows(series),
        "reliability": reliability_rows(series),
        "features": feature_rows(series),
    }
    tidy = {name: rows for name, rows in tidy.items() if rows}
    for name, rows in tidy.items():
        tables.write_tidy(rows, out / name)
    table = tables.all_markdown(metrics)
    files.write_text(out / "table.md", table)
    grid = Grid(
        series=tuple(series), references=tuple(levels), classes=classes, histories=histories
    )
    figures = draw_figures(grid, report, out / "figures")
    seeds = max(len(one.runs) for one in series)
    interval = (
        f"mean ± 95 % interval over {seeds} seeds (Student's t); {_BOLD}"
        if seeds > 1
        else ("one seed, which cannot say what is better than what")
    )
    sections = {
        "Results": f"In percent; {interval}.\n\n{table}" + _beaten(metrics),
        "Differences": _differences(series, seeds),
        "Calibration": calibration_markdown(series),
        "What was trained on": trained,
        "How to read": _HOW_TO_READ,
        "Tables": "The same as tidy tables, fractions instead of percent:\n\n"
        + "".join(
            f"- {_TABLES[name]} ([parquet]({name}.parquet), [csv]({name}.csv))\n" for name in tidy
        ),
        "Figures": _figures(figures, out),
    }
    parts = [f"# {plain(' '.join(report.title.split()))}\n"]
    if context:
        parts.append("\n".join(f"- {name}: {value}" for name, value in _flat(context)) + "\n")
    parts += [f"## {name}\n\n{text}" for name, text in sections.items() if text]
    files.write_text(out / "report.md", "\n".join(parts))
    return metrics


def _beaten(metrics: tables.Metrics) -> str:
    """Where a reference row beats a series, in words; empty where none does."""
    sentences = beaten_sentences(metrics)
    return (sentences and "\n" + "".join(f"- **{text}**\n" for text in sentences)) or ""


def _differences(series: Sequence[Series], seeds: int) -> str:
    """Kaizen against the other variants, with a word on how to read it; empty where there is
    nothing to compare.
    """
    table = differences_markdown(series)
    paired = (
        "mean ± 95 % interval of the differences at the same seed, bold where it excludes 0; in "
        "brackets in how many seeds Kaizen is better (F: lower)"
        if seeds > 1
        else "one seed, so without an interval"
    )
    return table and f"Of the trained classifier, in percentage points; {paired}.\n\n{table}"


def _figures(figures: Sequence[Path], out: Path) -> str:
    """The figures with their captions; paths relative to ``out``."""
    parts = [
        "Accuracies are the trained classifier's; lines and marks in dark grey are the reference "
        "rows. The data of each figure are next to it as CSV.\n"
    ]
    by_name: dict[str, list[str]] = {}
    for path in figures:
        by_name.setdefault(path.stem, []).append(os.path.relpath(path, out))
    for name, paths in by_name.items():
        shown = [path for path in paths if not path.endswith(".pdf")]
        head = f"![{_CAPTIONS[name]}]({shown[0]})\n\n" if shown else ""
        links = ", ".join(
            f"[{Path(path).suffix[1:]}]({path})" for path in [*paths, f"figures/{name}.csv"]
        )
        parts.append(f"{head}{_CAPTIONS[name]} ({links})\n")
    return "\n".join(parts)


def _flat(context: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as dotted names, lists joined by commas."""
    pairs: list[tuple[str, str]] = []
    for name, value in context.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            pairs.append((f"{prefix}{name}", tables.ABSENT if value is None else text))
    return pairs
