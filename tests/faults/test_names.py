"""Names that a shell, a path, a wildcard, TeX, Markdown or XML would take for more than names are
only names.
"""

from __future__ import annotations

import csv
import shutil
import xml.etree.ElementTree
from pathlib import Path

import pytest
from project import Project, make_project, write_dataset

from faults.table import fault
from faults.warm import Warm
from kaizen.files import read_json

NAMES = (
    "$(touch pwned)", "`touch pwned`", "a;touch pwned",
    "| touch pwned |", "-rf", "~", "'q\"", "back\\slash", "{x}",
    "{{y}}", "%s 100%", "*?[a]", "with space", "new\nline", "tab\t", "\x1b[31mred\x01",
    "$\\frac{$", "<b>&amp;", "#,=",
    "ünï日本",
)  # fmt: skip
TITLE = "$(touch pwned) `touch pwned` {x} $\\frac{ | <b>\n# two"
HEADING = "# $(touch pwned) \\`touch pwned\\` {x} $\\\\frac{ | \\<b\\> \\# two\n"


@pytest.mark.rows("classes, folders and titles with characters of shell, TeX, Markdown, XML")
def test_names_are_only_names(tmp_path: Path) -> None:
    """The real snakemake on such classes, in such folders, to the end."""
    changes = {
        "grid.variants": ["kaizen"],
        "report.formats": ["png", "svg", "pdf"],
        "report.title": TITLE,
    }
    project = make_project(tmp_path / "a project; $(touch pwned) 'q' {p} ü", changes)
    project = Project(project.root, tmp_path / "st{o}re $(touch pwned); 'q'")
    shutil.rmtree(project.images)
    data = project.root / "im ages {z} $(touch pwned)"
    write_dataset(data, NAMES, train=4, test=2)
    project.set({"dataset.path": data.name})
    outcome = project.snakemake()
    fault("classes, folders and titles with characters of shell, TeX, Markdown, XML").check(outcome)
    assert "Warning" not in outcome.output
    assert "Nothing to be done" in project.snakemake("--dry-run").output
    assert not list(tmp_path.rglob("pwned"))

    assert read_json(project.root / "data/shards/tasks.json")["classes"] == sorted(NAMES)
    summary = project.root / "results/summary"
    for name in ("per_class.csv", "figures/confusion_matrix.csv"):
        with open(summary / name, newline="", encoding="utf-8") as file:
            assert {row["class"] for row in csv.DictReader(file)} == set(NAMES)
    for path in (summary / "figures").glob("*.svg"):
        xml.etree.ElementTree.parse(path)
    report = (summary / "report.md").read_text(encoding="utf-8")
    assert report.startswith(HEADING) and "\n# two" not in report
    published = {
        path.relative_to(project.root).as_posix() for path in (project.root / "results").rglob("*")
    }
    assert all(
        path.replace("/", "").replace("-", "").replace("_", "").replace(".", "").isalnum()
        for path in published
    )


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "$(touch pwned)", "-rf", "a b", "{x}", ".", "", "new\nline"]
)
@pytest.mark.rows("a variant's name that is no plain word")
def test_a_variants_name_becomes_a_folder_and_is_checked(
    name: str, fresh: Project, warm: Warm, tmp_path: Path
) -> None:
    project = fresh.copy(tmp_path / "project")
    mine = {"feature_distill": True, "classifier_distill": True, "replay": False}
    project.set({"variants": {name: mine}, "grid.variants": [name]})
    fault("a variant's name that is no plain word").check(warm.kaizen(project, "run"))
    assert not project.store.root.exists()
