"""The rooms of kaizen/ (its packages) and the imports between them, read from the code by ast.

`python tests/rooms.py` draws them again in docs/architecture.md.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[1]
ARCHITECTURE = REPOSITORY / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn by tests/rooms.py: begin -->\n", "<!-- drawn by tests/rooms.py: end -->\n"

# Every room may import from those above it. At the top: kaizen/__init__.py, what it needs, and the
# loose modules.
ORDER = (
    "bytecode",
    "__init__",
    "errors",
    "files",
    "params",
    "compute",
    "store",
    "data",
    "plan",
    "views",
    "models",
    "ssl",
    "distill",
    "heads",
    "training",
    "evaluation",
    "inference",
    "export",
    "report",
    "provenance",
    "page",
    "serving",
    "jobs",
    "start",
    "cli",
    "__main__",
)


class Import(NamedTuple):
    """An import of one room by another."""

    importer: str
    imported: str
    place: str  # kaizen/cli/look.py:31
    late: bool  # within a function, or for the type checker alone


def room_of(module: str) -> str:
    """The room of a module such as "kaizen.data.replay.base": data."""
    return (*module.split("."), "__init__")[1]


def rooms() -> list[str]:
    """The packages and loose modules that kaizen/ holds."""
    return [
        path.stem
        for path in sorted((REPOSITORY / "kaizen").iterdir())
        if path.suffix == ".py" or (path / "__init__.py").exists()
    ]


def imported_modules(node: ast.AST) -> list[str]:
    """The modules that an import statement names; none for any other node."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute here"
        # `from kaizen import files` names a room in its second half.
        submodules = [f"kaizen.{alias.name}" for alias in node.names if alias.name in rooms()]
        return submodules if node.module == "kaizen" and submodules else [str(node.module)]
    return []


def top_level(tree: ast.Module) -> set[ast.AST]:
    """The statements that run when a module is imported: not functions, not `if TYPE_CHECKING`."""
    found: set[ast.AST] = set()
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        found.add(node)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
    return found


def all_imports() -> Iterator[Import]:
    """Every import of a room by another one."""
    for path in sorted((REPOSITORY / "kaizen").rglob("*.py")):
        place = path.relative_to(REPOSITORY)
        importer = place.with_suffix("").parts[1]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        early = top_level(tree)
        for node in ast.walk(tree):
            for module in imported_modules(node):
                if module.split(".")[0] == "kaizen" and room_of(module) != importer:
                    line = f"{place}:{node.lineno}"  # type: ignore[attr-defined]
                    yield Import(importer, room_of(module), line, node not in early)


def docstring(room: str) -> str:
    """What a room says of itself, on one line; "" if it says nothing."""
    file = REPOSITORY / "kaizen" / room / "__init__.py"
    if not file.exists():
        file = REPOSITORY / "kaizen" / f"{room}.py"
    return " ".join((ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split())


def picture() -> str:
    """The rooms in their order, a row each, with a mark under every room that they import."""
    shown = [room for room in ORDER if not room.startswith("__")]
    width = max(map(len, shown)) + 1
    marks: dict[tuple[str, str], str] = {}
    for one in all_imports():
        pair = (one.importer, one.imported)
        marks[pair] = "○" if one.late and marks.get(pair, "○") == "○" else "●"
    lines = [" " * width + " ".join(f"{room[:3]:3}" for room in shown).rstrip()]
    for room in shown:
        cells = ["╲" if room == other else marks.get((room, other), " ") for other in shown]
        lines.append(f"{room:{width}}" + " ".join(f" {cell} " for cell in cells).rstrip())
    return "\n".join(["```text", *lines, "```", ""])


def drawn(document: str) -> str:
    """The document with the picture as it is now."""
    before, _, rest = document.partition(BEGIN)
    return before + BEGIN + picture() + END + rest.partition(END)[2]


if __name__ == "__main__":
    ARCHITECTURE.write_text(drawn(ARCHITECTURE.read_text(encoding="utf-8")), encoding="utf-8")
