"""What a figure's SVG shows: texts, sizes, lines and marks."""

from __future__ import annotations

import re
from typing import NamedTuple
from xml.etree import ElementTree

_SPACE = "{http://www.w3.org/2000/svg}"
_SHIFT = re.compile(r"translate\((-?[\d.e-]+)(?:,(-?[\d.e-]+))?\)")


class Shape(NamedTuple):
    """An element that is drawn: where its origin is, its attributes and its text."""

    x: float
    y: float
    role: str  # classes of the groups around it
    attributes: dict[str, str]
    text: str


class Drawing(NamedTuple):
    """A figure: its size in points, and what is in it."""

    width: float
    height: float
    scale: float  # points of a pixel
    shapes: list[Shape]

    def texts(self) -> list[str]:
        """All texts."""
        return [shape.text for shape in self.shapes if shape.text]

    def of(self, role: str, tag: str = "path") -> list[Shape]:
        """The shapes in a group of marks of a role."""
        return [s for s in self.shapes if role in s.role and s.attributes["tag"] == tag]


def read(svg: str) -> Drawing:
    """A figure of vl-convert, its size in points or without a unit."""
    root = ElementTree.fromstring(svg)
    width, height = (float(root.attrib[name].removesuffix("pt")) for name in ("width", "height"))
    wide = float(root.attrib["viewBox"].split()[2])
    shapes: list[Shape] = []

    def visit(element: ElementTree.Element, x: float, y: float, role: str) -> None:
        found = _SHIFT.search(element.attrib.get("transform", ""))
        if found:
            x, y = x + float(found[1]), y + float(found[2] or 0)
        role = f"{role} {element.attrib.get('class', '')}"
        tag = element.tag.removeprefix(_SPACE)
        if tag in ("path", "line", "rect", "text"):
            lines = [text for part in element.iter() for text in (part.text, part.tail) if text]
            shapes.append(Shape(x, y, role, {**element.attrib, "tag": tag}, " ".join(lines)))
        for child in element:
            if tag != "text":
                visit(child, x, y, role)

    visit(root, 0.0, 0.0, "")
    return Drawing(width, height, width / wide, shapes)
