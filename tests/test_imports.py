"""The rooms of kaizen/: imports run one way, what must stay light does, and each says what it is
for.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest
from rooms import (
    ORDER,
    REPOSITORY,
    all_imports,
    docstring,
    imported_modules,
    room_of,
    rooms,
    top_level,
)

import kaizen

PACKAGES = [room for room in ORDER if (REPOSITORY / "kaizen" / room).is_dir()]
TORCHLESS = ("params", "store", "plan", "cli")


def test_every_room_has_its_place_in_the_order() -> None:
    assert sorted(ORDER) == sorted(rooms())


def test_imports_run_one_way() -> None:
    # The package's own functions import what they stand for when they are asked for it.
    found = [one for one in all_imports() if not (one.importer == "__init__" and one.late)]
    assert len(found) > 200
    assert {one.importer for one in found} >= set(PACKAGES)
    upward = [
        f"{one.place} imports {one.imported}, which stands after {one.importer}"
        for one in found
        if ORDER.index(one.imported) > ORDER.index(one.importer)
    ]
    assert not upward, "\n".join(upward)


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import kaizen.plan.nodes as nodes", ["kaizen.plan.nodes"]),
        ("from kaizen import files, __version__", ["kaizen.files"]),
        ("from kaizen import __version__", ["kaizen"]),
        ("from kaizen.data.split import Stream", ["kaizen.data.split"]),
        ("x = 1", []),
    ],
)
def test_the_reader_of_imports_knows_their_forms(source: str, modules: list[str]) -> None:
    assert imported_modules(ast.parse(source).body[0]) == modules


def test_an_import_in_a_function_or_for_types_is_late() -> None:
    tree = ast.parse(
        "import a\n"
        "if TYPE_CHECKING:\n    import b\nelse:\n    import c\n"
        "def f():\n    import d\n"
        "class C:\n    import e\n    def m(self):\n        import g\n"
        "try:\n    import h\nexcept ImportError:\n    import i\n"
    )
    early = [name for node in top_level(tree) for name in imported_modules(node)]
    assert sorted(early) == ["a", "c", "e", "h", "i"]


def test_a_module_belongs_to_a_room() -> None:
    assert room_of("kaizen.data.replay.base") == "data"
    assert room_of("kaizen.files") == "files"
    assert room_of("kaizen") == "__init__"


def modules_after(code: str) -> set[str]:
    """What is in sys.modules after ``code`` ran in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint('AFTER', *sys.modules)"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rpartition("AFTER")[2].split())


@pytest.mark.parametrize("room", [*TORCHLESS, "provenance"])
def test_planning_rooms_never_import_torch(room: str) -> None:
    modules = sorted(
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for path in (REPOSITORY / "kaizen" / room).rglob("*.py")
    )
    assert modules
    loaded = modules_after("\n".join(f"import {module}" for module in modules))
    assert set(modules) - {f"kaizen.{room}.__init__"} <= loaded
    assert not {"torch", "torchvision", "timm", "sklearn", "vl_convert", "snakemake"} & loaded


def test_planning_rooms_do_not_import_torch_late_either() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for room in TORCHLESS
        for path in (REPOSITORY / "kaizen" / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in imported_modules(node)
        if module.split(".")[0] in {"torch", "torchvision"}
    ]
    assert not found, found


def test_the_package_itself_stays_light() -> None:
    tree = ast.parse((REPOSITORY / "kaizen/__init__.py").read_text(encoding="utf-8"))
    assert [name for node in top_level(tree) for name in imported_modules(node)] == [
        "kaizen.bytecode"
    ]
    found = modules_after("import kaizen") - modules_after("pass")
    assert found == {"kaizen", "kaizen.bytecode"}


def test_the_package_loads_torch_when_a_model_is_asked_for() -> None:
    asked = "import kaizen\ntry:\n    kaizen.load('nothing')\nexcept Exception:\n    pass"
    assert {"torch", "kaizen.inference.loading"} <= modules_after(asked)
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        kaizen.lode  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("room", PACKAGES)
def test_a_room_says_what_lives_there_and_what_may_not(room: str) -> None:
    lives, _, rest = docstring(room).partition(". ")
    assert len(lives.split()) > 5, "a sentence on what lives there"
    assert re.search(r"\b(no|not|nothing|never|neither)\b", rest, re.IGNORECASE), "what may not"
