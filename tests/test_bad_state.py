"""State that is only ever a help, and places where files or folders are in the way.

Damaged resume states, manifests and other programs' files are noted and made again; a place that
cannot be written is refused by name.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from bad_input import check_intact, check_message, flip_byte
from project import Project

from kaizen.compute.device import choose_compute
from kaizen.files import read_json
from kaizen.store.node_id import NodeId
from kaizen.training.reporter import reporter
from kaizen.training.resume import FILE, Progress, save_resume

# -- state that is only ever a help: refused with a note, and made again ------------------------


def resume_states(project: Project) -> dict[str, Callable[[Path], object]]:
    """Ways to put a useless resume state into a step's working folder."""

    def of_another_machine(folder: Path) -> None:
        save_resume(folder, {"model.x": torch.zeros(1)}, Progress(epoch=1), {"device": "abacus"})

    def altered(folder: Path) -> None:
        of_another_machine(folder)
        flip_byte(folder / FILE, 0.99)

    def without_metadata(folder: Path) -> None:
        safetensors.torch.save_file({"model.x": torch.zeros(1)}, folder / FILE)

    return {
        "is no safetensors file": lambda folder: (folder / FILE).write_bytes(b"\x00" * 100),
        "is empty": lambda folder: (folder / FILE).touch(),
        "lacks its metadata": without_metadata,
        "was altered": altered,
        "is of another machine": of_another_machine,
    }


@pytest.mark.parametrize("name", list(resume_states(Project(Path()))))
def test_resume_state_that_cannot_be_used_is_no_error(
    name: str, finished: Project, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "project")
    before = project.nodes()
    key = project.keys("step")[0]
    shutil.rmtree(project.store.folder(NodeId.of("step", key)))
    shutil.rmtree(project.root / "results")
    work = project.store.work_folder(NodeId.of("step", key))
    work.mkdir(parents=True)
    resume_states(project)[name](work)
    outcome = project.kaizen("run")
    assert outcome.code == 0 and "Traceback" not in outcome.output, outcome.output
    assert f"{work / FILE} cannot be used" in outcome.output
    assert "the step starts from its beginning" in outcome.output
    assert project.nodes() == before, "made again, it is the same"


def test_resume_state_of_another_model(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    key = project.keys("step")[0]
    environment = read_json(project.store.record_path(NodeId.of("step", key)))["environment"]
    described = choose_compute("cpu", "float32", 1).describe()
    described |= {name: environment[name] for name in described}
    shutil.rmtree(project.store.folder(NodeId.of("step", key)))
    shutil.rmtree(project.root / "results")
    before = project.nodes()
    work = project.store.work_folder(NodeId.of("step", key))
    save_resume(work, {"model.x": torch.zeros(1)}, Progress(epoch=1), described)
    outcome = project.kaizen("run")
    check_message(
        outcome,
        2,
        (str(work), "holds the state of another model", "delete that folder and run again"),
    )
    check_intact(project, before)
    shutil.rmtree(work)
    assert project.kaizen("run").code == 0


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"plan": 1, "files": {"a": 2}}',
        b"\xff\xfe",
        b'{"files": {"a": {"key": "KEY", "file": "../x"}}}',
    ],
    ids=["empty", "torn", "a list", "of numbers", "not UTF-8", "leaving its folder"],
)
def test_damaged_manifest_is_no_error(text: bytes, finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    manifest = project.root / "results" / "manifest.json"
    before, nodes = manifest.read_bytes(), project.nodes()
    summary = project.keys("summary")[0]
    manifest.write_bytes(text.replace(b"KEY", summary.encode()))
    shutil.rmtree(project.store.folder(NodeId.of("summary", summary)))
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    assert manifest.read_bytes() == before and project.nodes() == nodes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dvc.lock", "stages: ["),
        ("dvc.lock", "stages: {experiment: {outs: [1, 2]}}"),
        ("dvc.lock", "- 1"),
        (".dvc/config", "no section"),
        (".kaizen/checksums/all.json", "{"),
    ],
)
def test_damaged_files_of_others_are_no_error(
    name: str, text: str, fresh: Project, tmp_path: Path
) -> None:
    project = fresh.copy(tmp_path / "project")
    first = project.kaizen("check")
    (project.root / name).parent.mkdir(exist_ok=True)
    for path in {project.root / name, *(project.root / ".kaizen/checksums").glob("*.json")}:
        if path.parent == (project.root / name).parent:
            path.write_text(text)
    outcome = project.kaizen("check")
    assert outcome == first and first.code == 0 and len(first.output.splitlines()) == 1


# -- disks -------------------------------------------------------------------------------------


def test_store_below_a_file(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    project = Project(project.root, project.params / "store")
    outcome = project.kaizen("run")
    check_message(
        outcome,
        2,
        (
            f"the store cannot be {project.store.root}: {project.params} is a file",
            "name another folder (KAIZEN_STORE, or --store), or move it away",
        ),
    )


def test_store_with_a_link_that_leads_nowhere(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    shutil.rmtree(project.root / "results")
    shutil.rmtree(project.store.root / "evaluation")
    (project.store.root / "evaluation").symlink_to(project.store.root / "evaluation")
    outcome = project.kaizen("run")
    check_message(outcome, 2, (f"{project.store.root}/evaluation", "symbolic links"))


def test_an_error_of_a_job_passes_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="from the job"),
        reporter("test", tmp_path / "log", io.StringIO()) as job,
    ):
        job.note("began")
        raise OSError("from the job")
    assert (tmp_path / "log").read_text() == "test: began\n"


@pytest.mark.parametrize("name", ["results", "results/models", "data", "logs"])
def test_a_file_in_the_place_of_a_folder(name: str, finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    nodes = project.nodes()
    place = project.root / name
    if place.is_dir():
        shutil.rmtree(place)
    place.write_text("mine\n")
    project.set({"report.title": "new"})
    outcome = project.kaizen("run")
    check_message(
        outcome, 2, ("cannot write", name, "there is a file where a folder is needed: move it away")
    )
    check_intact(project, nodes)
    assert place.read_text() == "mine\n"


def test_a_folder_in_the_place_of_a_result(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    nodes = project.nodes()
    place = project.root / "results" / "metrics.json"
    place.unlink()
    place.mkdir()
    (place / "mine").touch()
    outcome = project.kaizen("run")
    check_message(
        outcome,
        2,
        (f"cannot write {place}", "there is a folder where a file is needed: move it away"),
    )
    check_intact(project, nodes)
    assert (place / "mine").exists()
