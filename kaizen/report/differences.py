"""Paired differences between the variants of a method: at the same seeds, A - B."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from kaizen.evaluation.metrics import METRICS
from kaizen.evaluation.statistics import Difference
from kaizen.report.series import HEADLINE, METRIC_SHORT, Series, method_label
from kaizen.report.tables import ABSENT, MINUS, Row, markdown_line, percent
from kaizen.report.winners import difference

_SUBJECT = "kaizen"


def difference_rows(series: Sequence[Series]) -> list[Row]:
    """One row per pair of a method's series (the earlier one is A), reader and metric that both
    have.

    ``mean`` and ``interval`` are fractions, ``n`` the number of seeds, ``better_a`` in how many of
    them A is better.
    """
    rows: list[Row] = []
    for a, b in itertools.combinations(series, 2):
        if a.method != b.method:
            continue
        identity = {"method": a.method, **_side(a, "a"), **_side(b, "b")}
        for reader in (reader for reader in a.readers() if reader in b.readers()):
            for metric in METRICS:
                found = difference(a, b, reader, metric)
                if found.n:
                    values = {
                        "mean": found.mean,
                        "interval": found.interval,
                        "n": found.n,
                        "better_a": found.better,
                    }
                    rows.append({**identity, "reader": reader, "metric": metric, **values})
    return rows


def _side(one: Series, side: str) -> Row:
    """What identifies a series within its method, as the columns of side "a" or "b"."""
    return {f"{name}_{side}": value for name, value in one.columns().items() if name != "method"}


def differences_markdown(series: Sequence[Series]) -> str:
    """Kaizen against each other variant by the trained classifier, in percentage points; empty
    without such a pair.

    "+12.3 ± 4.5 (3/3)": mean, 95 % interval, and in how many seeds Kaizen is better; bold where the
    interval excludes 0.
    """
    pairs = [
        (a, b)
        for a, b in itertools.product(series, series)
        if a.method == b.method and a.variant == _SUBJECT != b.variant
    ]
    found = [[difference(a, b, "classifier", metric) for metric in HEADLINE] for a, b in pairs]
    places = [place for place in range(len(HEADLINE)) if any(row[place].n for row in found)]
    if not places:
        return ""
    header = ["Method", "Difference", *(METRIC_SHORT[HEADLINE[place]] for place in places)]
    lines = [markdown_line(header), markdown_line(["---", "---", *["---:"] * len(places)])]
    for (a, b), row in zip(pairs, found, strict=True):
        texts = [_cell(row[place]) for place in places]
        lines.append(
            markdown_line([method_label(a.method), f"{a.label} {MINUS} {b.label}", *texts])
        )
    return "\n".join(lines) + "\n"


def _cell(found: Difference) -> str:
    """A difference in percentage points with its sign; a dash where it is undefined."""
    if found.mean is None:
        return ABSENT
    text = percent(found.mean)
    text = text if text.startswith(MINUS) else f"+{text}"
    if found.interval is None:
        return text
    text = f"{text} ± {percent(found.interval)}"
    return (
        f"{f'**{text}**' if abs(found.mean) > found.interval else text} ({found.better}/{found.n})"
    )
