"""Figures as files for print: of the width of one column or two, PNG, SVG with text, and PDF.

vl-convert is imported where it draws: it is large.
"""

from __future__ import annotations

import functools
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from kaizen import files
from kaizen.report.figures.expand import Expanded
from kaizen.report.figures.fill import FONT, LABELS, LETTER, Room, balanced, fill, marked
from kaizen.report.figures.specs import MOST_NUMBERED, Spec

ONE_COLUMN, TWO_COLUMNS = 3.3, 6.9  # inches
POINTS = 0.55  # a pixel of the specifications: text of 11 pixels has 6 points
_PER_INCH = 72 / POINTS
DOTS = 300  # of a PNG, per inch
_MOST_PIXELS = 20_000  # of a PNG's height; a figure of more panels than a page has gets fewer dots
_PAGE = 9.0 * _PER_INCH  # a figure is no higher, where its panels can be as low
_LOWEST = 70.0  # a panel
_LARGEST_CELL = 84.0
_COMMON_CELL, _COMMON_MAP = 44.0, 200.0  # with larger ones more panels stand in a row
_LEAST_NUMBERED = 18.0  # a cell that takes a number of three digits
_LEAST_MAP = 90.0
_MOST_TRIES = 4
_SLACK = 3.0  # pixels that a figure may be narrower
_VIEWERS = f"{FONT}, Arial, Helvetica, sans-serif"
# A mark in a legend whose outline has the dashes of its line.
_DASHED_MARK = re.compile(r'(role-legend-symbol"[^>]*><path [^>]*?) stroke-dasharray="[^"]*"')
_HEAD = re.compile(r'(<svg [^>]*?)width="([\d.]+)" height="([\d.]+)" viewBox="[^"]*"')


@functools.cache
def _vl_convert() -> Any:
    """vl-convert with the fonts that it brings and none of the machine's, which it looks for when
    it first draws.
    """
    import vl_convert

    before = os.environ.get("FONTCONFIG_FILE")
    with resources.as_file(resources.files("kaizen.report.figures") / "fonts.conf") as path:
        os.environ["FONTCONFIG_FILE"] = str(path)
        try:
            vl_convert.svg_to_png('<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>')
        finally:
            if before is None:
                del os.environ["FONTCONFIG_FILE"]
            else:
                os.environ["FONTCONFIG_FILE"] = before
    return vl_convert


def save(
    figure: Mapping[str, Any],
    rows: Sequence[Expanded],
    words: Mapping[str, Any],
    lines: Sequence[str],
    folder: Path,
    name: str,
    formats: Sequence[str],
) -> list[Path]:
    """Write ``folder/name.<format>`` for each format, atomically; return the paths.

    ``lines`` stand below the title. Raises KaizenError where a file cannot be written.
    """
    vl_convert = _vl_convert()
    svg = draw(figure, rows, words, lines)
    size = _HEAD.search(svg)
    dots = min(DOTS, int(_MOST_PIXELS / float(size[3]) * 72)) if size else DOTS
    make: dict[str, Callable[[], bytes]] = {
        "png": lambda: _smaller(bytes(vl_convert.svg_to_png(svg, ppi=dots)), dots),
        "pdf": lambda: _in_order(bytes(vl_convert.svg_to_pdf(svg))),
        "svg": lambda: _for_viewers(svg).encode(),
    }
    paths = []
    for kind in formats:
        paths.append(folder / f"{name}.{kind}")
        with files.atomic_path(paths[-1]) as temporary:
            temporary.write_bytes(make[kind]())
    return paths


def draw(
    figure: Mapping[str, Any],
    rows: Sequence[Expanded],
    words: Mapping[str, Any],
    lines: Sequence[str],
) -> str:
    """A figure as SVG whose pixels are points (1/72 inch), one or two columns wide."""
    layout = _Layout(figure, rows, words, lines)
    inches = ONE_COLUMN if layout.panels == 1 and not layout.broad else TWO_COLUMNS
    return layout.svg(inches * _PER_INCH)


