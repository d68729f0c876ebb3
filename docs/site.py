"""A hook of MkDocs (`make docs`): pages that do not lie in docs/, and links that lead out of it.

The texts are written for GitHub, where a link is a path from the file that has it. Here the same
link leads to the page that the file has become, a module's to its place in the API reference. What
becomes no page is left as it is, and MkDocs refuses it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# Page -> the file of the repository that it is; those of docs/ are pages by themselves.
PAGES = {
    "index.md": "README.md",
    "presets.md": "presets/README.md",
    "golden.md": "tests/golden/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
}
# The same for files that are shown as they are.
PLAIN = {
    "license.txt": "LICENSE",
    "citation.txt": "CITATION.cff",
    "notebook.ipynb": "examples/model_after_each_task.ipynb",
}
# A text and its target; of pictures, and of texts with brackets, the target alone.
_LINK = re.compile(r"(\[[^\[\]]*)?(\]\()([^)\s:#]+)(#[^)\s]*)?(\))")
# The page of a run's results, where this checkout has one: it is shown live.
_REPORT = "results/report.html"
_EMBEDDED = f"""
## One of them

[{_REPORT}](live-report.html) of the experiment that this site was built beside, as it is:

<iframe class="report" src="live-report.html" title="A report" loading="lazy"></iframe>
"""


def packages() -> list[str]:
    """The packages and single modules of kaizen/, a page of the reference each."""
    found = [path.parent.name for path in (ROOT / "kaizen").glob("*/__init__.py")]
    found += [path.stem for path in (ROOT / "kaizen").glob("[a-z]*.py")]
    return sorted(found)


def reference(package: str) -> str:
    """The page of a package, in Markdown: mkdocstrings puts the docstrings of each module there. A
    search finds the other pages first.
    """
    head = "---\nsearch:\n  boost: 0.3\n---\n"
    folder = ROOT / "kaizen" / package
    if not folder.is_dir():
        return f"{head}# {package}\n\n::: kaizen.{package}\n"
    modules = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return f"{head}# {package}\n\n" + "\n".join(f"::: {module}\n" for module in sorted(modules))


def page_of(path: str) -> str | None:
    """The page, with its anchor, that a file of the repository has become; None if it has none."""
    for page, source in (PAGES | PLAIN).items():
        if path == source:
            return page
    parts = Path(path).with_suffix("").parts
    if path.endswith(".py") and parts[0] == "kaizen":
        module = parts[:-1] if parts[-1] == "__init__" else parts
        return f"reference/{parts[1]}.md#{'.'.join(module)}"
    return path.removeprefix("docs/") if path.startswith("docs/") else None


def follow(
    text: str, page: str, source: str, names: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The Markdown of ``page``, whose links start at the file ``source``, with links that start at
    the page. Where a link's text is the file's path, it becomes the page's name in the menu, which
    ``names`` has.
    """

    def link(found: re.Match[str]) -> str:
        text, bracket, target, anchor, after = found.groups()
        place = page_of(os.path.normpath(os.path.join(os.path.dirname(source), target)))
        if place is None:
            return found[0]
        if text and text[1:] in (target, os.path.basename(target)) and place in names:
            text = f"[{names[place]}"
        place = os.path.relpath(place, os.path.dirname(page) or ".")
        return f"{text or ''}{bracket}{place}{anchor or ''}{after}"

    return _LINK.sub(link, text)


def menu(entries: Any) -> dict[str, str]:
    """The names of the pages in the menu, by page."""
    found: dict[str, str] = {}
    for entry in entries or []:
        for name, below in entry.items():
            found |= {below: name} if isinstance(below, str) else menu(below)
    return found


# -- what MkDocs calls -------------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the API reference to the menu."""
    entries = [{f"kaizen.{name}": f"reference/{name}.md"} for name in packages()]
    config.nav = [*(config.nav or []), {"API": entries}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    from mkdocs.structure.files import File

    for page, source in (PAGES | PLAIN).items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for name in packages():
        files.append(File.generated(config, f"reference/{name}.md", content=reference(name)))
    if (ROOT / _REPORT).is_file():
        text = (ROOT / _REPORT).read_text(encoding="utf-8")
        files.append(File.generated(config, "live-report.html", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let a page's links lead to pages."""
    name = page.file.src_uri
    text = follow(markdown, name, PAGES.get(name, f"docs/{name}"), menu(config.nav))
    return text + _EMBEDDED if name == "report.md" and (ROOT / _REPORT).is_file() else text
