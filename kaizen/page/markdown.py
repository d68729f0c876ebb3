"""The little Markdown that the summary's own texts use, as HTML."""

from __future__ import annotations

import re

from kaizen.page.tables import escape

_BACKSLASH = re.compile(r"\\(&lt;|&gt;|[\\`*_\[\]#|])")  # in escaped text


def to_html(text: str) -> str:
    """Paragraphs, lists, tables, **bold** and *italic*; all else is shown as it is."""
    blocks = re.split(r"\n\s*\n", text.strip())
    return "".join(_block(block) for block in blocks if block.strip())


def _block(block: str) -> str:
    lines = block.split("\n")
    if all(line.startswith("|") for line in lines) and len(lines) > 2:
        head, _, *rows = ([cell.strip() for cell in _cells(line)] for line in lines)
        start = "".join(f"<th scope=col>{_inline(cell)}</th>" for cell in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        table = f"<table><thead><tr>{start}</tr></thead><tbody>{body}</tbody></table>"
        return f"<div class=scroll tabindex=0 role=region aria-label=Table>{table}</div>"
    if lines[0].startswith("- "):
        items = re.split(r"(?m)^- ", block)[1:]
        return "<ul>" + "".join(f"<li>{_inline(' '.join(i.split()))}</li>" for i in items) + "</ul>"
    return f"<p>{_inline(' '.join(lines))}</p>"


def _cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line.strip())[1:-1]


def _inline(text: str) -> str:
    shown = _BACKSLASH.sub(_as_entity, escape(text))
    shown = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", shown)
    shown = re.sub(r"\*(.+?)\*", r"<em>\1</em>", shown)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", shown)


def _as_entity(match: re.Match[str]) -> str:
    sign = match[1]
    return sign if sign.startswith("&") else f"&#{ord(sign)};"
