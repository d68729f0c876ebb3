"""docs/architecture.md says what the code is: its picture is drawn from the imports, and every
function that its walks name exists and calls what they say.

Where a name changed, this names it; after a change of the imports run `python tests/rooms.py`.
"""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

import pytest
from rooms import ARCHITECTURE, ORDER, REPOSITORY, all_imports, docstring, drawn

DOCUMENT = ARCHITECTURE.read_text(encoding="utf-8")
_ITEM = re.compile(r"^\d+\. (Later, )?`([\w.]+)` in \[(.+?)\]\(\.\./(.+?)\)(.*)", re.DOTALL)
# calls `a`, `b` (`B.b`) and `c`
_NAME = r"`[\w.]+`(?:\s+\(`[\w.]+`\))?"
_CALLS = re.compile(rf"calls\s+({_NAME}(?:(?:,|\s+and)\s+{_NAME})*)")
_CALLED = re.compile(r"`([\w.]+)`(?:\s+\(`([\w.]+)`\))?")


class Item(NamedTuple):
    """A line of a walk: a function, and the functions that it calls, as (name in its source, the
    function).
    """

    later: bool
    function: str
    file: str
    calls: list[tuple[str, str]]


def walks(document: str) -> dict[str, list[Item]]:
    """The walks by their headings; raises AssertionError at a line that is no item."""
    found: dict[str, list[Item]] = {}
    for part in document.partition("## Three walks")[2].split("\n### ")[1:]:
        heading, _, text = part.partition("\n")
        found[heading] = []
        for number, line in enumerate(re.split(r"\n(?=\d+\. )", text)[1:], 1):
            match = _ITEM.match(line)
            assert match and line.startswith(f"{number}. "), line
            assert match[3] == match[4], "the link leads where it says"
            calls = [
                (name, target or name)
                for phrase in _CALLS.findall(match[5])
                for name, target in _CALLED.findall(phrase)
            ]
            found[heading].append(Item(bool(match[1]), match[2], match[3], calls))
    return found


def definition(item: Item) -> ast.AST | None:
    """The class or function of a line in its file; None where it is not there."""
    path = REPOSITORY / item.file
    node: ast.AST | None = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else None
    for name in item.function.split("."):
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        body = getattr(node, "body", [])
        node = next((one for one in body if isinstance(one, kinds) and one.name == name), None)
    return node


def names_in(node: ast.AST) -> set[str]:
    """The names and attributes that code uses; not those in its texts and comments."""
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)} | {
        one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)
    }


def problems(walk: list[Item]) -> list[str]:
    """What a walk says and the code does not."""
    found = []
    reached: set[str] = set()
    for number, item in enumerate(walk, 1):
        node = definition(item)
        if node is None:
            found.append(f"{number}. {item.function} is not in {item.file}")
        else:
            found += [
                f"{number}. {item.function} does not call {name}"
                for name, _ in item.calls
                if name not in names_in(node)
            ]
        short = item.function.rpartition(".")[2]
        starts = number == 1 or item.later or isinstance(node, ast.ClassDef)
        if not starts and not {item.function, short} & reached:
            found.append(f"{number}. {item.function} is called by no line before it")
        reached |= {target for _, target in item.calls}
    return found


def test_there_are_three_walks() -> None:
    assert [len(walk) > 10 for walk in walks(DOCUMENT).values()] == [True] * 3


@pytest.mark.parametrize("heading", walks(DOCUMENT))
def test_a_walk_is_what_the_code_does(heading: str) -> None:
    found = problems(walks(DOCUMENT)[heading])
    assert not found, "\n".join([f"docs/architecture.md, {heading}:", *found])


def test_a_walk_that_the_code_left_is_noticed() -> None:
    file = "tests/test_architecture.py"
    walk = [
        Item(False, "problems", file, [("definition", "definition"), ("nowhere", "nowhere")]),
        Item(False, "definition", file, []),
        Item(False, "names_in", file, []),
        Item(True, "Item.gone", file, []),
    ]
    assert problems(walk) == [
        "1. problems does not call nowhere",
        "3. names_in is called by no line before it",
        "4. Item.gone is not in tests/test_architecture.py",
    ]


def test_the_picture_is_the_codes() -> None:
    assert drawn(DOCUMENT) == DOCUMENT, "run `python tests/rooms.py`"
    rows = re.findall(r"^(\w+) +[●○╲ ]+$", DOCUMENT, re.MULTILINE)
    assert rows == [room for room in ORDER if not room.startswith("__")]
    marks = re.findall("[●○]", DOCUMENT.partition("```text")[2].partition("```")[0])
    shown = {
        (one.importer, one.imported)
        for one in all_imports()
        if not one.importer.startswith("__") and not one.imported.startswith("__")
    }
    assert len(marks) == len(shown) > 60


def test_the_number_of_rooms_is_right() -> None:
    packages = [room for room in ORDER if (REPOSITORY / "kaizen" / room).is_dir()]
    assert len(packages) == 21 and "twenty-one rooms" in DOCUMENT
    assert all(docstring(room) for room in packages)
