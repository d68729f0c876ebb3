"""Whether the page is that of what is published; asked by every Snakemake, so it imports little."""

from __future__ import annotations

from pathlib import Path

from kaizen.errors import KaizenError
from kaizen.files import sha256_file, sha256_text
from kaizen.plan.fingerprint import ROOT, installed_version
from kaizen.store.layout import CRATE, MANIFEST, PROVENANCE, REPORT_PAGE

MARK = "kaizen-page "  # in the page's first lines, before what it was made from
_ROOMS = ("page", "provenance", "report")  # whose words a page has


def is_current(root: Path) -> bool:
    """Whether the page under ``root`` was made of what is published there, by this code."""
    try:
        if not (root / CRATE).is_file():
            return False
        with (root / REPORT_PAGE).open(encoding="utf-8", errors="replace") as file:
            return f"<!-- {MARK}{made_from(root)} -->" in file.read(300)
    except (KaizenError, OSError):
        return False


def made_from(root: Path) -> str:
    """One hash over the published tree, how it was made, and the code of the page (nodes of other
    code have other keys, which are in the manifest).
    """
    parts = [sha256_file(root / name) for name in (MANIFEST, PROVENANCE)]
    for room in _ROOMS:
        for file in sorted(ROOT.joinpath(room).rglob("*.*")):
            if file.suffix in (".py", ".html", ".css", ".js"):
                parts.append(sha256_file(file))
    parts.append(installed_version("vl-convert-python"))
    return sha256_text(" ".join(parts))
