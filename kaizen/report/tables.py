"""Tidy tables (Parquet and CSV with the same rows) and the Markdown table of results."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaizen import files
from kaizen.evaluation.metrics import METRICS
from kaizen.evaluation.results import READERS, REFERENCE
from kaizen.params.registry import ANALYTIC_HEADS
from kaizen.report.series import (
    HEAD_SHORT,
    HEADLINE,
    METRIC_SHORT,
    READER_LABELS,
    Series,
    method_label,
)
from kaizen.report.winners import best_heads, best_metrics

Row = dict[str, Any]
# The nested result, as `nested` makes it.
Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]

COLUMNS: dict[str, type] = {
    "method": str,
    "variant": str,
    "replay_size": float,
    "replay_unit": str,
    "seed": int,
    "reader": str,
    "metric": str,
    "value": float,
    "step": int,
    "task": int,
    "accuracy": float,
    "label": int,
    "class": str,
    "variant_a": str,
    "replay_size_a": float,
    "replay_unit_a": str,
    "variant_b": str,
    "replay_size_b": float,
    "replay_unit_b": str,
    "mean": float,
    "interval": float,
    "n": int,
    "better_a": int,
    "images": int,
    "bin": int,
    "confidence": float,
    "calibration_error": float,
    "effective_rank": float,
    "cka_to_step_before": float,
}

MINUS = "\N{MINUS SIGN}"
ABSENT = "\N{EN DASH}"


def result_rows(series: Sequence[Series]) -> list[Row]:
    """One row per method, variant, replay size, seed, reader and metric; ``value`` is a fraction or
    None.
    """
    return [
        {
            **one.columns(),
            "seed": run.point.seed,
            "reader": reader,
            "metric": metric,
            "value": values[reader][metric],
        }
        for one in series
        for run, values in zip(one.runs, one.metrics, strict=True)
        for reader in values
        for metric in METRICS
    ]


def accuracy_rows(series: Sequence[Series]) -> list[Row]:
    """The accuracy matrices, one row per entry: accuracy (0..1) on ``task`` after ``step``, both
    from 0.
    """
    return [
        {
            **one.columns(),
            "seed": run.point.seed,
            "reader": reader,
            "step": step,
            "task": task,
            "accuracy": accuracy,
        }
        for one in series
        for run in one.runs
        for reader, matrix in run.matrices.items()
        for step, row in enumerate(matrix)
        for task, accuracy in enumerate(row)
        if accuracy is not None
    ]


def write_tidy(rows: Sequence[Row], path: Path) -> None:
    """Write rows of the same columns to ``path`` as .parquet and as .csv (None: null, or empty)."""
    import pyarrow
    import pyarrow.parquet

    kinds = {str: pyarrow.string(), int: pyarrow.int32(), float: pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds[COLUMNS[name]]) for name in rows[0]])
    table = pyarrow.Table.from_pylist(list(rows), schema=schema)
    with files.atomic_path(path.with_suffix(".parquet")) as temporary:
        pyarrow.parquet.write_table(table, temporary)
    write_csv(rows, path.with_suffix(".csv"))


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write rows of the same columns as CSV; floats as the shortest text that reads back the
    same.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, text.getvalue())


def nested(series: Sequence[Series]) -> dict[str, dict[str, dict[str, Any]]]:
    """Every estimate: method -> series key -> reader -> metric -> {mean, interval, n}, fractions.

    Besides the readers a series has its ``label``, ``variant``, ``replay_size``, ``replay_unit``
    and ``position``: its place in the grid, which JSON's sorted keys do not keep. ``best`` is
    reader -> the metrics in which it is better than its rivals, and ``best_head`` metric -> the
    head that is better than the others (`kaizen.report.winners`).
    """
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for position, one in enumerate(series):
        entry: dict[str, Any] = {**one.columns(), "label": one.label, "position": position}
        del entry["method"]
        for reader in one.readers():
            estimates = {metric: one.estimate(reader, metric) for metric in METRICS}
            entry[reader] = {
                m: {"mean": e.mean, "interval": e.interval, "n": e.n} for m, e in estimates.items()
            }
        entry["best"] = {reader: best_metrics(one, series, reader) for reader in one.readers()}
        entry["best_head"] = best_heads(one, list(HEAD_SHORT))
        result.setdefault(one.method, {})[one.key] = entry
    return result


def in_order(metrics: Metrics) -> list[tuple[str, dict[str, Mapping[str, Any]]]]:
    """The methods and their series in the grid's order, also after a round trip through JSON."""
    blocks = [
        (method, dict(sorted(entries.items(), key=lambda item: item[1]["position"])))
        for method, entries in metrics.items()
    ]
    return sorted(blocks, key=lambda block: min(entry["position"] for entry in block[1].values()))


