"""What code a node depends on: a hash over the import closure of its entries.

An entry is a module ("kaizen.training.step"); a registry's target ("kaizen.ssl.byol:BYOL"), which
is its module and the name chosen there; or a function alone ("kaizen.jobs.makers#_step"), with what
it uses of its own module, but not the rest of it and none of its imports.

Comments, docstrings and layout do not count, so an edit of them reruns nothing; an edit of a shared
module reruns all that use it. Registries are left out (adding a method must not invalidate the
others): the plan names the targets that a registry leads to.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import sys
import tokenize
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

PACKAGE = "kaizen"
ROOT = Path(__file__).parents[1]

# Modules that say what exists or how a job is started, but compute nothing that ends up in an
# artefact.
EXCLUDED = frozenset(
    {
        "kaizen",
        "kaizen.errors",
        "kaizen.files",
        "kaizen.plan",
        "kaizen.plan.job",
        "kaizen.plan.roles",
        "kaizen.plan.specs",
        "kaizen.training.reporter",
        "kaizen.data.sources",
    }
)

# Rooms of which the same is true.
EXCLUDED_ROOMS = ("kaizen.params", "kaizen.store")

_SKIPPED_TOKENS = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}
_STATEMENT_STARTS = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def code_fingerprint(modules: Iterable[str], packages: Iterable[str] = ()) -> str:
    """Hash the closure of the entries ``modules`` and the installed versions of ``packages``, local
    suffixes left out.
    """
    return fingerprint_with(modules, {package: installed_version(package) for package in packages})


def fingerprint_with(modules: Iterable[str], versions: Mapping[str, str]) -> str:
    """As `code_fingerprint`, with ``versions`` (package -> version) in the place of the installed
    ones.
    """
    entries = sorted(set(modules))
    digest = hashlib.sha256()
    for module in sorted(closure(entries)):
        digest.update(f"{module}={_module_hash(module)[0]}\n".encode())
    for entry in entries:
        if ":" in entry:
            digest.update(f"{entry}\n".encode())
        elif "#" in entry:
            digest.update(f"{entry}={_function_hash(entry)}\n".encode())
    for package, version in sorted(versions.items()):
        digest.update(f"{package}=={version}\n".encode())
    return digest.hexdigest()


def files_of(modules: Iterable[str]) -> set[str]:
    """The sources of the closure of ``modules`` and of their functions alone, relative to the
    folder that holds the package.
    """
    entries = list(modules)
    alone = {entry.partition("#")[0] for entry in entries if "#" in entry}
    paths = (_path(module) for module in closure(entries) | alone)
    return {path.relative_to(ROOT.parent).as_posix() for path in paths if path is not None}


def installed_version(package: str) -> str:
    """The public version of an installed package (2.13.0+cpu -> 2.13.0), or "absent"; imports
    nothing.
    """
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "absent"


def closure(modules: Iterable[str]) -> set[str]:
    """All modules of this package that ``modules`` import, directly or not, wherever the import
    stands.
    """
    found: set[str] = set()
    waiting = [entry.partition(":")[0] for entry in modules if "#" not in entry]
    while waiting:
        module = waiting.pop()
        if module not in found and not _excluded(module):
            found.add(module)
            waiting.extend(_imports(module))
    return found


def _excluded(module: str) -> bool:
    rooms = {".".join(module.split(".")[:2]), module}
    return module in EXCLUDED or not rooms.isdisjoint(EXCLUDED_ROOMS)


def _path(module: str) -> Path | None:
    """The file of a module of this package, or None when there is none of that name."""
    base = ROOT.joinpath(*module.split(".")[1:])
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.cache
def _imports(module: str) -> frozenset[str]:
    """The modules of this package that one module's source imports, parents included."""
    path = _path(module)
    if path is None:
        raise ModuleNotFoundError(f"no module {module} in {ROOT}")
    names: set[str] = set()
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            names.update(alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            source = _imported_from(statement, module, path)
            names.add(source)
            names.update(f"{source}.{alias.name}" for alias in statement.names)
    found: set[str] = set()
    for name in names:
        parts = name.split(".")
        if parts[0] == PACKAGE:
            found.update(".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return frozenset(name for name in found if _path(name) is not None)


def _imported_from(statement: ast.ImportFrom, module: str, path: Path) -> str:
    """The module that ``from … import`` in ``module`` names, also where it begins with dots."""
    if not statement.level:
        return statement.module or ""
    parts = module.split(".")
    # One dot is the package itself, which an __init__.py is.
    parts = parts[: len(parts) - statement.level + (path.name == "__init__.py")]
    return ".".join([*parts, *filter(None, [statement.module])])


@functools.cache
def _module_hash(module: str) -> tuple[str, str]:
    """The hash of what counts of a module's source, and that of all of it."""
    path = _path(module)
    if path is None:
        raise ModuleNotFoundError(f"no module {module} in {ROOT}")
    source = path.read_bytes()
    return _significant_hash(source), hashlib.sha256(source).hexdigest()


def _significant_hash(source: bytes) -> str:
    text = io.TextIOWrapper(io.BytesIO(source), encoding="utf-8").read()
    return hashlib.sha256(significant_text(text).encode()).hexdigest()


def _function_hash(entry: str) -> str:
    """The hash of a function's text and of what it uses of its module, directly or not.

    Of a name that the module imports, it is where it comes from. Raises ModuleNotFoundError where
    there is no such module or function.
    """
    module, _, name = entry.partition("#")
    path = _path(module)
    text = "" if path is None else path.read_text(encoding="utf-8")
    lines = io.StringIO(text).readlines()
    nodes: dict[str, ast.stmt] = {}
    imported: dict[str, str] = {}
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            nodes[statement.name] = statement
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            nodes |= {target.id: statement for target in targets if isinstance(target, ast.Name)}
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            source = f"{statement.module}." if isinstance(statement, ast.ImportFrom) else ""
            imported |= {
                alias.asname or alias.name: source + alias.name for alias in statement.names
            }
    if name not in nodes:
        raise ModuleNotFoundError(f"no function {name} in {module} in {ROOT}")
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in found or name not in nodes:
            if name in imported:
                found[name] = imported[name]
            continue
        node = nodes[name]
        decorators = [each.lineno for each in getattr(node, "decorator_list", [])]
        first = min([node.lineno, *decorators])
        found[name] = significant_text("".join(lines[first - 1 : node.end_lineno]))
        waiting += [each.id for each in ast.walk(node) if isinstance(each, ast.Name)]
    text = "\n".join(f"{name}: {found[name]}" for name in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()


def loaded_otherwise(modules: Iterable[str]) -> list[str]:
    """Those modules of the closure that this process has loaded from a source that differs, in what
    counts, from the one that was hashed: edited in between.
    """
    differing = []
    for module in sorted(closure(modules)):
        spec = getattr(sys.modules.get(module), "__spec__", None)
        source = getattr(getattr(spec, "loader", None), "source", b"")
        counted, whole = _module_hash(module)
        if source and hashlib.sha256(source).hexdigest() != whole:
            differing += [module] if _significant_hash(source) != counted else []
    return differing


def significant_text(source: str) -> str:
    """A source's tokens without comments, docstrings and layout; the same for every Python from
    3.11 on.
    """
    # Not str.splitlines, which also splits at form feeds and the like, where the tokenizer does
    # not.
    lines = io.StringIO(source).readlines()
    parts: list[str] = []
    statement_starts = True
    pending_docstring = ""
    depth = 0
    f_string_start: tuple[int, int] | None = None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        # From Python 3.12 on an f-string comes as several tokens: take its text as one, as 3.11
        # does.
        if name == "FSTRING_START":
            depth += 1
            f_string_start = f_string_start or token.start
            continue
        if depth:
            depth -= name == "FSTRING_END"
            if depth == 0 and f_string_start:
                parts.append(_slice(lines, f_string_start, token.end))
                f_string_start, statement_starts = None, False
            continue
        if token.type in _SKIPPED_TOKENS:
            continue
        if token.type == tokenize.STRING and statement_starts:
            pending_docstring, statement_starts = token.string, False
            continue
        if pending_docstring:
            if token.type != tokenize.NEWLINE:
                parts.append(pending_docstring)
            pending_docstring = ""
            if token.type == tokenize.NEWLINE:
                statement_starts = True
                continue
        statement_starts = token.type in _STATEMENT_STARTS
        parts.append(name if statement_starts else token.string)
    return "\n".join(parts)


def _slice(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """The source text between two (line, column) positions."""
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]]
    middle = lines[start[0] : end[0] - 1]
    return "".join([lines[start[0] - 1][start[1] :], *middle, lines[end[0] - 1][: end[1]]])
