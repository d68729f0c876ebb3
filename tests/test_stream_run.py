"""A stream that grows, run: one step per arrival, the same bytes as all at once, images that are
gone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import MadeOnce
from project import Project, make_checkout, write_image
from stream_project import ARRIVALS, RAW, append, make_stream, write_arrival

import kaizen
from kaizen.data.arrivals import STREAM_FILE, read_stream
from kaizen.data.shards import shard_info
from kaizen.files import read_json, sha256_file

STEP = {"shards": 1, "replay": 1, "step": 2, "evaluation": 2, "summary": 1}
RUNS = ("simclr-kaizen-replay25pct-seed0", "simclr-no_distill-seed0")


def results(project: Project) -> dict[str, str]:
    """The published files that say nothing of how they came about, by hash."""
    return {
        path.relative_to(project.root).as_posix(): sha256_file(path)
        for folder in ("data/shards", "data/replay", "results")
        for path in (project.root / folder).rglob("*")
        if path.is_file()
        and path.name not in ("provenance.json", "report.html", "ro-crate-metadata.json")
    }


def models(project: Project) -> dict[str, str]:
    found = results(project).items()
    return {path: sha for path, sha in found if path.endswith("model.safetensors")}


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """All arrivals appended, then one run."""
    project = make_stream(tmp_path_factory.mktemp("at_once") / "project")
    for number in range(len(ARRIVALS)):
        append(project, number)
    project.kaizen("run").good()
    return project


def one_by_one(project: Project, after: Callable[[Project, int], None]) -> None:
    """Append and run in turns, with something done after each run; counts the jobs."""
    for number in range(len(ARRIVALS)):
        append(project, number)
        project.start_counting()
        project.kaizen("run").good()
        made = STEP if number else {"shards": 1, "step": 1, "evaluation": 1, "summary": 1}
        stream = read_stream(project.root)
        if stream and number and stream.arrivals[number - 1].retired is not None:
            # Retiring the newest arrival made the next step's memory.
            made = {kind: count for kind, count in made.items() if kind != "replay"}
        assert project.jobs() == made, f"arrival {number}"
        after(project, number)


@pytest.mark.parametrize("policy", ["first_n", "herding"])
def test_one_by_one_gives_the_bytes_of_all_at_once(
    at_once: Project, tmp_path: Path, policy: str
) -> None:
    """Also a class that comes back, one that sorts before those seen, images without a class."""
    expected = at_once
    if policy != "first_n":
        expected = make_stream(tmp_path / "at_once", {"replay.policy": policy})
        for number in range(len(ARRIVALS)):
            append(expected, number)
        expected.kaizen("run").good()
    project = make_stream(tmp_path / "project", {"replay.policy": policy})
    one_by_one(project, lambda project, number: None)
    assert results(project) == results(expected)
    assert len(models(project)) == 2 * len(ARRIVALS)


def test_raw_images_may_be_gone_once_they_are_ingested(at_once: Project, tmp_path: Path) -> None:
    project = make_stream(tmp_path / "project")

    def remove(project: Project, number: int) -> None:
        shutil.rmtree(project.root / RAW / f"day-{number}")

    one_by_one(project, remove)
    assert results(project) == results(at_once)
    assert not any((project.root / RAW).iterdir())
    for command in ("plan", "check", "verify", "publish"):
        project.kaizen(command).good()
    shutil.rmtree(project.root / "results")
    project.kaizen("run").good()
    assert results(project) == results(at_once), "published again, and nothing made"


def test_retired_images_are_never_asked_for(at_once: Project, tmp_path: Path) -> None:
    """Two arrivals are retired, each right after its step: models and replay are the same."""
    project = make_stream(tmp_path / "project")

    def give_up(project: Project, number: int) -> None:
        if number not in (1, 2):
            return
        dry = project.kaizen("retire", f"day-{number}").good()
        assert "would be removed" in dry and "nothing was changed" in dry
        assert (project.root / RAW / f"day-{number}").exists()
        project.kaizen("retire", f"day-{number}", "--delete").good()
        assert not (project.root / RAW / f"day-{number}").exists()
        names = {path.name for path in (project.root / f"data/shards/task-0{number}").iterdir()}
        assert names == {f"task-0{number}.test.parquet", "tasks.json", "node.json"}
        stored = [path.name for path in project.store.root.rglob("*.parquet")]
        assert f"task-0{number}.train.parquet" not in stored

    one_by_one(project, give_up)
    assert models(project) == models(at_once)
    replayed = [path for path in results(at_once) if path.startswith("data/replay")]
    assert replayed and all(
        results(project)[path] == results(at_once)[path]
        for path in replayed
        if path.endswith("replay.parquet")
    )
    of_kaizen, of_other = (
        read_json(project.root / f"results/evaluations/{run}/step-04/accuracy.json")["row"]
        for run in RUNS
    )
    every = read_json(at_once.root / f"results/evaluations/{RUNS[0]}/step-04/accuracy.json")["row"]
    assert of_kaizen["classifier"] == every["classifier"]
    assert of_kaizen["knn"] is not None and of_other["knn"] is not None
    shown = project.kaizen("plan").good()
    assert shown.count("made from retired data") >= 4
    card = (project.root / "data/shards/README.md").read_text()
    assert "the training images of task 1, task 2 were given up" in card
    # A step that learnt from them cannot be made again, and is named.
    project.set({"train.epochs": 2})
    outcome = project.kaizen("run")
    assert outcome.code == 2 and "shards of arrival 1, day-1" in outcome.output
    assert "cannot be made again" in outcome.output and "Traceback" not in outcome.output
    project.set({"train.epochs": 1})
    outcome = project.kaizen("retire", "day-1")
    assert outcome.code == 2 and "was retired before" in outcome.output
    outcome = project.kaizen("retire", "day-9")
    assert outcome.code == 2 and "no arrival is called 'day-9'" in outcome.output


@pytest.mark.parametrize("policy", ["first_n", "reservoir", "herding"])
def test_with_replay_no_row_of_it_is_left_anywhere(tmp_path: Path, policy: str) -> None:
    project = make_stream(
        tmp_path / "project", {"replay.policy": policy, "replay.proportion": [0.5]}
    )
    for number in range(3):
        append(project, number)
    project.kaizen("run").good()
    secret = {
        image
        for path in (project.root / "data/shards/task-01").glob("*.train.parquet")
        for image in pq.read_table(path)["image"].to_pylist()
    }
    kept = pq.read_table(next(project.root.glob("data/replay/*/**/step-02/replay.parquet")))
    assert secret & set(kept["image"].to_pylist())
    steps = models(project)
    dry = project.kaizen("retire", "day-1", "--replay").good()
    assert "for task 2" in dry and "nothing was changed" in dry
    project.kaizen("retire", "day-1", "--replay", "--delete").good()
    assert models(project) == steps
    for number in (3, 4):
        append(project, number)
        project.kaizen("run").good()
    project.check_nothing_stale()
    for folder in (project.store.root, project.root / "data", project.root / "results"):
        for path in folder.rglob("*.parquet"):
            columns = pq.read_schema(path).names
            if "image" in columns and "test" not in path.name:
                assert not secret & set(pq.read_table(path)["image"].to_pylist()), path
    later = pq.read_table(next(project.root.glob("data/replay/*/**/step-04/replay.parquet")))
    assert later.num_rows > 0
    assert not list(project.root.glob("data/replay/*/**/step-02"))
    outcome = project.kaizen("retire", "day-1", "--replay")
    assert outcome.code == 2 and "was retired before" in outcome.output


def test_a_retirement_that_was_killed_goes_on(
    at_once: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the stream's file says so, before anything was removed."""
    import kaizen.jobs.retire as module

    project = at_once.copy(tmp_path / "project")

    def killed(*given: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "remove", killed)
    assert project.kaizen("retire", "day-4", "--delete").code == 130
    assert (project.root / RAW / "day-4/train/eel/00.png").exists()
    monkeypatch.undo()
    project.kaizen("retire", "day-4", "--delete").good()
    assert not (project.root / RAW / "day-4").exists()
    assert not list(project.store.root.rglob("task-04.train.parquet"))
    project.check_nothing_stale()


