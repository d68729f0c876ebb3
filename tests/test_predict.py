"""`kaizen predict` and `kaizen embed`: from folders, files, globs and shards to lines and files,
with what is unreadable counted, and on from where they were interrupted.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from project import CLASSES, Outcome, Project, make_project
from rich.console import Console

import kaizen
from kaizen.data.names import CONFIG_FILE
from kaizen.files import read_json, sha256_file
from kaizen.inference import run as run_module
from kaizen.inference.inputs import find_inputs
from kaizen.inference.model import Model
from kaizen.inference.run import Work, run_over


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One variant on 2 tasks; its images stay where they are."""
    root = tmp_path_factory.mktemp("predict") / "project"
    project = make_project(root, {"grid.variants": ["kaizen"]})
    project.kaizen("run").good()
    return project


@pytest.fixture(scope="module")
def run_folder(project: Project) -> str:
    (folder,) = project.root.glob("results/models/*kaizen*")
    return folder.relative_to(project.root).as_posix()


@pytest.fixture(scope="module")
def model(project: Project, run_folder: str) -> Model:
    return kaizen.load(project.root / run_folder)


def rows_of(path: Path) -> list[dict[str, object]]:
    """The rows of an output of any kind, with values of Python."""
    if path.suffix == ".parquet":
        found: list[dict[str, object]] = pq.read_table(path).to_pylist()
        return found
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with open(path, encoding="utf-8", newline="") as file:
        return [{name: v or None for name, v in row.items()} for row in csv.DictReader(file)]


# -- what is looked at -------------------------------------------------------------------------


def test_class_folders_give_accuracy_and_confusion(project: Project, run_folder: str) -> None:
    """Those that the evaluation has, after the last step."""
    output = project.kaizen("predict", run_folder, "images/test").good()
    assert output == project.kaizen("predict", run_folder, "images/test/").good()
    (file,) = project.root.glob("results/evaluations/*kaizen*/accuracy.json")
    measured = np.mean(read_json(file)["matrices"]["classifier"][1])
    right = round(measured * 24)
    assert f"accuracy {100 * measured:.1f} %: {right} of 24 images\n" in output
    lines = output.splitlines()
    start = lines.index("true class (rows) taken for (columns):")
    assert lines[start + 1].split() == list(CLASSES)
    counts = np.array([[int(n) for n in line.split()[1:]] for line in lines[start + 2 : start + 6]])
    assert counts.sum(axis=1).tolist() == [6, 6, 6, 6] and counts.trace() == right


def test_a_line_for_each_image_has_the_most_probable_classes(
    project: Project, run_folder: str, model: Model
) -> None:
    place = "images/test/cat/03.png"
    names, (shares,) = model.predict(project.root / place)
    output = project.kaizen("predict", run_folder, place, "--top", "2").good()
    (line,) = output.splitlines()
    found = re.fullmatch(rf"{place}: (\w+) (0\.\d+)  (\w+) (0\.\d+)", line)
    assert found is not None and found[1] == names[0]
    values, places = shares.topk(2)
    assert [found[1], found[3]] == [model.classes[k] for k in places.tolist()]
    assert [float(found[2]), float(found[4])] == pytest.approx(values.tolist(), abs=6e-4)


def test_folders_files_globs_and_shards_are_all_images(
    project: Project, run_folder: str, tmp_path: Path, model: Model
) -> None:
    what = ["images/test/ant", "images/test/bee/00.png", "images/test/[cd]*/*.png"]
    what += ["images/**/03.png", "data/shards/task-01.test.parquet"]
    out = tmp_path / "found.parquet"
    project.kaizen("embed", run_folder, *what, "--out", str(out), "--batch-size", "5").good()
    rows = rows_of(out)
    shard = "data/shards/task-01.test.parquet"
    paths = pq.read_table(project.root / shard, columns=["path"]).column("path").to_pylist()
    folder = [f"images/test/ant/0{n}.png" for n in range(6)]
    matched = [f"images/test/{name}/0{n}.png" for name in ("cat", "dog") for n in range(6)]
    deep = [f"images/{part}/{name}/03.png" for part in ("test", "train") for name in CLASSES]
    expected = [*folder, "images/test/bee/00.png", *matched, *deep]
    assert [row["file"] for row in rows] == [*expected, *(f"{shard}:{path}" for path in paths)]
    # Only the shard says which class an image is of: a folder of images has no class folders.
    true = [row["true_class"] for row in rows]
    assert true == [None] * len(expected) + [Path(path).parent.name for path in paths]
    images = [project.root / path for path in expected] + [project.images / path for path in paths]
    features = torch.tensor([row["features"] for row in rows])
    torch.testing.assert_close(features, model.embed(images))


