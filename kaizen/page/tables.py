"""The page's tables as HTML: readable without JavaScript, every number a button for its origin."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kaizen.evaluation.metrics import METRICS
from kaizen.evaluation.results import READERS, REFERENCE
from kaizen.page.results import Results
from kaizen.report.series import (
    HEAD_SHORT,
    LOWER_IS_BETTER,
    METRIC_LABELS,
    METRIC_SHORT,
    Series,
    method_label,
)
from kaizen.report.tables import ABSENT, MINUS, cell, percent
from kaizen.report.winners import best_metrics

_MOST_ROWS = 400  # of a table behind a figure before JavaScript fills it
READER_SHORT = {
    **HEAD_SHORT,
    "linear_probe": "probe, all labels",
    "linear_probe_seen": "probe, labels seen",
    "knn": "nearest neighbours",
}


def escape(text: object) -> str:
    """Any text for HTML, in an element or an attribute; what cannot be shown as a sign."""
    shown = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in str(text))
    return html.escape(shown, quote=True)


def headline(results: Results) -> str:
    """Every metric of every series by every reader; without JavaScript all rows are there, with it
    those of the filters.
    """
    columns = [m for m in METRICS if any(_defined(results, reader, m) for reader in READERS)]
    head = ["Method", "Variant", "Read by", "Seed"]
    cells = "".join(f"<th scope=col>{name}</th>" for name in head)
    for metric in columns:
        arrow = "\N{DOWNWARDS ARROW}" if metric in LOWER_IS_BETTER else "\N{UPWARDS ARROW}"
        cells += (
            f'<th scope=col class=r data-x={METRICS.index(metric)} title="{METRIC_LABELS[metric]}">'
            f"{METRIC_SHORT[metric]} {arrow}</th>"
        )
    rows = "".join(_headline_rows(results, columns))
    return (
        "<div class=scroll tabindex=0 role=region aria-label='Table of results'>"
        f"<table id=headline><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _headline_rows(results: Results, columns: Sequence[str]) -> Iterator[str]:
    for r, reader in enumerate(READERS):
        for s, one in enumerate(results.all):
            if reader not in one.readers():
                continue
            entry = results.metrics[one.method][one.key][reader]
            best = best_metrics(one, results.series, reader)
            seeds = len(one.runs)
            name = f"mean of {seeds}" if seeds > 1 else "" if not results.seeds else _one_seed(one)
            yield _row(s, r, None, one, name, [(cell(entry[m]), m in best) for m in columns])
            if seeds < 2 or one.method == REFERENCE:
                continue
            for run, values in zip(one.runs, one.metrics, strict=True):
                texts = [_text(values[reader][metric]) for metric in columns]
                seed = run.point.seed
                yield _row(s, r, seed, one, str(seed), [(text, False) for text in texts])


def _one_seed(one: Series) -> str:
    return ABSENT if one.method == REFERENCE else str(one.runs[0].point.seed)


def _text(value: float | None) -> str:
    return ABSENT if value is None else percent(value)


def _row(
    s: int, r: int, e: int | None, one: Series, seed: str, cells: Sequence[tuple[str, bool]]
) -> str:
    kind = " class=ref" if one.method == REFERENCE else ""
    hidden = "" if r == 0 and e is None else " hidden"
    seed_attribute = "" if e is None else e
    head = f'<tr data-s={s} data-r={r} data-e="{seed_attribute}"{kind}{hidden}>'
    head += f"<td>{escape(method_label(one.method))}</td><th scope=row>{escape(one.label)}</th>"
    read = ABSENT if one.method == REFERENCE else READER_SHORT[READERS[r]]
    head += f"<td>{escape(read)}</td><td>{escape(seed)}</td>"
    return head + "".join(_number(text, best) for text, best in cells) + "</tr>"


def _number(text: str, best: bool) -> str:
    if text == ABSENT:
        return f"<td class=r>{ABSENT}</td>"
    shown = f"<b>{text}</b>" if best else text
    return f"<td class=r><button class=n>{shown}</button></td>"


def _defined(results: Results, reader: str, metric: str) -> bool:
    entries = (e for block in results.metrics.values() for e in block.values())
    return any(reader in entry and entry[reader][metric]["mean"] is not None for entry in entries)


def figure_table(figure: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The table behind a figure as it is before JavaScript fills it by the filters."""
    columns = figure["columns"]
    head = "".join(
        f"<th scope=col{'' if kind == 'text' else ' class=r'}>{escape(name)}</th>"
        for _, name, kind in columns
    )
    lines = []
    for row in rows[:_MOST_ROWS]:
        texts = [(write(row.get(field), kind), kind) for field, _, kind in columns]
        lines.append(
            "<tr>"
            + "".join(
                f"<td>{escape(text)}</td>" if kind == "text" else f"<td class=r>{escape(text)}</td>"
                for text, kind in texts
            )
            + "</tr>"
        )
    more = f"<p>{len(rows) - _MOST_ROWS} more rows are in the CSV.</p>" if rows[_MOST_ROWS:] else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{more}"


def write(value: Any, kind: str) -> str:
    """A value of a column; page.js has the same in `write`."""
    if value is None:
        return ABSENT
    if kind in ("percent", "half"):
        return f"{value:.1f}".replace("-", MINUS)
    if kind == "points":
        return ("" if value < 0 else "+") + f"{value:.1f}".replace("-", MINUS)
    if kind == "number":
        return f"{value:.4g}".replace("-", MINUS)
    return str(value)
