"""DVC's cache types: however store, workspace and cache are linked, no finished file is ever
written in place.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project

MODEL = "results/models/simclr-kaizen-replay10pct-seed0/step-01/model.safetensors"


@pytest.fixture
def btrfs(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system with reflinks: a btrfs in a file."""
    mkfs = shutil.which(
        "mkfs.btrfs", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    )
    if mkfs is None or os.geteuid() != 0:
        pytest.skip(
            "reflinks need a btrfs mounted by root: tests/install_servers.sh installs mkfs.btrfs"
        )
    image, folder = tmp_path / "image", tmp_path / "mount"
    folder.mkdir()
    with open(image, "wb") as file:
        file.truncate(512 << 20)
    subprocess.run([mkfs, "--quiet", str(image)], check=True, capture_output=True)
    done = subprocess.run(
        ["mount", "-o", "loop", str(image), str(folder)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"a btrfs cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def cache_objects(project: Project) -> list[Path]:
    """The files of DVC's cache."""
    return [path for path in (project.root / ".dvc/cache/files/md5").rglob("*") if path.is_file()]


def stamps(project: Project) -> dict[Path, tuple[int, int, int]]:
    """Inode, size and time of the last writing of every file of the store's nodes and of DVC's
    cache.
    """
    nodes = [project.store.folder(node) for node in project.store.entries()]
    files = [*cache_objects(project), *(path for node in nodes for path in node.rglob("*"))]
    return {path: (s.st_ino, s.st_size, s.st_mtime_ns) for path in files for s in [path.stat()]}


def check_whole(project: Project, before: dict[Path, tuple[int, int, int]]) -> None:
    """Every published, stored and cached file is what its record or name says; none of ``before``
    was written since.
    """
    project.check_nothing_stale()
    store = project.store
    for node in store.entries():
        store.check(node)
    for path in cache_objects(project):
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        assert path.parent.name + path.name.removesuffix(".dir") == digest
    after = stamps(project)
    assert {path: after[path] for path in before if path in after} == {
        p: before[p] for p in before if p in after
    }


def links(project: Project) -> tuple[bool, bool]:
    """How the workspace's model is linked to DVC's cache: by a symbolic link, by being the same
    file.
    """
    model = project.root / MODEL
    digest = hashlib.md5(model.read_bytes(), usedforsecurity=False).hexdigest()
    return model.is_symlink(), model.samefile(
        project.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    )


def go_round(project: Project, cache_type: str) -> None:
    """Run, change, change back, check out, collect garbage, lose the store: with DVC's cache type
    ``cache_type``.
    """
    project.run("dvc", "config", "cache.type", cache_type)
    project.run("dvc", "checkout", "--relink", "--quiet")
    before = stamps(project)
    project.set({"report.title": "another"})
    project.run("dvc", "repro")
    assert project.jobs() == {"summary": 1}
    check_whole(project, before)
    assert links(project) == {"symlink": (True, True), "hardlink": (False, True)}.get(
        cache_type, (False, False)
    )
    project.start_counting()
    # Without DVC: Snakemake replaces what DVC linked, and never writes through it.
    project.set({"report.title": "tiny"})
    project.snakemake().good()
    check_whole(project, before)
    project.run("dvc", "repro")
    project.run("dvc", "checkout", "--quiet", "--force")
    project.run(sys.executable, "-m", "kaizen", "gc", "--delete")
    project.run("dvc", "gc", "--workspace", "--force", "--quiet")
    check_whole(project, before)
    shutil.rmtree(project.store.root)
    assert "Nothing to be done" in project.snakemake().good()
    assert project.jobs() == {}
    check_whole(
        project,
        {path: stamp for path, stamp in before.items() if project.store.root not in path.parents},
    )


@pytest.mark.parametrize("cache_type", ["copy", "hardlink", "symlink", "reflink,copy"])
def test_nothing_is_written_in_place(project: Project, cache_type: str) -> None:
    go_round(project, cache_type)


def test_nothing_is_written_in_place_with_reflinks(reproduced: Project, btrfs: Path) -> None:
    go_round(reproduced.copy_with_links(btrfs / "project"), "reflink")
