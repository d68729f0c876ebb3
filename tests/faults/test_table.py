"""The table of faults is what the docs show."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import REPOSITORY

from faults.conftest import COLLECTED, SHOWN
from faults.table import FAULTS, markdown


def test_the_docs_show_the_table() -> None:
    pages = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "docs").rglob("*.md")]
    assert any(markdown() in page for page in pages), (
        "put the output of `python -m faults.table` there"
    )


def test_every_row_is_shown_by_a_test() -> None:
    if {path.name for path in Path(__file__).parent.glob("test_*.py")} != COLLECTED:
        pytest.skip("not all tests of faults were collected")
    assert {fault.name for fault in FAULTS} == SHOWN
