"""References lead somewhere: cited sections, files that texts mention, words of the glossary."""

from __future__ import annotations

import ast
import functools
import io
import json
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

# Where what we write ourselves lies; results, the store and raw images lie elsewhere.
FOLDERS = (
    "bench",
    "cluster",
    "data/raw",
    "docs",
    "kaizen",
    "presets",
    "profiles",
    "tests",
    "workflow",
)
SUFFIXES = {".md", ".py", ".smk", ".yaml", ".toml", ".sh", ".json"}
SCHEMA = REPOSITORY / "workflow/schemas/params.schema.json"

# Files that Kaizen makes: their names are in texts, but the repository does not hold them.
MADE_FOLDERS = ("results/", "data/shards/")
MADE_FILES = {"report.md", "table.md"}

PATH = re.compile(r"(?<![\w./<>*{}…:-])([\w./<>*{}…-]*\w\.(?:md|py))(?![\w/])")
LINK = re.compile(r"\]\(([^)\s:#]+)\)")
# A source, then one section or several: `fidelity.md §4, §8 and §11`, `arXiv:2006.09882 §3.1`.
CITATION = re.compile(
    r"(?P<source>[\w./-]+\.md|arXiv:[\d.]+\d)[,;]? "
    r"(?P<sections>§\d+(?:\.\d+)*(?:(?:, | and |-|–)§\d+(?:\.\d+)*)*)"
)
SECTION = re.compile(r"§(\d+(?:\.\d+)*)")


def files() -> list[Path]:
    """All files of the repository with text that people read."""
    found = [path for path in REPOSITORY.iterdir() if path.is_file()]
    for folder in FOLDERS:
        found += (REPOSITORY / folder).rglob("*") if folder != "data/raw" else []
    found.append(REPOSITORY / "data/raw/README.md")
    return sorted(
        path
        for path in found
        if path.is_file()
        and "__pycache__" not in path.parts
        and not path.name.startswith(".")
        and (path.suffix in SUFFIXES or path.name in {"Makefile", "Snakefile"})
    )


@functools.cache
def prose(path: Path) -> str:
    """What a file says to people, on one line: of Python docstrings and comments, of JSON the
    descriptions, of others everything but the marks of comments.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        parts = [*_docstrings(ast.parse(text)), *_comments(text)]
    elif path.suffix == ".json":
        parts = list(_descriptions(json.loads(text)))
    else:
        parts = [re.sub(r"(?m)^\s*#+ ", "", text)]
    return " ¶ ".join(" ".join(part.split()) for part in parts)


def _docstrings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def _comments(text: str) -> Iterator[str]:
    """Comments; those on lines that follow each other are one."""
    together: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1 and together:
                yield " ".join(together)
                together = []
            together.append(token.string.lstrip("# "))
            last = token.start[0]
    yield " ".join(together)


def _descriptions(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "description" and isinstance(item, str):
                yield item
            else:
                yield from _descriptions(item)
    elif isinstance(value, list):
        for item in value:
            yield from _descriptions(item)


@functools.cache
def sections(document: Path) -> frozenset[str]:
    """The numbers of a document's headings and of its table rows (`## 4 …`, `| 14.3 | …`)."""
    text = document.read_text(encoding="utf-8")
    return frozenset(re.findall(r"(?m)^(?:#{2,4}|\|) (\d+(?:\.\d+)*) ", text))


def missing_sections(text: str, document: Path | None = None) -> list[str]:
    """Citations in a text that lead nowhere. In ``document`` itself a bare § is one of its own."""
    wrong = []
    for found in CITATION.finditer(text):
        source = found["source"]
        if source.startswith("arXiv:"):
            continue
        cited = REPOSITORY / "docs" / source
        if "/" in source or not cited.is_file():
            wrong.append(f"{source}: cite a file of docs/ by its bare name")
        else:
            numbers = SECTION.findall(found["sections"])
            wrong += [f"{source} §{n}" for n in numbers if n not in sections(cited)]
    loose = SECTION.findall(CITATION.sub("", text))
    known = sections(document) if document else frozenset()
    return wrong + [f"§{number}, of no file" for number in loose if number not in known]


