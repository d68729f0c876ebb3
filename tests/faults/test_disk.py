"""Disks that are full at the very moment of a write, or read-only: the path and the fix are named,
nothing is lost.

The disk is a real one, in memory: `inject.fill_disk` fills it just before the write.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from project import TELL_OF_TIMES, Project, mounted

from faults.table import fault
from faults.warm import Warm

# Which folder is the small disk, and after which of Python's audit events it is full.
FULL: dict[str, tuple[str, str, str]] = {
    "shards": (".kaizen/store", "os.mkdir", "/shards/."),
    "replay shard": (".kaizen/store", "os.mkdir", "/replay/."),
    "resume state": (".kaizen/store", "open", "/.resume.safetensors."),
    "checkpoint": (".kaizen/store", "open", "/.model.safetensors."),
    "history": (".kaizen/store", "os.rename", "/.model.safetensors."),
    "facts of a step": (".kaizen/store", "open", "/.step.json."),
    "evaluation": (".kaizen/store", "open", "/.accuracy.json."),
    "figures": (".kaizen/store", "open", "/.accuracy_bars.png."),
    "record": (".kaizen/store", "open", "/.node.json."),
    "published tree": ("results", "os.link", "/results/models/"),
    "manifest": ("results", "open", "/results/.manifest.json."),
    "log": ("logs", "open", "logs/step/"),
    "checksums": (".kaizen/checksums", "open", "/checksums/."),
}


def results(project: Project) -> dict[str, bytes]:
    """The files under results/, but those that tell of times."""
    found = [path for path in (project.root / "results").rglob("*") if path.is_file()]
    return {
        str(p.relative_to(project.root)): p.read_bytes()
        for p in found
        if p.name not in TELL_OF_TIMES
    }


@pytest.mark.parametrize(
    "what",
    [pytest.param(what, marks=pytest.mark.rows(f"no space for the {what}")) for what in FULL],
)
def test_a_full_disk(
    what: str, fresh: Project, finished: Project, warm: Warm, tmp_path: Path
) -> None:
    project = fresh.copy(tmp_path / "project")
    place, event, path = FULL[what]
    disk = project.root / place
    with mounted(disk, "size=8m"):
        inject = {"fill_disk": {"event": event, "path": path, "disk": str(disk)}}
        outcome = warm.kaizen(project, "run", inject=inject)
        assert (disk / "filler").exists(), f"the moment has not come\n{outcome.output}"
        fault(f"no space for the {what}").check(outcome)
        assert project.nodes().items() <= finished.nodes().items()
        assert project.leftovers() == []
        (disk / "filler").unlink()
        outcome = warm.kaizen(project, "run")
        assert outcome.code == 0, outcome.output
        assert project.nodes() == finished.nodes()
        assert results(project) == results(finished)


@pytest.mark.rows("no space for the parameters of a preset")
def test_a_full_disk_under_the_parameters(fresh: Project, warm: Warm, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    disk = project.root / "disk"
    (project.root / "overlay.yaml").write_text("train: {lr: 0.25}\n")
    command = ("preset", "overlay.yaml", "--params", "disk/params.yaml")
    with mounted(disk, "size=1m"):
        shutil.copyfile(project.params, disk / "params.yaml")
        before = (disk / "params.yaml").read_text()
        inject = {"fill_disk": {"event": "open", "path": "/.params.yaml.", "disk": str(disk)}}
        outcome = warm.kaizen(project, *command, inject=inject)
        fault("no space for the parameters of a preset").check(outcome)
        assert (disk / "params.yaml").read_text() == before
        assert {path.name for path in disk.iterdir()} == {"params.yaml", "filler"}
        (disk / "filler").unlink()
        assert warm.kaizen(project, *command).code == 0
        assert "lr: 0.25" in (disk / "params.yaml").read_text()


READ_ONLY: dict[str, tuple[str, tuple[str, ...]]] = {
    "store": (".kaizen/store", ("run",)),
    "published tree": ("results", ("run",)),
    "log folder": ("logs", ("run",)),
    "parameters": ("disk", ("preset", "overlay.yaml", "--params", "disk/params.yaml")),
}


@pytest.mark.parametrize(
    "what",
    [pytest.param(what, marks=pytest.mark.rows(f"read-only {what}")) for what in READ_ONLY],
)
def test_a_read_only_disk(what: str, finished: Project, warm: Warm, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    place, command = READ_ONLY[what]
    project.set({"report.title": "again"})
    (project.root / "overlay.yaml").write_text("train: {lr: 0.25}\n")
    disk = project.root / place
    kept = tmp_path / "kept"
    disk.mkdir(exist_ok=True)
    shutil.copytree(disk, kept)
    shutil.copyfile(project.params, kept / "params.yaml")
    with mounted(disk, "size=8m"):
        shutil.copytree(kept, disk, dirs_exist_ok=True)
        before = project.nodes()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        fault(f"read-only {what}").check(warm.kaizen(project, *command))
        assert project.nodes().items() >= before.items()
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        outcome = warm.kaizen(project, *command)
        assert outcome.code == 0, outcome.output


def test_what_only_reads_needs_no_writable_disk(
    finished: Project, warm: Warm, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "disk" / "project")
    kept = finished.copy(tmp_path / "kept")
    with mounted(project.root, "size=16m"):
        shutil.copytree(kept.root, project.root, dirs_exist_ok=True)
        subprocess.run(["mount", "-o", "remount,ro", str(project.root)], check=True)
        for command in ("check", "plan", "show"):
            outcome = warm.kaizen(project, command)
            assert outcome.code == 0, outcome.output