def headline(metrics: Metrics) -> dict[str, dict[str, dict[str, Any]]]:
    """The classifier's defined means, for DVC's columns: method -> series key -> CA, FA, F, FT ->
    fraction; and under an analytic head's name, where there is one, the same of it. Without the
    reference rows, which no experiment changes.
    """

    def means(values: Mapping[str, Any]) -> dict[str, Any]:
        found = {METRIC_SHORT[metric]: values[metric]["mean"] for metric in HEADLINE}
        return {name: mean for name, mean in found.items() if mean is not None}

    return {
        method: {
            key: means(entry["classifier"])
            | {kind: means(entry[kind]) for kind in ANALYTIC_HEADS if kind in entry}
            for key, entry in entries.items()
        }
        for method, entries in metrics.items()
        if method != REFERENCE
    }


def cell(value: Mapping[str, Any]) -> str:
    """An estimate in percent, "81.2 ± 1.3"; a dash where it is undefined."""
    if value["mean"] is None:
        return ABSENT
    text = percent(value["mean"])
    return text if value["interval"] is None else f"{text} ± {percent(value['interval'])}"


def cells(
    entries: Mapping[str, Mapping[str, Any]], reader: str, columns: Sequence[str]
) -> dict[str, list[tuple[str, bool]]]:
    """A method's block of the table: series key -> per column its text and whether it is better
    than every rival's (of summaries before that was recorded: nothing is).
    """
    return {
        key: [(cell(entry[reader][m]), m in entry.get("best", {}).get(reader, ())) for m in columns]
        for key, entry in entries.items()
        if reader in entry
    }


def defined(metrics: Metrics, reader: str, columns: Sequence[str] = METRICS) -> list[str]:
    """Those of ``columns`` that have a value somewhere."""
    entries = [
        entry[reader] for block in metrics.values() for entry in block.values() if reader in entry
    ]
    return [
        metric for metric in columns if any(entry[metric]["mean"] is not None for entry in entries)
    ]


def markdown(metrics: Metrics, reader: str) -> str:
    """The table of one reader in Markdown: a row per method and series."""
    columns = defined(metrics, reader)
    header = ["Method", "Variant", *(METRIC_SHORT[metric] for metric in columns)]
    lines = [markdown_line(header), markdown_line(["---", "---", *["---:"] * len(columns)])]
    for method, entries in in_order(metrics):
        for key, row in cells(entries, reader, columns).items():
            texts = [f"**{text}**" if best else text for text, best in row]
            lines.append(markdown_line([method_label(method), entries[key]["label"], *texts]))
    return "\n".join(lines) + "\n"


def heads_markdown(metrics: Metrics) -> str:
    """CA and FA of each head side by side; empty where there is the trained one alone. Without the
    reference rows, which have one head each.
    """
    heads = present_heads(metrics)
    if len(heads) < 2:
        return ""
    columns = ("continual_accuracy", "final_accuracy")
    names = [f"{METRIC_SHORT[metric]}, {HEAD_SHORT[head]}" for metric in columns for head in heads]
    header = ["Method", "Variant", *names]
    lines = [markdown_line(header), markdown_line(["---", "---", *["---:"] * len(names)])]
    for method, entries in in_order(metrics):
        if method == REFERENCE:
            continue
        for entry in entries.values():
            texts = []
            for metric in columns:
                row = [cell(entry[head][metric]) if head in entry else ABSENT for head in heads]
                best = entry.get("best_head", {}).get(metric)
                texts += [
                    f"**{text}**" if head == best else text
                    for text, head in zip(row, heads, strict=True)
                ]
            lines.append(markdown_line([method_label(method), entry["label"], *texts]))
    return "\n".join(lines) + "\n"


def present_heads(metrics: Metrics) -> list[str]:
    """The readers that are heads, the trained classifier first: those of some series."""
    entries = [entry for block in metrics.values() for entry in block.values()]
    return [head for head in HEAD_SHORT if any(head in entry for entry in entries)]


def all_markdown(metrics: Metrics) -> str:
    """One Markdown table per reader, each under its name; before them, of several heads, one that
    has them side by side.
    """
    present = [
        r
        for r in READERS
        if any(r in entry for block in metrics.values() for entry in block.values())
    ]
    heads = heads_markdown(metrics)
    parts = [f"### Heads side by side\n\n{heads}"] if heads else []
    parts += [f"### {READER_LABELS[reader]}\n\n{markdown(metrics, reader)}" for reader in present]
    return "\n".join(parts)


def percent(fraction: float) -> str:
    """A fraction in percent with one decimal and a true minus sign; never "-0.0"."""
    text = f"{100 * fraction:.1f}"
    return ("0.0" if text == "-0.0" else text).replace("-", MINUS)


def markdown_line(texts: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"
