"""A figure's specification with its rows put in, for print. page.js has the same in `specOf`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kaizen.report.figures.expand import Expanded, variant_of
from kaizen.report.figures.specs import Spec

# Bundled with vl-convert, so that bytes do not depend on the machine's fonts; as wide as Arial.
FONT = "Liberation Sans"
_INK, _GRID = "#222222", "#dddddd"
TEXT = 12.0  # of axes and legends
SMALL = 11.0  # the smallest text; numbers in cells have it
LABELS = 0.38  # of the width, names at an axis take at most
LETTER = 6.3  # the width of a letter of TEXT, about
_MOST_LINES = 3  # of a line below the title
_LOGARITHMIC_FROM = 20  # largest over smallest value
_SYMBOL = 44.0  # a legend's mark and the gap behind a text
# All that the font has, by whole blocks: Latin, Greek, Cyrillic, signs of texts and sums.
_FOREIGN = re.compile(
    "[^ -~\u00a0-\u017f\u038e-\u03a1\u03a3-\u03ce\u0400-\u045f\u2013\u2014\u2018-\u201e\u2022\u2026"
    "\u2190-\u2193\u2212\u221a\u221e\u2248\u2260\u2264\u2265\u20ac\u25a1\n]"
)


@dataclass(frozen=True)
class Room:
    """Where a figure is drawn, in the specification's pixels: ``wide`` is all of it, ``columns``
    panels stand in a row, each ``panel`` wide, or ``cell`` a cell of a map.
    """

    wide: float
    columns: int = 1
    panel: float = 200.0
    cell: float | None = None
    height: float | None = None
    full: bool = False  # no place of a row is without a panel: outer panels alone have axes


def drawable(text: str, otherwise: str | None = None) -> str:
    """``text`` with a box in the place of what the font does not have, or ``otherwise``."""
    if otherwise is not None:
        return otherwise if _FOREIGN.search(text) else text
    return _FOREIGN.sub("\u25a1", text)


def balanced(text: str, letters: int) -> list[str]:
    """``text`` in as few lines of at most ``letters`` as it takes, all about as long: none has one
    word alone because the others are full.
    """
    import textwrap

    letters = max(letters, 4)
    lines = textwrap.wrap(text, letters, break_on_hyphens=False) or [""]
    longest = max(map(len, text.split()), default=0)
    for width in range(letters - 1, max(longest, 4) - 1, -1):
        tried = textwrap.wrap(text, width, break_on_hyphens=False)
        if len(tried) > len(lines):
            break
        lines = tried or lines
    return lines


def _few(text: str, letters: int) -> list[str]:
    """``text`` in lines, a few at most: a longer one would leave no room for the panels."""
    lines = balanced(text[: letters * _MOST_LINES], letters)[:_MOST_LINES]
    if len(text) > letters * _MOST_LINES:
        lines[-1] = f"{lines[-1][: letters - 2]} …"
    return lines


def fill(
    figure: Mapping[str, Any],
    rows: Sequence[Expanded],
    words: Mapping[str, Any],
    room: Room,
    heading: tuple[str, Sequence[str]],
) -> Spec:
    """The whole specification of a figure for print; ``heading`` are its title and the lines below
    it.
    """
    values = [row["value"] for row in rows]
    log = min(values) > 0 and max(values) > _LOGARITHMIC_FROM * min(values)
    texts = looks(rows, words) | {
        "@legend": None if figure.get("legend") is False else _legend(rows, room, marked(figure)),
        "@labels": 0,
        "@log_title": _log_title(room, log),
        "@log": {"type": "log", "nice": False} if log else {"type": "linear", "zero": False},
    }
    spec = _put(figure["spec"], texts, room)
    _lay_out(spec, rows, room)
    title, below = heading
    letters = int(room.wide / LETTER)
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        **spec,
        "title": {
            "text": balanced(drawable(title), int(room.wide / (1.25 * LETTER))),
            "subtitle": [part for line in below for part in _few(drawable(line), letters)],
            "anchor": "start",
        },
        "data": {"values": _needed(rows, spec)},
        "config": _config(),
    }


def _log_title(room: Room, log: bool) -> str:
    if room.height is not None and room.height < 30 * LETTER:
        return "log axis" if log else "mean"  # all of it would be longer than the axis
    return f"mean of the epoch{' (log axis)' if log else ''}"


def _put(value: Any, texts: Mapping[str, Any], room: Room) -> Any:
    """``value`` with its placeholders filled; nothing points at a figure on paper."""
    if isinstance(value, list):
        return [_put(one, texts, room) for one in value if not _unseen(one)]
    if isinstance(value, dict):
        return {
            name: _put(one, texts, room)
            for name, one in value.items()
            if name not in ("tooltip", "cursor")
        }
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    if value in texts:
        return texts[value]
    return room.columns if value.startswith("@columns") else room.panel


def _unseen(layer: Any) -> bool:
    """Whether a layer is there for the pointer alone."""
    mark = layer.get("mark") if isinstance(layer, dict) else None
    return isinstance(mark, dict) and mark.get("opacity") == 0


def _lay_out(spec: Spec, rows: Sequence[Expanded], room: Room) -> None:
    """Sizes of panels and cells; axes of outer panels alone where each place has a panel."""
    inner = spec.get("spec", spec)
    y = inner["encoding"].get("y", {}).get("field")
    if room.cell is not None:
        for side in ("width", "height"):
            if isinstance(inner[side], dict):
                inner[side] = {"step": room.cell}
    heights = inner["height"]
    if isinstance(heights, dict) and room.cell is None:
        lines = max(str(row[y]).count("\n") for row in rows) + 1 if y else 1
        inner["height"] = {**heights, "step": max(heights["step"], 13 * lines + 5)}
    if room.height is not None:
        inner["height"] = room.height
    if "facet" in spec:
        header = spec["facet"]["header"]
        header |= {"labelFontWeight": "normal", "labelLimit": 0}
        header.pop("labelExpr")  # lines are broken between words
        if room.full and "x" not in spec["resolve"].get("scale", {}):
            spec["resolve"] = {**spec["resolve"], "axis": {}}


def marked(figure: Mapping[str, Any]) -> bool:
    """Whether series have marks in a figure, not lines alone."""
    return "@shape" in str(figure["spec"])


def _legend(rows: Sequence[Expanded], room: Room, marks: bool) -> Spec:
    names = {str(row["series"]) for row in rows}
    longest = max(map(len, names)) * LETTER + _SYMBOL
    most = max(1, int(room.wide / longest))
    lines = -(-len(names) // most)
    columns = -(-len(names) // lines)
    return {
        "title": None, "orient": "bottom", "columns": columns, "labelLimit": round(room.wide) - 60,
        "symbolSize": 90 if marks else 500,
    }  # fmt: skip


def looks(rows: Sequence[Expanded], words: Mapping[str, Any]) -> dict[str, Any]:
    """Scales from the names of the series that are shown to their colours, marks and lines."""
    found: dict[str, Mapping[str, Any]] = {}
    entries: Sequence[Mapping[str, Any]] = words["series"]
    for row in rows:
        name = row["series"]
        if name not in found:
            like = [one for one in entries if name in (one["ref"] or one["label"], one["label"])]
            like = like[:1] or [one for one in reversed(entries) if variant_of(one) == name]
            found |= {name: like[0]} if like else {}
    return {
        f"@{look}": {"domain": list(found), "range": [one[name] for one in found.values()]}
        for look, name in (("colour", "colour"), ("shape", "shape"), ("dash", "dash"))
    }


def _needed(rows: Sequence[Expanded], spec: Spec) -> list[Expanded]:
    """The rows without what the specification does not name."""
    text = str(spec)
    names = {name for row in rows[:1] for name in row} | {name for row in rows for name in row}
    used = [name for name in sorted(names) if f"'{name}'" in text or f"datum.{name}" in text]
    return [{name: row[name] for name in used if name in row} for row in rows]


def _config() -> Spec:
    # One weight, so one font: with two, the order of the objects in a PDF is by chance.
    plain = {"labelFontWeight": "normal", "titleFontWeight": "normal"}
    ink = {"labelColor": _INK, "titleColor": _INK}
    size = {"labelFontSize": TEXT, "titleFontSize": TEXT}
    return {
        "background": "#ffffff",
        "font": FONT,
        "aria": False,
        "lineBreak": "\n",
        "padding": 4,
        "view": {"stroke": None},
        "axis": {
            **ink, **plain, **size, "domainColor": _INK, "tickColor": _INK, "gridColor": _GRID,
        },
        "legend": {**ink, **plain, **size, "labelLimit": 0},
        "header": {**ink, **plain, **size},
        "title": {
            "color": _INK, "subtitleColor": _INK, "fontWeight": "normal", "fontSize": 15,
            "subtitleFontWeight": "normal", "subtitleFontSize": SMALL, "offset": 12,
        },
        "facet": {"spacing": 18},
    }  # fmt: skip
