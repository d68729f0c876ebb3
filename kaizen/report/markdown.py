"""Pieces of Markdown that hold any text, also a class name with characters that mean something
there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kaizen.files import canonical_json, yaml_float
from kaizen.report.tables import markdown_line

_SPECIAL = frozenset("\\`*_[]<>#")


def plain(text: str) -> str:
    """A text that Markdown shows as it is, in one line."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return "".join(
        f"\\{character}" if character in _SPECIAL else character for character in printable
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> str:
    """A table whose first column is on the left; ``sides`` has an l or an r for each of the
    others.
    """
    rules = ["---", *("---:" if side == "r" else "---" for side in sides)]
    return "".join(f"{markdown_line(row)}\n" for row in (head, rules, *rows))


def bullets(facts: Sequence[tuple[str, str]]) -> str:
    """A list of names and values."""
    return "".join(f"- **{name}**: {value}\n" for name, value in facts)


def nested_lines(values: Mapping[str, Any]) -> str:
    """Nested values by name, as YAML that is easy to read: a line per section, lists and texts as
    JSON, which YAML includes.
    """
    return "".join(f"{line}\n" for line in _lines(values, ""))


def _lines(values: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in sorted(values.items()):
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:"
            yield from _lines(value, f"{indent}  ")
        else:
            yield f"{indent}{name}: {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return yaml_float(value) if isinstance(value, float) else canonical_json(value)
