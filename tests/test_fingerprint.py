from __future__ import annotations

import ast
import json
import os
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from conftest import REPOSITORY, make_plan

from kaizen.jobs.makers import MAKERS
from kaizen.params.registry import FEATURE_DISTILLERS, SSL_METHODS, module_of
from kaizen.plan import fingerprint
from kaizen.plan.draft import MAKER
from kaizen.plan.fingerprint import (
    closure,
    code_fingerprint,
    installed_version,
    loaded_otherwise,
    significant_text,
)
from kaizen.store.node_id import Kind

SIMCLR_STEP = ("kaizen.training.step", "kaizen.ssl.simclr")
SOURCE = '''"""Module."""
import os  # why


class A:
    """A class."""

    x: int = 1

    def f(self, y: str = "a # b") -> str:
        """A method."""
        if y:
            return f"{y!r:>{self.x}} # {os.sep}"
        return "two" "three"
'''
# Pairs that differ inside an f-string, after characters that could shift its position.
WIDE = [
    ('x = "ä€😀", f"ü{x}ö"\n', 'x = "ä€😀", f"ü{x}õ"\n'),
    ('x = f"""a\n  é{x}\n  z"""\n', 'x = f"""a\n  é{x}\n  y"""\n'),
    ("x = f\"{f(f'{a}')}{b}\"\n", "x = f\"{f(f'{a}')}{c}\"\n"),
    ('s = "\u2028"\n\x0c\nx = f"{a}b"\n', 's = "\u2028"\n\x0c\nx = f"{a}c"\n'),
]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package that fingerprints are taken of."""
    copy = tmp_path / "kaizen"
    shutil.copytree(REPOSITORY / "kaizen", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "ROOT", copy)
    forget()
    yield copy
    forget()


def forget() -> None:
    fingerprint._imports.cache_clear()
    fingerprint._module_hash.cache_clear()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    forget()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import os  # why", "import os"),
        ("import os  # why", "# a comment\nimport os  # because"),
        ('"""Module."""\n', ""),
        ('"""A method."""', "'''Another\n\n        docstring.'''"),
        ("    x: int = 1\n\n", "\n\n    x: int = 1\n\n\n"),
        (
            "        if y:\n            return f",
            "        if y:\n\n            # a comment\n            return f",
        ),
        ("class A:", "class  A  :"),
        ('y: str = "a # b") -> str', 'y: str = "a # b"\n    ) -> str'),
        ("x: int = 1", "x: \\\n        int = 1"),
        ('return "two" "three"\n', 'return "two" "three"'),
        ("        if y:\n            return f", "        if y:\n              return f"),
        ("\n", "\r\n"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(old: str, new: str) -> None:
    assert old in SOURCE
    edited = SOURCE.replace(old, new)
    ast.parse(edited)
    assert edited != SOURCE
    assert significant_text(edited) == significant_text(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x: int = 1", "x: int = 2"),
        ("x: int = 1", "x: int = 1; '''no docstring'''"),
        ('"a # b"', '"a # c"'),
        ('"a # b"', '"a #b"'),
        ("{y!r", "{y!s"),
        (":>{", ":<{"),
        ("self.x}}", "self.y}}"),
        ("# {os.sep}", "# {os.pathsep}"),
        ("}} # {", "}} #  {"),
        ('f"{y', 'rf"{y'),
        ('"two" "three"', '"two", "three"'),
        ('"two" "three"', '"two" "Three"'),
        ('        return "two"', '            return "two"'),
        ("import os", "import os as o"),
        ("def f", "async def f"),
    ],
)
def test_every_token_counts(old: str, new: str) -> None:
    assert old in SOURCE
    edited = SOURCE.replace(old, new)
    ast.parse(edited)
    assert significant_text(edited) != significant_text(SOURCE)


def test_strings_that_are_no_docstrings_count() -> None:
    for template in (
        "x = {}\n",
        "f({})\n",
        "def f(): return {}\n",
        "x = [\n    {},\n]\n",
        "print(\n    {}\n)\n",
        "{} + x\n",
        "{}.join(x)\n",
    ):
        assert significant_text(template.format("'a'")) != significant_text(
            template.format("'b'")
        ), template


def test_f_strings_keep_their_text_where_letters_are_wide() -> None:
    for before, after in WIDE:
        ast.parse(before)
        assert significant_text(before) != significant_text(after)
        assert significant_text(before) == significant_text(f"# comment\n{before}\n# comment\n")
    assert 'f"ü{x}ö"' in significant_text(WIDE[0][0]).split("\n")


def test_every_module_is_read_to_its_end() -> None:
    """A removed last statement shows, whatever f-strings and docstrings came before it."""
    for path in sorted((REPOSITORY / "kaizen").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        assert significant_text(source + "\n_ = 1\n") != significant_text(source), path
        assert significant_text(source + "\n# the end\n") == significant_text(source), path


def test_edits_of_the_package_show_as_they_should(package: Path) -> None:
    before = code_fingerprint(SIMCLR_STEP)
    edit(package / "ssl" / "simclr.py", '"""', '"""\n')
    edit(
        package / "training" / "loop.py",
        "from __future__ import annotations\n",
        "from __future__ import annotations\n# !\n",
    )
    assert code_fingerprint(SIMCLR_STEP) == before
    edit(package / "training" / "loop.py", "import time\n", "import time\nimport struct\n")
    assert code_fingerprint(SIMCLR_STEP) != before


def test_the_closure_follows_imports_wherever_they_stand(package: Path) -> None:
    (package / "one.py").write_text("def f():\n    if True:\n        from kaizen import two\n")
    (package / "two.py").write_text("import kaizen.deep.three as t\n")
    (package / "deep").mkdir()
    (package / "deep" / "__init__.py").write_text("from kaizen.four import name\n")
    (package / "deep" / "three.py").write_text("from kaizen.one import f  # a circle\n")
    (package / "four.py").write_text("import os, numpy\nname = 1\n")
    found = {"kaizen.one", "kaizen.two", "kaizen.deep", "kaizen.deep.three", "kaizen.four"}
    assert closure(["kaizen.one"]) == found
    assert closure(["kaizen.four"]) == {"kaizen.four"}
    before = code_fingerprint(["kaizen.one"])
    edit(package / "four.py", "name = 1", "name = 2")
    assert code_fingerprint(["kaizen.one"]) != before


def test_the_closure_follows_relative_imports(package: Path) -> None:
    (package / "deep" / "deeper").mkdir(parents=True)
    (package / "deep" / "__init__.py").write_text("from . import one\n")
    (package / "deep" / "one.py").write_text("from .two import x\nfrom ..four import name\n")
    (package / "deep" / "two.py").write_text("from .deeper.three import *\n")
    (package / "deep" / "deeper" / "__init__.py").write_text("from ..five import y\n")
    (package / "deep" / "deeper" / "three.py").write_text("from ... import four\n")
    (package / "deep" / "five.py").write_text("y = 1\n")
    (package / "four.py").write_text("name = 1\n")
    found = {"one", "two", "deeper", "deeper.three", "five"}
    assert closure(["kaizen.deep"]) == {
        "kaizen.deep",
        "kaizen.four",
        *(f"kaizen.deep.{name}" for name in found),
    }
    for name in ("deep/five.py", "four.py"):
        before = code_fingerprint(["kaizen.deep"])
        edit(package / name, "1", "2")
        assert code_fingerprint(["kaizen.deep"]) != before


def test_the_name_chosen_in_a_module_counts() -> None:
    """A registry may lead to another class of the same module."""
    chosen = {name: code_fingerprint([f"kaizen.ssl.{name}"]) for name in ("byol:BYOL", "byol:Old")}
    assert len(set(chosen.values())) == 2
    assert closure(["kaizen.ssl.byol:BYOL"]) == closure(["kaizen.ssl.byol"])
    assert fingerprint.files_of(["kaizen.ssl.byol:BYOL"]) >= {"kaizen/ssl/byol.py"}


def test_a_node_depends_on_the_function_that_makes_it_and_on_no_other(package: Path) -> None:
    makers = package / "jobs" / "makers.py"

    def keys() -> dict[Kind, str]:
        return {kind: code_fingerprint([MAKER.format(kind)]) for kind in Kind}

    def changed(old: str, new: str) -> set[str]:
        before = keys()
        edit(makers, old, new)
        return {kind for kind, key in keys().items() if before[kind] != key}

    assert changed("size = Size(spec.unit, spec.size)", "size = Size(spec.unit, 1)") == {"replay"}
    assert changed("return run_step(job", "return run_step(job or job") == {"step"}
    assert changed("return run_step(job", "return run_step(   # why\n        job") == set()
    assert changed("changed = any(", "changed = all(") == {"shards"}
    assert changed("for package in packages}", "for package in packages if package}") == {
        "shards",
        "replay",
        "summary",
    }
    shard_file = "import MEMORY_FILE, REPLAY_FILE, Part, shard_file"
    other = "import MEMORY_FILE, REPLAY_FILE, Part\nfrom kaizen.data.looks import shard_file"
    assert changed(shard_file, other) == {"replay"}
    assert closure([MAKER.format("step")]) == set()
    assert fingerprint.files_of([MAKER.format("step")]) == {"kaizen/jobs/makers.py"}
    with pytest.raises(ModuleNotFoundError, match="_nothing"):
        code_fingerprint([MAKER.format("nothing")])


def test_every_kind_of_node_is_made_by_the_function_that_counts_for_it() -> None:
    assert {kind: f"{maker.__module__}#{maker.__name__}" for kind, maker in MAKERS.items()} == {
        kind: MAKER.format(kind) for kind in Kind
    }
    params = {"grid.methods": ["simclr", "swav"], "replay.policy": "herding"}
    for node in make_plan(params).nodes.values():
        code = node.local.code
        assert MAKER.format(node.kind) in code.modules
        targets = {entry for entry in code.modules if ":" in entry}
        assert bool(targets) == (node.kind in ("shards", "replay", "step"))


def test_a_module_that_was_loaded_before_an_edit_is_reported(package: Path) -> None:
    from kaizen.data import split

    modules = ["kaizen.data.split"]
    assert loaded_otherwise(modules) == []
    path = package / "data" / "split.py"
    path.write_text(f"# a comment\n{path.read_text()}")
    forget()
    assert loaded_otherwise(modules) == []
    path.write_text(f"{path.read_text()}\nx = 1\n")
    forget()
    assert loaded_otherwise(modules) == ["kaizen.data.split"] == [split.__name__]


@pytest.mark.parametrize("way", ["time and size", "unchecked hash", "torn"])
def test_bytecode_of_another_source_is_not_run(tmp_path: Path, way: str) -> None:
    """`cp -p` and tar put a source of equal size and time in the place of another."""
    package = tmp_path / "kaizen"
    package.mkdir()
    for name in ("__init__.py", "bytecode.py"):
        shutil.copyfile(REPOSITORY / "kaizen" / name, package / name)
    module = package / "values.py"
    module.write_text("x = 1\n")
    os.utime(module, (10**9, 10**9))
    if way == "unchecked hash":
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    else:
        mode = py_compile.PycInvalidationMode.TIMESTAMP
    compiled = Path(str(py_compile.compile(str(module), invalidation_mode=mode)))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}

    def value(*options: str) -> str:
        command = [sys.executable, *options, "-c", "import kaizen.values as v; print(v.x)"]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    module.write_text("x = 2\n")
    os.utime(module, (10**9, 10**9))
    if way == "torn":
        compiled.write_bytes(compiled.read_bytes()[:20])
    assert value() == "2"
    assert compiled.read_bytes()[4:8] == b"\3\0\0\0", "the next start compiles nothing"
    written = compiled.stat().st_mtime_ns
    assert value() == "2" and compiled.stat().st_mtime_ns == written
    # Its own bytecode next: equal size and time again.
    module.write_text("x = 3\n")
    os.utime(module, (10**9, 10**9))
    assert value() == "3"
    module.write_text("x = 4\n")
    assert value("--check-hash-based-pycs", "never") == "4"


def test_an_unknown_module_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"kaizen\.nowhere"):
        code_fingerprint(["kaizen.nowhere"])


def test_a_method_or_source_more_in_a_registry_changes_nothing_that_exists(package: Path) -> None:
    entries = {
        "step": (*SIMCLR_STEP, "kaizen.distill.contrastive"),
        "shards": ("kaizen.data.ingest", "kaizen.data.sources.digits"),
        "evaluation": ("kaizen.evaluation.run",),
    }
    before = {name: code_fingerprint(modules) for name, modules in entries.items()}
    (package / "ssl" / "new.py").write_text("from kaizen.ssl.base import SSLMethod\n")
    entry = '    "new": Method("kaizen.ssl.new:New", "contrastive"),\n'
    edit(package / "params" / "registry.py", "SSL_METHODS = {\n", "SSL_METHODS = {\n" + entry)
    source = '    "new": DataSource("kaizen.data.sources.new:New", "none"),\n'
    edit(package / "params" / "registry.py", "SOURCES = {\n", "SOURCES = {\n" + source)
    assert {name: code_fingerprint(modules) for name, modules in entries.items()} == before
    edit(
        package / "ssl" / "base.py",
        "from __future__ import annotations\n",
        "from __future__ import annotations\nimport abc\n",
    )
    changed = {
        name for name, modules in entries.items() if code_fingerprint(modules) != before[name]
    }
    assert changed == {"step"}


def test_a_step_depends_on_what_trains_it_and_on_nothing_else() -> None:
    modules = closure(SIMCLR_STEP)
    needed = {"objective", "loop", "optim", "schedule", "step", "resume", "student"}
    assert {f"kaizen.training.{name}" for name in needed} <= modules
    assert {
        "kaizen.views.augment",
        "kaizen.views.batches",
        "kaizen.views.decode",
        "kaizen.models.backbone",
        "kaizen.compute.device",
        "kaizen.compute.seeds",
    } <= modules
    others = (
        "report",
        "plan",
        "jobs",
        "provenance",
        "cli",
        "evaluation",
        "data.ingest",
        "data.sources",
    )
    excluded = ("params", "store", "files", "errors", "training.reporter")
    strays = {
        module
        for module in modules
        for name in others + excluded
        if f"{module}.".startswith(f"kaizen.{name}.")
    }
    assert strays == set()


def test_a_method_is_not_part_of_the_others_code() -> None:
    """Only what the plan names: the step itself leads to no method and no distiller."""
    targets = [
        *(method.target for method in SSL_METHODS.values()),
        *(distiller.target for distiller in FEATURE_DISTILLERS.values()),
    ]
    chosen = {module_of(target) for target in targets}
    assert chosen & closure(["kaizen.training.step"]) == set()
    assert chosen & closure(["kaizen.evaluation.run"]) == set()


def test_the_order_of_modules_and_packages_does_not_count() -> None:
    one = code_fingerprint(("kaizen.compute.seeds", "kaizen.data.split"), ("numpy", "pillow"))
    assert one == code_fingerprint(
        ("kaizen.data.split", "kaizen.compute.seeds"), ("pillow", "numpy")
    )
    assert one != code_fingerprint(("kaizen.compute.seeds", "kaizen.data.split"), ("numpy",))


def test_versions_count_without_their_local_part(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.13.0+cpu"}
    monkeypatch.setattr(metadata, "version", versions.__getitem__)
    one = code_fingerprint((), ("torch",))
    assert installed_version("torch") == "2.13.0"
    versions["torch"] = "2.13.0+cu130"
    assert code_fingerprint((), ("torch",)) == one
    versions["torch"] = "2.14.0"
    assert code_fingerprint((), ("torch",)) != one


def test_an_absent_package_has_a_fingerprint_too() -> None:
    assert installed_version("no-such-package-here") == "absent"


def test_all_imports_in_the_package_can_be_followed() -> None:
    """The closure reads absolute imports: relative ones, and ones by name outside the registries,
    would escape it.
    """
    by_name = set()
    for path in sorted((REPOSITORY / "kaizen").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for statement in ast.walk(ast.parse(source)):
            assert not (isinstance(statement, ast.ImportFrom) and statement.level), path
        if "import_module(" in source or "__import__(" in source:
            by_name.add(path.relative_to(REPOSITORY).as_posix())
    assert by_name == {"kaizen/params/registry.py"}


def other_pythons() -> list[Path]:
    """Pythons of other minor versions, from 3.11 on, that are installed here."""
    names = {f"python3.{minor}" for minor in range(11, 20)} - {f"python3.{sys.version_info.minor}"}
    found = [
        Path(path)
        for path in map(shutil.which, sorted(names))
        if path and "shims" not in Path(path).parts
    ]
    return found + [
        path for name in sorted(names) for path in Path.home().glob(f".pyenv/versions/*/bin/{name}")
    ]


@pytest.mark.skipif(not other_pythons(), reason="no other Python is installed")
def test_every_python_gives_the_same_fingerprint() -> None:
    code = (
        "import json, sys; from kaizen.plan.fingerprint import code_fingerprint, significant_text\n"
        f"print(json.dumps([code_fingerprint({SIMCLR_STEP}), *map(significant_text, "
        "json.loads(sys.argv[1]))]))"
    )
    texts = [SOURCE, *(text for pair in WIDE for text in pair)]
    for python in other_pythons():
        command = [str(python), "-B", "-c", code, json.dumps(texts)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == [
            code_fingerprint(SIMCLR_STEP),
            *map(significant_text, texts),
        ], python