def test_what_another_checkout_needs_is_left_and_reported(at_once: Project, tmp_path: Path) -> None:
    project = at_once.copy(tmp_path / "project")
    other = Project(tmp_path / "other", project.store.root)
    shutil.copytree(project.root, other.root, ignore=shutil.ignore_patterns(".kaizen"))
    other.kaizen("run").good()
    printed = project.kaizen("retire", "day-1", "--delete").good()
    assert f"{other.root} needs it" in printed
    assert list(project.store.root.rglob("task-01.train.parquet"))
    other.kaizen("plan").good()
    other.kaizen("run").good()


def test_an_arrival_that_is_still_needed_is_not_retired(tmp_path: Path) -> None:
    project = make_stream(tmp_path / "project", arrivals=ARRIVALS[:2])
    append(project, 0)
    outcome = project.kaizen("retire", "day-0", "--delete")
    assert outcome.code == 2 and "is still needed" in outcome.output
    assert (project.root / RAW / "day-0/train/cat/00.png").exists()


def test_only_what_arrived_is_removed(at_once: Project, tmp_path: Path) -> None:
    project = at_once.copy(tmp_path / "project")
    note = project.root / RAW / "day-1" / "train" / "bee" / "notes.txt"
    note.write_text("mine")
    told = project.kaizen("retire", "day-1", "--delete").good()
    assert note.read_text() == "mine" and "is not empty and was left" in told
    assert not list((project.root / RAW / "day-1").rglob("*.png"))


