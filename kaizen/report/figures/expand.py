"""Rows with names in the place of numbers. page.js has the same in `expand` and `spread`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kaizen.evaluation.metrics import METRICS
from kaizen.report.series import HEADLINE
from kaizen.report.tables import ABSENT, MINUS

Expanded = dict[str, Any]

_HEADLINE = [METRICS.index(metric) for metric in HEADLINE]
_OTHER_CLASS = 1_000_000  # the place of a class that no task has: behind all others


def first_rows(
    figure: Mapping[str, Any], data: Mapping[str, Any], words: Mapping[str, Any]
) -> list[Expanded]:
    """The rows of a figure that show without filters set: means over the seeds, read by the
    trained classifier unless the figure has all readers. They are to be `spread` where it says so.

    ``data`` has ``columns`` and ``rows`` (`kaizen.report.figures.rows`), ``words`` what their
    numbers stand for (`kaizen.report.figures.grid.words`).
    """
    expand = Expand(figure, words)
    found: list[Expanded] = []
    for values in data["rows"]:
        row = dict(zip(data["columns"], values, strict=True))
        if figure.get("plain"):
            found.append(row)
        elif _fits(figure, row, words["series"][row["s"]]):
            found.append(expand(row))
    return found


def _fits(figure: Mapping[str, Any], row: Mapping[str, Any], one: Mapping[str, Any]) -> bool:
    return not (
        (figure["seeds"] and row.get("e") is not None)
        or (figure["reader"] and row.get("r", 0) != 0)
        or ("metric" in figure and row.get("x") != figure["metric"])
        or (figure.get("headline") and row.get("x") not in _HEADLINE)
        or (figure.get("rivals") and one["ref"] is not None)
        or (figure.get("replayed") and one["size"] is None)
    )


class Expand:
    """Rows of one figure with all that its specification names."""

    def __init__(self, figure: Mapping[str, Any], words: Mapping[str, Any]) -> None:
        self.figure, self.words = figure, words
        self.series: Sequence[Mapping[str, Any]] = words["series"]
        self.methods = list(dict.fromkeys(one["m"] for one in self.series))
        self.many = len({one["m"] for one in self.series if one["ref"] is None}) > 1
        first: Mapping[str, int] = words["first"]
        by_task = sorted(first, key=lambda label: (first[label], int(label)))
        self.ranks = {int(label): rank for rank, label in enumerate(by_task)}

    def __call__(self, row: Expanded) -> Expanded:
        """``row`` itself, with names, percent and its place in the figure."""
        one = self.series[row["s"]]
        if "v" in row:  # a point of a map has no value
            self._value(row)
        row |= {"method": one["method"], "series": one["label"], "seed": _seed(row)}
        row["panel"] = self._panel(one)
        if one["size"] is not None:
            row["size"] = 100 * one["size"] if one["unit"] == "proportion" else one["size"]
            if self.figure.get("replayed"):
                row["series"] = variant_of(one)
        self._name(row, one)
        return row

    def _value(self, row: Expanded) -> None:
        factor = 1 if self.figure["data"] == "losses" else self.figure.get("factor", 100)
        row["value"] = factor * row["v"]
        row["half"] = None if row.get("i") is None else self.figure.get("factor", 100) * row["i"]
        half = row["half"] or 0
        row |= {"low": row["value"] - half, "high": row["value"] + half}
        least, most = self._within(row)
        if least is not None:
            row["low"] = min(row["value"], max(least, row["low"]))
        if most is not None:
            row["high"] = max(row["value"], min(most, row["high"]))

    def _within(self, row: Expanded) -> Sequence[float | None]:
        """Where the row's interval ends: no accuracy is above 100 %. An estimate may be beyond, as
        that of CKA is of features that are not alike at all; its interval goes that far.
        """
        within: Any = self.figure.get("within") or (None, None)
        by = self.figure.get("within_by")
        found: Sequence[float | None] = within[row[by]] if by else within
        return found

    def _name(self, row: Expanded, one: Mapping[str, Any]) -> None:
        if "r" in row:
            row["reader"] = self.words["readers"][row["r"]]
        if "sure" in row:
            row["confidence"] = 100 * row["sure"]
        if "m" in row:
            row["measure"] = self.words["measures"][row["m"]]
        if "x" in row:
            row["metric"] = self.words["metrics"][row["x"]]
        if self.figure.get("replayed"):
            unit = (self.figure.get("units") or {}).get(one["unit"], "")
            row["both"] = self._of(one, row["metric"]) + unit
        if "o" in row:
            self._difference(row, one)
        if "c" in row:
            row["class"] = self.words["classes"][row["c"]]
            row |= {"task": self.words["first"].get(str(row["c"])), "place": self._rank(row["c"])}
        if "p" in row:
            row |= {"predicted": self.words["classes"][row["p"]], "q": self._rank(row["p"])}
        if "term" in row:
            row["term_place"] = (
                self.methods.index(one["m"]) * len(self.words["terms"]) + row["term"]
            )
            row["number"], row["term"] = row["term"], self.words["terms"][row["term"]]
            row["term_panel"] = self._of(one, row["term"])

    def _of(self, one: Mapping[str, Any], text: str) -> str:
        return f"{one['method']}: {text}" if self.many else text

    def _panel(self, one: Mapping[str, Any]) -> str:
        if one["ref"] is None:
            return self._of(one, one["label"])
        return str(one["label"] if self.many else one["ref"])

    def _difference(self, row: Expanded, one: Mapping[str, Any]) -> None:
        other = self.series[row["o"]]
        row["difference"] = f"{one['label']} {MINUS} {other['label']}"
        row["pair"] = self._of(one, row["difference"])
        row |= {"first": one["label"], "series": other["label"]}
        row["clear"] = row["half"] is not None and abs(row["value"]) > row["half"]

    def _rank(self, label: int) -> int:
        return self.ranks.get(label, _OTHER_CLASS + label)


def _seed(row: Mapping[str, Any]) -> str:
    if row.get("e") is not None:
        return str(row["e"])
    return f"mean of {row['n']}" if row.get("n") else ABSENT


def variant_of(one: Mapping[str, Any]) -> str:
    """A variant without its replay size; the largest size has the variant's own colour."""
    label = str(one["label"])
    return label if one["size"] is None else label.split(",")[0]


def spread(rows: Sequence[Expanded], series: Sequence[Mapping[str, Any]]) -> list[Expanded]:
    """With a panel per method: the reference rows in each that they are of."""
    own = {series[row["s"]]["m"]: row["method"] for row in rows if not series[row["s"]]["ref"]}
    if not own:
        return list(rows)
    found = []
    for row in rows:
        one = series[row["s"]]
        if one["ref"] is None:
            found.append(row)
            continue
        for method, name in own.items():
            if one["of"] in (None, method):
                found.append({**row, "method": name, "series": one["ref"]})
    return found
