"""The summary of a grid: metrics for DVC, tidy tables, figures and the report's page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaizen import files
from kaizen.evaluation.metrics import Reference, RunResult
from kaizen.params import ReportParams
from kaizen.report import tables
from kaizen.report.figures import draw_figures
from kaizen.report.losses import History
from kaizen.report.series import group

_CAPTIONS = {
    "accuracy_bars": "Continual accuracy (over the whole stream) and final accuracy (after its last task).",
    "per_task_heatmap": "Accuracy on each task after each step. Read downwards, a column shows how a task "
    "is forgotten; the diagonal is each task just after it was learnt.",
    "accuracy_over_steps": "Mean accuracy on the tasks seen so far. It falls for every variant, as there are more and "
    "more classes to tell apart; the slower the better.",
    "replay_size": "Accuracy, forgetting and forward transfer against the size of the replay memory.",
    "loss_terms": "The terms of the loss during training, each the mean of an epoch and without its weight; tasks one "
    "after the other, one seed per variant. Terms that a variant does not have are left out; step 0, which has no "
    "step before it to distil from, is the same for all. Terms that span magnitudes have a logarithmic axis.",
}

_HOW_TO_READ = """\
Every accuracy is measured on held-out test images, the classifier choosing among all classes of the stream: it is
never told which task an image belongs to. With T tasks, A[t,i] is the accuracy on task i after step t (tasks and steps
are counted from 0, as in the files' names).

- **CA**, continual accuracy: the mean over all steps of the accuracy on the tasks seen so far. Higher is better.
- **FA**, final accuracy: the mean over all tasks after the last step. Higher is better.
- **F**, forgetting: how far a task's accuracy has fallen from its best at any step to the last one, in percentage
  points, mean over all tasks but the last. Lower is better, 0 is best.
- **FT**, forward transfer: accuracy on a task just learnt minus that of a specialist, a model trained on this task
  alone, in percentage points. A specialist has few classes to tell apart, so it is usually negative; higher is better.
- **FT probe**: accuracy of a probe on a task *before* it is learnt minus that of the same probe on a random network.
- **BWT**, backward transfer: accuracy on a task after the last step minus that just after learning it.
"""


def write_summary(
    runs: Sequence[RunResult],
    references: Sequence[Reference],
    report: ReportParams,
    context: dict[str, Any],
    out: Path,
    histories: Sequence[History] = (),
) -> dict[str, Any]:
    """Write the summary of a grid into the folder ``out`` and return the content of metrics_full.json.

    Files: metrics.json (the classifier's means: method -> variant -> CA, FA, F, FT, BWT), metrics_full.json (every
    reader and metric with interval and n), results and accuracy (.parquet and .csv, tidy), table.md, report.md,
    figures/<name>.<format> and figures/<name>.csv. The same input gives the same bytes. ``context`` is shown at the
    head of the report: plain values, lists or nested mappings. ``histories`` are those of one run per series, or
    of none: the figure of the loss terms is left out then.
    Raises KaizenError on runs that do not belong together and where ``out`` cannot be written.
    """
    series = group(runs, references)
    metrics = tables.nested(series)
    files.write_json(out / "metrics.json", tables.headline(metrics))
    files.write_json(out / "metrics_full.json", metrics)
    tables.write_tidy(tables.result_rows(series), out / "results")
    tables.write_tidy(tables.accuracy_rows(series), out / "accuracy")
    table = tables.all_markdown(metrics)
    files.write_text(out / "table.md", table)
    figures = draw_figures(series, histories, report, out / "figures")
    seeds = max(len(one.runs) for one in series)
    files.write_text(out / "report.md", _page(report, context, table, seeds, figures, out))
    return metrics


def _page(
    report: ReportParams, context: Mapping[str, Any], table: str, seeds: int, figures: Sequence[Path], out: Path
) -> str:
    """The report in Markdown; figures by paths relative to ``out``."""
    interval = f"mean ± 95 % interval over {seeds} seeds (Student's t)" if seeds > 1 else "one seed"
    parts = [f"# {report.title}\n"]
    if context:
        parts.append("\n".join(f"- {name}: {value}" for name, value in _flat(context)) + "\n")
    parts.append(f"## Results\n\nIn percent; {interval}; the best of each method in bold.\n\n{table}")
    parts.append(f"## How to read\n\n{_HOW_TO_READ}")
    parts.append(
        "## Figures\n\nAccuracies are the trained classifier's. The data of each figure lie beside it as CSV.\n"
    )
    by_name: dict[str, list[str]] = {}
    for path in figures:
        by_name.setdefault(path.stem, []).append(os.path.relpath(path, out))
    for name, paths in by_name.items():
        shown = [path for path in paths if not path.endswith(".pdf")]
        head = f"![{_CAPTIONS[name]}]({shown[0]})\n\n" if shown else ""
        links = ", ".join(f"[{Path(path).suffix[1:]}]({path})" for path in [*paths, f"figures/{name}.csv"])
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
