"""The table of faults is what the docs show."""

from __future__ import annotations

from project import REPOSITORY

from faults.table import FAULTS, markdown


def test_the_docs_show_the_table() -> None:
    pages = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "docs").rglob("*.md")]
    assert any(markdown() in page for page in pages), (
        "put the output of `python -m faults.table` there"
    )


def test_every_row_is_tested() -> None:
    """By its name, or by all of its kind."""
    tests = "".join(
        path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests/faults").glob("test_*.py")
    )
    by_kind = {fault.kind for fault in FAULTS if f'of_kind("{fault.kind}")' in tests}
    others = [
        fault.name
        for fault in FAULTS
        if fault.kind not in by_kind and f'"{fault.name}"' not in tests
    ]
    # The disks' tests make the names from what the disk is under.
    assert [
        name for name in others if not name.startswith(("no space for the ", "read-only "))
    ] == []