class _Layout:
    """How many panels stand in a row, and how large they are."""

    def __init__(
        self,
        figure: Mapping[str, Any],
        rows: Sequence[Expanded],
        words: Mapping[str, Any],
        lines: Sequence[str],
    ) -> None:
        self.figure, self.rows, self.words, self.lines = figure, rows, words, lines
        spec: Spec = figure["spec"]
        self.field = spec["facet"]["field"] if "facet" in spec else None
        self.panels = len({row[self.field] for row in rows}) if self.field else 1
        inner = spec.get("spec", spec)
        self.least = int(spec["columns"].split(":")[1]) if "columns" in spec else 1
        self.map = isinstance(inner["width"], dict)
        self.height = None if isinstance(inner["height"], dict) else float(inner["height"])
        y = inner["encoding"].get("y", {})
        self.names = y["field"] if y.get("type") == "nominal" and not self.map else None
        x = inner["encoding"].get("x") if self.map else None
        self.cells = len({row[x["field"]] for row in rows}) if x else 1
        self.broad = self.map and self.cells * 12 > ONE_COLUMN * _PER_INCH

    def svg(self, wide: float) -> str:
        """The figure at a width in pixels of the specification."""
        columns = self._columns(wide)
        made = self._fitted(wide, columns)
        while made[0] > wide + _SLACK and columns > 1:  # titles of panels are wider than panels
            columns -= 1
            made = self._fitted(wide, columns)
        return _placed(made, max(wide, made[0]), wide)

    def _fitted(self, wide: float, columns: int) -> tuple[float, float, str]:
        """The drawing with so many panels in a row, as wide as it can be made."""
        guess = 14.0 if self.map else 160.0
        room = self._room(wide, columns, guess, self.height)
        made = self._made(room)
        across = columns * (self.cells if self.map else 1)
        size = guess + (wide - made[0]) / across
        if self.map:
            size = min(size, _LARGEST_CELL)
        height = self.height
        rows = -(-self.panels // columns)
        if height is not None and made[1] > _PAGE:
            height = max(_LOWEST, height - (made[1] - _PAGE) / rows)
        room = self._room(wide, columns, size, height)
        made = self._made(room)
        # Ticks have other texts than at the guess, and a legend may have been the widest part.
        for _ in range(_MOST_TRIES):
            more = (wide - made[0]) / across
            if -0.1 < more * across < _SLACK or (self.map and more > 0 and size >= _LARGEST_CELL):
                break
            size = size + more if not self.map else min(size + more, _LARGEST_CELL)
            made = self._made(self._room(wide, columns, size, height))
        return made

    def _columns(self, wide: float) -> int:
        """As many panels in a row as leaves each wide enough, rows about as full as each other."""
        if self.map:
            fitting = [n for n in range(1, self.panels + 1) if self._fits_page(n, wide)]
            most = next(iter(fitting), self.panels)
            whole = [n for n in fitting if self.panels % n == 0 and self._cell(n, wide) >= 1]
            if whole and self._large_enough(self._cell(whole[0], wide)):
                most = whole[0]  # no place of a row is left blank
        else:
            most = max(1, min(self.panels, int((wide + 60) / (0.62 * self.least))))
        rows = -(-self.panels // most)
        return -(-self.panels // rows)

    def _large_enough(self, cell: float) -> bool:
        numbered = self.cells <= MOST_NUMBERED
        return cell >= _LEAST_NUMBERED if numbered else cell * self.cells >= _LEAST_MAP

    def _fits_page(self, columns: int, wide: float) -> bool:
        cell = self._cell(columns, wide)
        large = cell > _COMMON_CELL and cell * self.cells > _COMMON_MAP
        if large and columns < self.panels:
            return False
        return -(-self.panels // columns) * (cell * self.cells + 60) + 120 < _PAGE

    def _cell(self, columns: int, wide: float) -> float:
        return ((wide - 60) / columns - 20) / self.cells

    def _room(self, wide: float, columns: int, size: float, height: float | None) -> Room:
        full = self.panels % columns == 0
        if self.map:
            return Room(wide, columns, cell=size, full=full)
        return Room(wide, columns, size, height=height, full=full)

    def _made(self, room: Room) -> tuple[float, float, str]:
        rows = self.rows
        if self.field:
            across = room.cell * self.cells if room.cell else room.panel
            rows = _wrapped(rows, self.field, across)
        if self.names:
            rows = _wrapped(rows, self.names, LABELS * room.wide)
        spec = fill(self.figure, rows, self.words, room, (self.figure["title"], self.lines))
        svg = str(_vl_convert().vegalite_to_svg(spec))
        if marked(self.figure):
            svg = _DASHED_MARK.sub(r"\1", svg)
        size = _HEAD.search(svg)
        if size is None:
            raise RuntimeError("an SVG of vl-convert begins otherwise than before")
        return float(size[2]), float(size[3]), svg


def _wrapped(rows: Sequence[Expanded], field: str, wide: float) -> list[Expanded]:
    """``rows`` whose names in ``field`` are broken into lines of a width in pixels."""
    names = {str(row[field]) for row in rows}
    shown = {name: "\n".join(balanced(name, int(wide / LETTER))) for name in names}
    return [{**row, field: shown[str(row[field])]} for row in rows]


def _placed(made: tuple[float, float, str], wide: float, sheet: float) -> str:
    """The drawing in the middle of its width, in points; ``wide`` pixels are the sheet's width."""
    width, height, svg = made
    left, scale = (width - wide) / 2, POINTS * sheet / wide
    head = (
        rf'\g<1>width="{wide * scale:g}" height="{height * scale:g}" '
        f'viewBox="{left:g} 0 {wide:g} {height:g}"'
    )
    placed = _HEAD.sub(head, svg, count=1)
    paper = f'<rect x="{left:g}" width="{wide:g}" height="{height:g}" fill="#ffffff"/>'
    placed = re.sub(
        r'<rect width="[\d.]+" height="[\d.]+" fill="#ffffff"/>', paper, placed, count=1
    )
    return _numbered_anew(placed)


def _smaller(png: bytes, dots: int) -> bytes:
    """The same pixels without a channel for transparency: a quarter of the bytes."""
    from PIL import Image

    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(out, "PNG", dpi=(dots, dots))
    return out.getvalue()


def _in_order(pdf: bytes) -> bytes:
    """``pdf`` with the names of each object's resources in order, which is by chance; the places
    of objects stay.
    """

    def in_order(found: re.Match[bytes]) -> bytes:
        return b"".join(sorted(found[0].splitlines(keepends=True)))

    return re.sub(rb"(?:^ +/[a-z]+\d+ \d+ 0 R\n)+", in_order, pdf, flags=re.MULTILINE)


def _numbered_anew(svg: str) -> str:
    """``svg`` with its ids counted from 0: vl-convert goes on counting from figure to figure."""
    numbers: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        kind, old, end = found.groups()
        return kind + numbers.setdefault(old, str(len(numbers))) + end

    return re.sub(r'((?:id="|url\(#)(?:clip|gradient_))(\d+)(["\)])', number, svg)


def _for_viewers(svg: str) -> str:
    """With its size in a unit of length, and fonts of the same widths where the first is not."""
    head = r'\g<1>width="\g<2>pt" height="\g<3>pt"'
    svg = re.sub(r'(<svg [^>]*?)width="([\d.]+)" height="([\d.]+)"', head, svg, count=1)
    return svg.replace(f'font-family="{FONT}"', f'font-family="{_VIEWERS}"')
