"""Raw data under DVC, `dvc add` and `dvc import-url`: known by its content, and changed without
needless work.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from project import CHECKOUT_PARAMS, PARAMS, Project, make_checkout, write_dataset, write_image

from kaizen.data.tracking import tracked_by_dvc

IMAGES = "data/raw/images"
TRACKER = f"{IMAGES}.dvc"


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Path]:
    """A project whose images were imported from a folder elsewhere, after its first run; and that
    folder.
    """
    folder = tmp_path_factory.mktemp("raw")
    write_dataset(folder / "origin")
    changes = {"dataset": {"source": "image_folder", "path": IMAGES}, "image": PARAMS["image"]}
    project = make_checkout(folder / "project", CHECKOUT_PARAMS | changes)
    images = project.root / IMAGES
    keys = []
    shutil.copytree(folder / "origin", images)
    keys.append([node["key"] for node in project.plan()])
    project.run("dvc", "add", "--quiet", IMAGES)
    keys.append([node["key"] for node in project.plan()])
    project.run("dvc", "remove", "--quiet", TRACKER)
    shutil.rmtree(images)
    project.run("dvc", "import-url", "--quiet", str(folder / "origin"), IMAGES)
    keys.append([node["key"] for node in project.plan()])
    assert keys[0] == keys[1] == keys[2], "the same data, tracked or not, have the same keys"
    project.run("dvc", "repro")
    project.commit("first images")
    return project, folder / "origin"


def test_a_changed_raw_file_remakes_what_depends_on_it(
    imported: tuple[Project, Path], tmp_path: Path
) -> None:
    finished, origin = imported
    project = finished.copy_with_links(tmp_path / "project")
    before = project.manifest()
    last = json.loads((project.root / "data/shards/tasks.json").read_text())["tasks"][-1]
    path = origin / "train" / last["class_names"][0] / "00.png"
    old = path.read_bytes()
    try:
        write_image(path, seed=99)
        project.run("dvc", "update", "--quiet", TRACKER)
    finally:
        path.write_bytes(old)
    assert tracked_by_dvc(project.root / IMAGES) != tracked_by_dvc(finished.root / IMAGES)
    project.run("dvc", "repro")
    # Step 0 of both variants and the replay shard for step 1 do not see the last task.
    assert project.jobs() == {"shards": 1, "step": 2, "evaluation": 2, "reference": 1, "summary": 1}
    project.check_nothing_stale()
    tracked = tracked_by_dvc(project.root / IMAGES)
    assert tracked is not None
    told = project.run(sys.executable, "-m", "kaizen", "explain", "data/shards/tasks.json")
    assert f"tracked by {TRACKER}, md5 {tracked.md5}" in told
    project.commit("other images")

    # Back to the old images, as git and DVC bring them: nothing runs, and everything is as it was.
    project.start_counting()
    project.run("git", "checkout", "--quiet", "HEAD~1")
    project.run("dvc", "checkout", "--quiet")
    assert "Nothing to be done" in project.snakemake().good()
    assert project.jobs() == {}
    assert project.manifest() == before
    project.check_nothing_stale()


def test_absent_raw_data_are_asked_for_by_name(
    imported: tuple[Project, Path], tmp_path: Path
) -> None:
    project = imported[0].copy_with_links(tmp_path / "project")
    project.run("dvc", "remote", "add", "--default", "local", str(tmp_path / "remote"))
    project.run("dvc", "push", "--quiet")
    shutil.rmtree(project.root / IMAGES)
    output = project.process("snakemake", "--cores", "1", "--dry-run").bad()
    assert f"dvc checkout {TRACKER}" in output and "Traceback" not in output
    # They come back as other files with other times, and are known by their content.
    shutil.rmtree(project.root / ".dvc/cache")
    project.run("dvc", "pull", "--quiet")
    assert "Nothing to be done" in project.snakemake("--dry-run").good()
    project.check_nothing_stale()


def test_a_temporary_workspace_has_the_tracked_images(
    imported: tuple[Project, Path], tmp_path: Path
) -> None:
    project = imported[0].copy_with_links(tmp_path / "project")
    project.run(
        "dvc", "exp", "run", "--temp", "--name", "other", "--set-param", "report.title=other"
    )
    assert project.jobs() == {"summary": 1}


def test_who_tracks_a_path(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    raw = tmp_path / "data/raw"
    raw.mkdir(parents=True)
    (raw / "images.dvc").write_text("outs:\n- md5: 0123.dir\n  path: images\n")
    (raw / "broken.dvc").write_text("outs: [")
    for path in (raw / "images", raw / "images/train/ant"):
        found = tracked_by_dvc(path)
        assert found is not None and (found.file, found.md5) == (raw / "images.dvc", "0123.dir")
    assert tracked_by_dvc(raw / "others") is None
    assert tracked_by_dvc(tmp_path / "images") is None