def test_images_of_unknown_classes_and_other_files_are_said(
    project: Project, run_folder: str, tmp_path: Path
) -> None:
    folder = tmp_path / "photographs"
    shutil.copytree(project.images / "test", folder)
    (folder / "dog").rename(folder / "wolf")
    (folder / "notes.txt").write_text("mine")
    (folder / "ant" / ".hidden.png").write_bytes(b"")
    (folder / "more").symlink_to(folder / "ant")
    outcome = project.kaizen("predict", f"{run_folder}/step-01", str(folder))
    assert "of 18 images\n" in outcome.good()
    assert "6 images of classes that the model has not seen are not counted: 'wolf'" in (
        outcome.output
    )
    assert "3 files left out as no images: " in outcome.output
    assert f"{folder}/notes.txt" in outcome.output and f"{folder}/more" in outcome.output


def test_an_earlier_step_answers_its_own_classes_only(project: Project, run_folder: str) -> None:
    config = read_json(project.root / run_folder / "step-00" / CONFIG_FILE)
    known = {entry["name"] for entry in config["classes"]}
    output = project.kaizen("predict", f"{run_folder}/step-00", "images/test", "--top", "9").good()
    lines = [line for line in output.splitlines() if line.startswith("images/test/")]
    assert len(lines) == 24
    assert all(set(line.partition(": ")[2].split()[::2]) == known for line in lines)
    assert "of 12 images\n" in output and "12 images of classes that the model has not" in output


# -- what comes out ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_every_kind_of_file_has_the_same_rows(
    project: Project, run_folder: str, tmp_path: Path, kind: str, model: Model
) -> None:
    folder = tmp_path / "images"
    shutil.copytree(project.images / "test", folder)
    (folder / "cat" / '0,"x\n.png').write_bytes(b"no image")
    paths = sorted(path for path in folder.rglob("*.png") if path.read_bytes() != b"no image")
    names, probabilities = model.predict(paths)
    out = tmp_path / f"out.{kind}"
    output = project.kaizen("predict", run_folder, str(folder), "--out", str(out)).good()
    assert f"{out}: 24 images\n" in output
    rows = rows_of(out)
    assert list(rows[0]) == ["file", "true_class", "error"] + [
        f"{name}_{k}" for k in range(1, 5) for name in ("class", "probability")
    ]
    good = [row for row in rows if row["error"] is None]
    (bad,) = (row for row in rows if row["error"] is not None)
    assert bad["file"] == f'{folder}/cat/0,"x\n.png' and bad["class_1"] is None
    assert "it is none of PNG" in str(bad["error"])
    assert [row["file"] for row in good] == [str(path) for path in paths]
    assert [row["true_class"] for row in good] == [path.parent.name for path in paths]
    assert [row["class_1"] for row in good] == names
    found = [float(str(row["probability_1"])) for row in good]
    assert found == pytest.approx(probabilities.max(dim=1).values.tolist(), rel=1e-6)

    out = tmp_path / f"features.{kind}"
    project.kaizen("embed", run_folder, str(folder), "--out", str(out)).good()
    rows = rows_of(out)
    features = [
        [float(str(row[f"features_{n}"])) for n in range(16)] if kind == "csv" else row["features"]
        for row in rows
        if row["error"] is None
    ]
    assert np.array(features) == pytest.approx(model.embed(paths).numpy(), rel=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        f"features.{kind}",
        f"out.{kind}",
    ]


