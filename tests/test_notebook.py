"""The example notebook: its cells run, one after the other, on a small experiment of the demo's.

No kernel of Jupyter is needed for that, and none is tried: the cells become one script.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from project import CHECKOUT_PARAMS, REPOSITORY, Project

NOTEBOOK = REPOSITORY / "examples/model_after_each_task.ipynb"


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The digits in two tasks, one epoch each."""
    project = Project(tmp_path_factory.mktemp("notebook") / "project")
    project.root.mkdir()
    project.params.write_text(json.dumps(CHECKOUT_PARAMS))
    project.set({"split.tasks": 2, "grid.variants": ["kaizen"]})
    project.kaizen("run").good()
    return project


def test_its_cells_run(cells: list[dict[str, Any]], project: Project) -> None:
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(sources) >= 6
    # Run below the project, as from examples/.
    below = Project(project.root / "examples", project.store.root)
    below.root.mkdir()
    (below.root / "notebook.py").write_text("\n\n".join(sources), encoding="utf-8")
    output = below.process(sys.executable, "-W", "error", "notebook.py").good()
    lines = output.splitlines()
    assert re.fullmatch(r"simclr kaizen +CA +\d+\.\d  FA +\d+\.\d", lines[1])
    assert ast.literal_eval(lines[2]) == tuple(sorted(str(n) for n in range(10)))
    counted = re.match(r"(\d+) images, (\d+\.\d) % right", lines[3])
    assert counted and f"({counted[1]}, " in lines[4]
    # The last step's line says of all images what the cell before it said.
    assert re.fullmatch(r"step-00: 5 classes, \d+\.\d % of \d+ right", lines[5])
    assert lines[6] == f"step-01: 10 classes, {counted[2]} % of {counted[1]} right"


def test_it_holds_no_outputs_and_is_of_the_format(cells: list[dict[str, Any]]) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))
    assert all(not cell.get("outputs") for cell in cells)


def test_the_readme_leads_to_it() -> None:
    name = NOTEBOOK.relative_to(REPOSITORY).as_posix()
    assert f"]({name})" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert Path(name).parent.name == "examples"
