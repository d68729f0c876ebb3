"""What tests check results with, which lives in an environment of its own (`make setup-checks`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from browser import Browser

_HINT = "is not installed: make setup-checks"


def _folder() -> Path:
    """The environment: beside that of the tests, or where KAIZEN_CHECKS says."""
    return Path(os.environ.get("KAIZEN_CHECKS") or f"{sys.prefix}-checks")


def crate_issues(crate: Path) -> list[tuple[str, str, str]]:
    """What roc-validator finds wrong with an RO-Crate: severity, check, message; skips the test
    where it is not installed.
    """
    rocrate = pytest.importorskip("rocrate")
    python = _folder() / "bin" / "python"
    if not list(_folder().glob("lib/python*/site-packages/rocrate_validator")):
        pytest.skip(f"roc-validator {_HINT}")
    context = Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld"
    done = subprocess.run(
        [python, Path(__file__).parent / "crate_check.py", crate, context],
        env={"PATH": os.environ["PATH"], "HOME": str(crate.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(issue) for issue in json.loads(done.stdout.splitlines()[-1])]


def axe_violations(page: Browser) -> list[Any]:
    """What axe-core finds wrong with the page that is open: rule, impact, number of elements, the
    first of them; skips the test where it is not installed.
    """
    found = list(_folder().glob("lib/python*/site-packages/axe_playwright_python/axe.min.js"))
    if not found:
        pytest.skip(f"axe-core {_HINT}")
    page.js(found[0].read_text(encoding="utf-8") + ";0")
    text = page.js(
        "axe.run().then((found) => JSON.stringify(found.violations.map((one) => "
        "[one.id, one.impact, one.nodes.length, one.nodes[0].html.slice(0, 200)])))"
    )
    violations: list[Any] = json.loads(text)
    return violations