@pytest.mark.parametrize("listed", [False, True])
def test_a_removal_that_was_killed_takes_the_rest_and_no_other_file(
    at_once: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    """Killed after each number of files: a class may be gone, and a list name what is."""
    root = tmp_path / "project"
    project = at_once.copy(root)
    if listed:
        # The last arrival comes with a list of labels, and no other one is changed.
        write_arrival(root / RAW / "day-5", {"fox": 4, "gnu": 4}, 9)
        rows = [f"train/{name}/{n:02d}.png,{name}\n" for name in ("fox", "gnu") for n in range(4)]
        (root / RAW / "day-5/labels.csv").write_text("path,label\n" + "".join(rows))
        append(project, 5)
        project.kaizen("run").good()
    number = 5 if listed else 2
    folder = root / RAW / f"day-{number}"
    real, left = Path.unlink, [5]

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".png":
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        real(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert project.kaizen("retire", f"day-{number}", "--delete").code == 130
    monkeypatch.undo()
    count = 8 if listed else 20
    assert len(list(folder.rglob("*.png"))) == count - 5
    write_image(folder / "train" / "new" / "00.png", 5)
    shown = project.kaizen("retire", f"day-{number}").good()
    assert f"would be removed: {count - 5 + listed} files" in shown
    project.kaizen("retire", f"day-{number}", "--delete").good()
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["00.png"]
    assert not list(project.store.root.rglob(f"task-0{number}.train.parquet"))
    # A folder that is used again holds nothing of the arrival.
    write_arrival(folder, {"owl": 6, "new": 6}, 8)
    outcome = project.kaizen("retire", f"day-{number}", "--delete")
    assert outcome.code == 2 and "was retired before" in outcome.output
    assert len(list(folder.rglob("*.png"))) == 12
    project.check_nothing_stale()


def test_images_that_cannot_be_removed_are_named_before_anything_is_done(
    at_once: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = at_once.copy(tmp_path / "project")
    stream = (project.root / STREAM_FILE).read_bytes()
    folder, access = project.root / RAW / "day-1" / "train" / "bee", os.access
    # root may write everywhere.
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) != folder and access(path, mode)
    )
    for more in ([], ["--delete"]):
        outcome = project.kaizen("retire", "day-1", *more)
        assert outcome.code == 2 and f"images in {folder} cannot be removed" in outcome.output
    monkeypatch.undo()
    assert (project.root / STREAM_FILE).read_bytes() == stream
    assert len(list((project.root / RAW / "day-1").rglob("*.png"))) == 20


def test_shards_by_other_parameters_go_too(tmp_path: Path) -> None:
    project = make_stream(tmp_path / "project", arrivals=ARRIVALS[:2])
    for number in (0, 1):
        append(project, number)
    project.kaizen("run").good()
    project.set({"labels.fraction": 0.5})
    project.kaizen("run").good()
    assert len(list(project.store.root.rglob("task-01.train.parquet"))) == 2
    dry = project.kaizen("retire", "day-1").good()
    assert dry.count("its shards by other parameters or code") == 1
    project.kaizen("retire", "day-1", "--delete").good()
    assert not list(project.store.root.rglob("task-01.train.parquet"))
    assert len(list(project.store.root.rglob("task-00.train.parquet"))) == 2
    project.kaizen("run").good()
    project.check_nothing_stale()
    # By the parameters from before nothing of it can be made; retiring the other arrival does not
    # make a summary from what is not there.
    project.set({"labels.fraction": 1.0})
    printed = project.kaizen("retire", "day-0", "--delete").output
    assert "Traceback" not in printed and "is not in" not in printed, printed


def test_images_that_came_back_are_retired_again(at_once: Project, tmp_path: Path) -> None:
    """As in a checkout that gets another's data/stream.yaml, and has the images."""
    project = at_once.copy(tmp_path / "project")
    folder = project.root / RAW / "day-1"
    shutil.copytree(folder, tmp_path / "kept")
    project.kaizen("retire", "day-1", "--delete").good()
    shutil.copytree(tmp_path / "kept", folder)
    assert "would be removed: 20 files" in project.kaizen("retire", "day-1").good()
    project.kaizen("retire", "day-1", "--delete").good()
    assert not folder.exists()


def test_only_folders_of_the_arrival_go_and_links_are_named(tmp_path: Path) -> None:
    project = make_stream(tmp_path / "project", arrivals=ARRIVALS[:1])
    append(project, 0)
    away, disk = tmp_path / "away", tmp_path / "disk"
    write_arrival(away, {"owl": 6}, 7)
    (disk / "next" / "owl").mkdir(parents=True)
    for path in (away / "train/owl").iterdir():
        (disk / "next" / "owl" / path.name).symlink_to(path)
    project.kaizen("append", str(disk / "next")).good()
    project.kaizen("run").good()
    told = project.kaizen("retire", "next", "--delete").good()
    assert "6 of the images were links; the files that they led to are left" in told
    assert str(away / "train/owl") in told
    assert disk.is_dir() and not list(disk.iterdir())
    assert len(list(away.rglob("*.png"))) == 6


def test_every_shard_step_and_card_has_the_classes_by_name(at_once: Project) -> None:
    names = ["cat", "dog", "ant", "bee", "ape", "eel"]
    stream = read_stream(at_once.root)
    assert stream is not None and list(stream.classes) == names
    for task, labels in enumerate(([0, 1], [2, 3], [0, 4], [], [5])):
        folder = at_once.root / f"data/shards/task-{task:02d}"
        for part in ("train", "test"):
            info = shard_info(folder / f"task-{task:02d}.{part}.parquet")
            assert list(info.classes) == labels
            assert list(info.class_names) == [names[label] for label in labels]
        seen = read_json(folder / "tasks.json")["classes"]
        assert seen == names[: len(seen)] and len(seen) == [2, 4, 5, 5, 6][task]
    for run in RUNS:
        step = read_json(at_once.root / f"results/models/{run}/step-02/node.json")
        assert step["params"]["num_classes"] == 5 and "logits" not in step["params"]
        classes = read_json(at_once.root / f"results/models/{run}/step-02/step.json")["classes"]
        assert classes == {str(label): name for label, name in enumerate(names[:5])}
        for step, count in enumerate((2, 4, 5, 5, 6)):
            model = kaizen.load(at_once.root / f"results/models/{run}/step-{step:02d}")
            assert list(model.classes) == names[:count]
    card = (at_once.root / "data/shards/README.md").read_text()
    # Task 3 has no class to hold a share of.
    assert "- **Held out for testing**: 20 % of every class, seed 0: task 0, 1, 2, 4\n" in card
    unlabelled = at_once.root / "data/shards/task-03/task-03.train.parquet"
    assert set(pq.read_table(unlabelled)["label"].to_pylist()) == {-1}


def test_the_report_shows_what_was_measured(at_once: Project) -> None:
    """No test image in task 3, and nothing was measured before a task arrived."""
    table = pq.read_table(at_once.root / "results/summary/accuracy.parquet").to_pylist()
    measured = {(row["step"], row["task"]) for row in table if row["reader"] == "classifier"}
    assert measured == {(t, i) for t in range(5) for i in (0, 1, 2, 4) if i <= t}
    metrics = read_json(at_once.root / "results/summary/metrics_full.json")["simclr"]["kaizen"]
    assert metrics["classifier"]["forward_transfer"]["mean"] is None
    assert 0 <= metrics["classifier"]["final_accuracy"]["mean"] <= 1
    assert "linear_probe" not in metrics and "linear_probe_seen" in metrics


@pytest.fixture(scope="module")
def grown(made_once: MadeOnce) -> Project:
    """A checkout with two arrivals, each followed by a `dvc repro`, without their raw images."""

    def make(root: Path) -> None:
        project = make_checkout(root)
        shutil.rmtree(root / "data/raw/digits", ignore_errors=True)
        tiny = make_stream(root.parent / "tiny", arrivals=ARRIVALS[:3])
        shutil.copytree(tiny.root / RAW, root / RAW)
        shutil.copyfile(tiny.params, project.params)
        project.run("dvc", "remote", "add", "--default", "here", str(root.parent / "remote"))
        for number in range(2):
            project.python("append", f"day-{number}").good()
            project.commit(f"arrival {number}")
            project.start_counting()
            project.run("dvc", "repro", "--quiet")
            made = STEP if number else {"shards": 1, "step": 1, "evaluation": 1, "summary": 1}
            assert project.jobs() == made
            project.commit(f"results of arrival {number}")
            shutil.rmtree(root / RAW / f"day-{number}")
        project.run("dvc", "push", "--quiet")

    return Project(made_once("grown_stream", make))


def test_a_clone_goes_on_without_any_old_image(grown: Project, tmp_path: Path) -> None:
    """Through dvc push and pull: the clone has neither store nor raw images of the first two."""
    project = grown.copy_with_links(tmp_path / "checkout")
    clone = Project(tmp_path / "clone")
    project.run("git", "clone", "--quiet", str(project.root), str(clone.root))
    clone.run("dvc", "pull", "--quiet")
    shutil.copytree(grown.root / RAW / "day-2", clone.root / RAW / "day-2")
    clone.python("append", "day-2").good()
    clone.start_counting()
    clone.snakemake().good()
    assert clone.jobs() == STEP
    clone.check_nothing_stale()
    assert (clone.root / STREAM_FILE).exists()
