"""The real `dvc repro`: it notices what DVC cannot see, and does little where nothing changed.

DVC knows params.yaml, the code and data/raw. Images elsewhere, a file with a list of classes and
installed packages reach it by a stage that always runs.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from project import CHECKOUT_PARAMS, CLASSES, PARAMS, Project, make_checkout, write_dataset
from project import write_image as write

from kaizen.files import read_json


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after its first `dvc repro`, whose images and list of classes lie elsewhere."""
    folder = tmp_path_factory.mktemp("stages")
    write_dataset(folder / "images")
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    project = make_checkout(
        folder / "project",
        CHECKOUT_PARAMS
        | {
            "dataset": {
                "source": "image_folder",
                "path": str(folder / "images"),
                "classes": str(folder / "classes.txt"),
            },
            "image": PARAMS["image"],
            "grid": PARAMS["grid"] | {"variants": ["kaizen"]},
        },
    )
    project.run("dvc", "init", "--quiet", "--force")
    project.run("dvc", "repro")
    project.commit("first")
    return project


def jobs_of_repro(project: Project) -> dict[str, int]:
    """What `dvc repro` makes; a second one makes nothing and does not even start Snakemake."""
    project.start_counting()
    project.run("dvc", "repro")
    made = project.jobs()
    project.start_counting()
    second = project.run("dvc", "repro")
    assert "Stage 'experiment' didn't change, skipping" in second
    assert "> python -m kaizen plan" in second and "> snakemake" not in second
    assert project.jobs() == {}
    return made


def test_what_dvc_cannot_see_is_noticed(finished: Project) -> None:
    project, outside = finished, finished.root.parent
    assert jobs_of_repro(project) == {}
    assert "experiment" not in json.loads(project.run("dvc", "status", "--json"))

    # A new image of the last task's class at an absolute path.
    last = read_json(project.root / "data/shards/tasks.json")["tasks"][-1]["class_names"][0]
    write(outside / "images/train" / last / "99.png", seed=99)
    assert jobs_of_repro(project) == {
        "shards": 1,
        "step": 1,
        "evaluation": 1,
        "reference": 1,
        "summary": 1,
    }
    project.check_nothing_stale()

    # An edited list of classes.
    (outside / "classes.txt").write_text("\n".join(CLASSES[1:3]))
    assert jobs_of_repro(project)["shards"] == 1
    project.check_nothing_stale()
    names = read_json(project.root / "data/shards/tasks.json")["classes"]
    assert names == list(CLASSES[1:3])


def test_another_torch_is_noticed(finished: Project, tmp_path: Path) -> None:
    project = finished
    jobs_of_repro(project)
    other = tmp_path / "torch-9.9.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9.0\n")
    project.variables["PYTHONPATH"] = str(tmp_path)
    try:
        made = jobs_of_repro(project)
    finally:
        project.variables.clear()
    assert made == {"step": 2, "evaluation": 1, "reference": 1, "summary": 1}
    steps = [project.store.read_run_record(n) or {} for n in project.nodes() if n.kind == "step"]
    assert {run["local"]["versions"]["torch"] for run in steps} >= {"9.9.0"}


def test_a_run_without_dvc_can_be_committed(finished: Project) -> None:
    project = finished
    # With the torch that is installed, whatever test came before.
    project.run("dvc", "repro")
    inputs = (project.root / "data/inputs.json").read_text()
    (project.root / "data/inputs.json").unlink()
    shutil.rmtree(project.root / "results")
    project.snakemake().good()
    assert (project.root / "data/inputs.json").read_text() == inputs
    project.run("dvc", "commit", "--force")
    assert jobs_of_repro(project) == {}
    # In a temporary workspace, too: it has no images and no list of its own.
    project.run("git", "add", "-A")
    project.run("git", "commit", "--quiet", "--allow-empty", "--message", "again")
    project.run("dvc", "exp", "run", "--temp", "--name", "x", "--set-param", "report.title=x")
    assert project.jobs() == {"summary": 1}