def test_unreadable_images_are_listed_and_counted(
    project: Project, run_folder: str, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        (folder / f"broken-{number:02d}.png").write_bytes(b"\x89PNG\r\n")
    Image.new("I", (4, 4)).save(folder / "deep.tiff")
    outcome = project.kaizen("predict", run_folder, str(folder))
    assert outcome.code == 2
    assert "13 images could not be read:\n" in outcome.output
    assert outcome.output.count("broken-") == 10
    assert "  … and 3 more\n" in outcome.output
    assert "none of the images could be read" in outcome.output
    shutil.copyfile(project.images / "test/ant/00.png", folder / "good.png")
    output = project.kaizen("predict", run_folder, str(folder)).good()
    assert "13 images could not be read:\n" in output and f"{folder}/good.png: " in output


# -- interrupted -------------------------------------------------------------------------------


def interrupted(
    project: Project, arguments: list[str], monkeypatch: pytest.MonkeyPatch, after: int
) -> Outcome:
    """A command that Ctrl-C ends at the batch after so many."""
    calls = [0]
    original = Model.run

    def stop(self: Model, prepared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls[0] += 1
        if calls[0] > after:
            raise KeyboardInterrupt
        return original(self, prepared)

    with monkeypatch.context() as patch:
        patch.setattr(Model, "run", stop)
        return project.kaizen(*arguments)


@pytest.fixture
def counted_runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that are computed from now on."""
    sizes: list[int] = []
    original = Model.run

    def run(self: Model, prepared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(len(prepared))
        return original(self, prepared)

    monkeypatch.setattr(Model, "run", run)
    return sizes


@pytest.mark.parametrize("command", ["predict", "embed"])
@pytest.mark.parametrize("what", ["images", "data/shards/task-00.train.parquet"])
def test_an_interrupted_output_is_continued(
    project: Project,
    run_folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    counted_runs: list[int],
    command: str,
    what: str,
) -> None:
    monkeypatch.setattr(run_module, "_BATCHES_OF_PART", 2)
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    options = ["--batch-size", "5", "--out"]
    expected = project.kaizen(command, run_folder, what, *options, str(whole)).good()
    batches = len(counted_runs)
    arguments = [command, run_folder, what, *options, str(out)]
    outcome = interrupted(project, arguments, monkeypatch, after=3)
    assert outcome.code == 130 and not out.exists()
    assert sorted(path.name for path in (tmp_path / ".out.parquet.parts").iterdir()) == [
        "about.json",
        "part-000000.parquet",
    ]
    counted_runs.clear()
    found = project.kaizen(*arguments).good()
    assert len(counted_runs) == batches - 2, "the first part is not computed again"
    assert sha256_file(out) == sha256_file(whole)
    assert found == expected.replace(str(whole), str(out)), "accuracy counts what was done before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "whole.parquet"]


def with_copy(name: str) -> Callable[[list[str], Path], list[str]]:
    """Another image, or one in the place of another."""

    def change(arguments: list[str], folder: Path) -> list[str]:
        shutil.copyfile(folder / "ant/00.png", folder / f"ant/{name}.png")
        return arguments

    return change


CHANGED: dict[str, Callable[[list[str], Path], list[str]]] = {
    "another image": with_copy("01"),
    "one more image": with_copy("99"),
    "another step": lambda arguments, _: [arg.replace("step-01", "step-00") for arg in arguments],
    "another batch size": lambda arguments, _: ["4" if arg == "5" else arg for arg in arguments],
    "fewer classes": lambda arguments, _: [*arguments, "--top", "1"],
    "another precision": lambda arguments, _: [*arguments, "--precision", "bfloat16"],
}


@pytest.mark.parametrize("change", CHANGED)
def test_parts_of_another_output_are_not_continued(
    project: Project,
    run_folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    monkeypatch.setattr(run_module, "_BATCHES_OF_PART", 1)
    folder = tmp_path / "images"
    shutil.copytree(project.images / "test", folder)
    out, whole = tmp_path / "out.csv", tmp_path / "whole.csv"
    arguments = ["predict", f"{run_folder}/step-01", str(folder), "--batch-size", "5"]
    interrupted(project, [*arguments, "--out", str(out)], monkeypatch, after=2)
    arguments = CHANGED[change](arguments, folder)
    outcome = project.kaizen(*arguments, "--out", str(out))
    assert "it is made from its beginning" in outcome.good()
    project.kaizen(*arguments, "--out", str(whole)).good()
    assert out.read_bytes() == whole.read_bytes()


def a_file(parts: Path) -> None:
    parts.write_text("mine")


def a_folder(parts: Path) -> None:
    parts.mkdir()
    (parts / "notes.txt").write_text("mine")


def a_linked_folder(parts: Path) -> None:
    elsewhere = parts.parent / "elsewhere"
    elsewhere.mkdir()
    parts.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (a_file, "is no folder"),
        (a_folder, "holds notes.txt, which this command did not write"),
        (a_linked_folder, "is no folder"),
    ],
)
def test_what_lies_where_the_parts_are_to_be_is_left_alone(
    project: Project,
    run_folder: str,
    tmp_path: Path,
    make: Callable[[Path], None],
    message: str,
) -> None:
    parts = tmp_path / ".out.csv.parts"
    make(parts)
    before = sorted(tmp_path.rglob("*"))
    out = str(tmp_path / "out.csv")
    outcome = project.kaizen("predict", run_folder, "images/test", "--out", out)
    assert outcome.code == 2 and "Traceback" not in outcome.output
    assert f"--out: {parts} {message}, and the parts of" in outcome.output.replace("\n", " ")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_part_is_refused(
    project: Project, run_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_BATCHES_OF_PART", 1)
    out = tmp_path / "out.csv"
    arguments = ["predict", run_folder, "images/test", "--batch-size", "5", "--out", str(out)]
    interrupted(project, arguments, monkeypatch, after=2)
    part = tmp_path / ".out.csv.parts/part-000001.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    outcome = project.kaizen(*arguments)
    assert outcome.code == 2
    assert f"{part} is damaged (" in outcome.output and "remove" in outcome.output
    shutil.rmtree(part.parent)
    project.kaizen(*arguments).good()


# -- how it works ------------------------------------------------------------------------------


def test_images_are_decoded_in_parallel(
    project: Project, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads meet in the decoder; one alone would wait in vain."""
    barrier = threading.Barrier(2, timeout=30)
    original = Model.prepare_one

    def prepare(self: Model, *arguments: object) -> torch.Tensor:
        barrier.wait()
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "prepare_one", prepare)
    inputs = find_inputs([str(project.images / "test/ant")], model.classes)
    assert run_over(model, inputs, Work("predict", 6, workers=2), None).read == 6


def test_few_images_are_in_memory_at_a_time(
    project: Project, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are: those of the batches that are decoded ahead."""
    decoded, computed, most = [0], [0], [0]
    lock = threading.Lock()
    prepare, run = Model.prepare_one, Model.run

    def counting(self: Model, *arguments: object) -> torch.Tensor:
        with lock:
            decoded[0] += 1
            most[0] = max(most[0], decoded[0] - computed[0])
        return prepare(self, *arguments)  # type: ignore[arg-type]

    def computing(self: Model, prepared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = run(self, prepared)
        with lock:
            computed[0] += len(prepared)
        return found

    monkeypatch.setattr(Model, "prepare_one", counting)
    monkeypatch.setattr(Model, "run", computing)
    inputs = find_inputs([str(project.images)], model.classes)
    assert run_over(model, inputs, Work("embed", 2, workers=2), None).read == 72
    assert most[0] <= 2 * 3


def test_a_terminal_sees_progress_on_stderr(
    project: Project, run_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Console, "is_terminal", True)
    out = tmp_path / "out.csv"
    output = project.kaizen("predict", run_folder, "images/test", "--out", str(out)).good()
    assert "24/24" in output


# -- bad input ---------------------------------------------------------------------------------

BAD: dict[str, tuple[list[str], str]] = {
    "no model": (["nothing", "images"], "nothing does not exist; name a model's folder"),
    "no folder of a model": (["images", "images"], "images has neither config.json nor steps"),
    "no images": (["RUN", "nothing"], "nothing does not exist; name an image, a folder, a glob"),
    "an empty pattern": (["RUN", "images/*.jpg"], r"images/\*.jpg matches no file"),
    "a folder without": (["RUN", "data"], "there is no image in data; name image files"),
    "no shard": (["RUN", "results/summary/results.parquet"], "is not a Kaizen shard"),
    "another suffix": (["RUN", "images", "--out", "a.txt"], "a.txt ends in .txt; name a file that"),
    "no suffix": (["RUN", "images", "--out", "a"], "--out: a ends in nothing; name a file"),
    "a file that exists": (["RUN", "images", "--out", "there.csv"], "there.csv exists; remove it"),
    "no such folder": (["RUN", "images", "--out", "no/a.csv"], "--out: no is not a folder"),
    "no batch": (["RUN", "images", "--batch-size", "0"], "--batch-size: 0 is too few"),
    "no thread": (["RUN", "images", "--workers", "-1"], "--workers: -1 is too few"),
    "no class": (["RUN", "images", "--top", "0"], "--top: 0 is too few; at least 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_by_name(project: Project, run_folder: str, name: str) -> None:
    (project.root / "there.csv").write_text("mine")
    arguments, message = BAD[name]
    outcome = project.kaizen("predict", *(run_folder if a == "RUN" else a for a in arguments))
    assert outcome.code == 2 and "Traceback" not in outcome.output
    assert re.search(f"kaizen: .*{message}", outcome.output.replace("\n", " ")), outcome.output
    assert (project.root / "there.csv").read_text() == "mine"