def missing_files(text: str, place: Path) -> list[str]:
    """Paths of Markdown and Python files in a text that are neither in the repository nor beside
    the file with the text; a document of docs/ may be called by its bare name.
    """
    wrong = []
    for name in PATH.findall(text):
        made = name.startswith(MADE_FOLDERS) or name in MADE_FILES
        if made or any(mark in name for mark in "<*{…"):
            continue
        candidates = [REPOSITORY / name, place.parent / name]
        if "/" not in name:
            candidates.append(REPOSITORY / "docs" / name)
        if not any(path.is_file() for path in candidates):
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_what_a_text_refers_to_exists(path: Path) -> None:
    text = prose(path)
    document = path if path.parent.name == "docs" and path.suffix == ".md" else None
    assert missing_sections(text, document) == []
    assert missing_files(text, path) == []
    if path.suffix == ".md":
        links = LINK.findall(path.read_text(encoding="utf-8"))
        assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_citations_are_found() -> None:
    """The searches above see what they should: in docstrings, comments and the schema."""
    texts = {path: prose(path) for path in files()}
    cited = {path for path, text in texts.items() if "fidelity.md §" in text}
    assert len(cited) > 40
    assert {
        SCHEMA,
        REPOSITORY / "kaizen/ssl/simclr.py",
        REPOSITORY / "presets/cifar100.yaml",
    } < cited
    numbers = {
        n
        for text in texts.values()
        for c in CITATION.finditer(text)
        for n in SECTION.findall(c["sections"])
    }
    assert {"1", "13", "14.4", "14.17"} < numbers
    assert sections(REPOSITORY / "docs/fidelity.md") == {str(n) for n in range(1, 15)} | {
        f"14.{n}" for n in range(1, 20)
    }


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("as in fidelity.md §4, §8 and §11", []),
        ("as in fidelity.md §4 and §88", ["fidelity.md §88"]),
        ("fidelity.md §14.99", ["fidelity.md §14.99"]),
        ("fidelity.md §2-§99", ["fidelity.md §99"]),
        ("docs/fidelity.md §4", ["docs/fidelity.md: cite a file of docs/ by its bare name"]),
        ("nowhere.md §4", ["nowhere.md: cite a file of docs/ by its bare name"]),
        ("see §4", ["§4, of no file"]),
        ("(arXiv:2006.09882 §3.1)", []),
    ],
)
def test_a_citation_that_leads_nowhere_is_found(text: str, wrong: list[str]) -> None:
    assert missing_sections(text) == wrong


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`kaizen/errors.py`, data.md", []),
        ("beside it: (test_split.py).", []),
        ("kaizen/gone.py and [x](gone.md)", ["kaizen/gone.py", "gone.md"]),
        ("results/models/a/README.md, cards/<run>.md, tests/test_*.py, path.md5", []),
        ("cli.py", ["cli.py"]),
    ],
)
def test_a_mention_of_a_file_that_is_gone_is_found(text: str, wrong: list[str]) -> None:
    assert missing_files(text, Path(__file__)) == wrong


def test_a_citation_over_two_lines_is_read_as_one(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text('"""As fidelity.md\n§77."""\n# And fidelity.md\n# §78.\n', encoding="utf-8")
    assert missing_sections(prose(code)) == ["fidelity.md §77", "fidelity.md §78"]


# -- the glossary ------------------------------------------------------------------------------


GLOSSARY = re.findall(
    r"(?m)^\| \*\*(.+?)\*\* \| (.+?) \| `(.+?)`(?:, `(.+?)`)? \|$",
    (REPOSITORY / "docs/glossary.md").read_text(encoding="utf-8"),
)


def _defined(path: Path) -> set[str]:
    """Names of classes, functions, fields and variables that a file, or a folder's, define."""
    names: set[str] = set()
    for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    return names


@pytest.mark.parametrize(("word", "meaning", "place", "name"), GLOSSARY)
def test_a_word_of_the_glossary_is_where_it_says(
    word: str, meaning: str, place: str, name: str
) -> None:
    path = REPOSITORY / place
    assert path.exists()
    assert name in _defined(path), f"{place} does not define {name}"


def test_the_glossary_has_each_word_once_in_short() -> None:
    words = [word for word, *_ in GLOSSARY]
    rows = (REPOSITORY / "docs/glossary.md").read_text(encoding="utf-8").count("\n| **")
    assert len(words) == rows == len(set(words)) >= 20
    long = [word for word, meaning, *_ in GLOSSARY if len(meaning.split()) > 45]
    assert long == []
