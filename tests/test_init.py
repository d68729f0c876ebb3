"""`kaizen init`: a folder that works, parameters that fit the images, and nothing overwritten."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from project import REPOSITORY, Outcome, Project

from kaizen import cli
from kaizen.errors import KaizenError
from kaizen.params.validation import load_params
from kaizen.start import measure as measured
from kaizen.start import new
from kaizen.start.files import project_files
from kaizen.start.fitted import _task_sizes, fit
from kaizen.start.params_text import params_text

TINY = "train: { epochs: 1, warmup_epochs: 0 }\nevaluation: { probe_iterations: 5 }\n"


def write(path: Path, seed: int, size: tuple[int, int], colour: bool, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, 3) if colour else (*size, 1)
    pixels = np.random.default_rng(seed).integers(40, 200, shape, dtype=np.uint8)
    Image.fromarray(np.broadcast_to(pixels, (*size, 3)).copy()).convert(mode).save(path)


def photos(
    root: Path,
    classes: int = 4,
    count: int = 6,
    size: Sequence[int] = (24, 27),
    colour: bool = True,
    mode: str = "RGB",
    below: str = "",
) -> Path:
    """``count`` images of each class, whose sides are drawn from the range ``size``."""
    rng = np.random.default_rng(classes)
    for label in range(classes):
        for number in range(count):
            height, width = (int(rng.integers(size[0], size[1] + 1)) for _ in range(2))
            path = root / below / f"class {label}" / f"{number:03d}.png"
            write(path, 1000 * label + number + len(below), (height, width), colour, mode)
    return root


def init(capsys: pytest.CaptureFixture[str], *arguments: object) -> Outcome:
    code = cli.main(["init", *map(str, arguments)])
    out, err = capsys.readouterr()
    return Outcome(code, out + err)


def values(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    return found


def everything(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# -- the files ---------------------------------------------------------------------------------


def test_the_demo_with_all_that_a_project_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = init(capsys, tmp_path / "a b").good()
    project = tmp_path / "a b"
    assert f"next: cd '{project}' && kaizen check && snakemake" in output
    assert (project / "params.yaml").read_bytes() == (REPOSITORY / "params.yaml").read_bytes()
    for name in ("Snakefile", "workflow/rules/train.smk", ".dvc/plots/loss_terms.json"):
        assert (project / name).read_bytes() == (REPOSITORY / name).read_bytes()
    assert (project / ".gitignore").read_text().splitlines()[-1] == "/dvc_plots/"
    assert os.access(project / "profiles/cluster-generic/submit.sh", os.X_OK)
    # There is no code in it for DVC to look at.
    theirs, ours = (yaml.safe_load((p / "dvc.yaml").read_text()) for p in (REPOSITORY, project))
    theirs["stages"]["experiment"]["deps"].remove("kaizen")
    assert ours == theirs
    monkeypatch.chdir(project)
    assert cli.main(["plan"]) == 0
    assert "0 done" in capsys.readouterr().out


def test_what_git_and_dvc_do_not_take_is_as_in_the_checkout() -> None:
    tools = {"*.egg-info/", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/", "/site/"}
    files = project_files()
    for name, more in ((".gitignore", tools), (".dvcignore", {line[:-1] for line in tools})):
        theirs = {x for x in (REPOSITORY / name).read_text().splitlines() if x[:1] != "#"}
        ours = {x for x in files[name].decode().splitlines() if x[:1] != "#"}
        assert theirs - more == ours
    assert files[".dvc/.gitignore"] == (REPOSITORY / ".dvc/.gitignore").read_bytes()


def test_presets_are_merged_and_comments_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "p"
    init(capsys, "--preset", "digits-3-seeds", "--preset", "quick", project).good()
    text = (project / "params.yaml").read_text(encoding="utf-8")
    assert "# the stream: so many tasks" in text
    assert load_params(project / "params.yaml") == load_params(
        REPOSITORY / "params.yaml",
        [REPOSITORY / f"presets/{name}.yaml" for name in ("digits-3-seeds", "quick")],
    )


def test_an_unknown_preset_is_refused_with_those_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = init(capsys, tmp_path / "deep/p", "--preset", "digits-3-seed").bad()
    assert "did you mean digits-3-seeds?" in message and "Traceback" not in message
    assert list(tmp_path.iterdir()) == []


# -- nothing is overwritten --------------------------------------------------------------------


def _file(project: Path) -> None:
    (project / "Snakefile").write_text("mine")


def _folder(project: Path) -> None:
    (project / "params.yaml").mkdir()


def _link(project: Path) -> None:
    (project / "elsewhere").mkdir()
    (project / "workflow").symlink_to("elsewhere")


def _dead_link(project: Path) -> None:
    (project / ".gitignore").symlink_to("nowhere")


@pytest.mark.parametrize(
    ("taken", "name"),
    [
        (_file, "Snakefile"),
        (_folder, "params.yaml"),
        (_link, "workflow/envs/kaizen.yaml"),
        (_dead_link, ".gitignore"),
    ],
    ids=["a file", "a folder", "a link in the place of a folder", "a link to nowhere"],
)
def test_what_is_there_is_named_and_stays(
    taken: Any, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    taken(tmp_path)
    before = everything(tmp_path), sorted(tmp_path.rglob("*"))
    message = init(capsys, tmp_path).bad()
    assert f"{name!r}" in message and "nothing is overwritten" in message
    assert (everything(tmp_path), sorted(tmp_path.rglob("*"))) == before


def test_a_folder_with_other_files_is_filled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    init(capsys, tmp_path).good()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    again = init(capsys, tmp_path).bad()
    assert f"{tmp_path} has 'params.yaml' already" in again


@pytest.mark.parametrize("there", [False, True], ids=["a new folder", "a folder that is there"])
def test_a_failure_leaves_nothing(
    there: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = tmp_path / "deep/p"
    if there:
        project.mkdir(parents=True)
        (project / "notes.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    written = 0

    def full(path: Path, content: bytes) -> None:
        nonlocal written
        written += 1
        if written == 20:
            raise KaizenError("the disk is full")
        put(path, content)

    put = new._put
    monkeypatch.setattr(new, "_put", full)
    assert "the disk is full" in init(capsys, project, "--dvc").bad()
    assert written == 20 and sorted(tmp_path.rglob("*")) == before
    init(capsys, project, "--dvc").good()


def test_a_killed_command_does_not_stand_in_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It leaves whole files, and no params.yaml."""
    whole = tmp_path / "whole"
    init(capsys, whole).good()
    half = tmp_path / "half"
    half.mkdir()
    for name in ("Snakefile", "dvc.yaml", ".params.yaml.new"):
        (half / name).write_bytes(project_files().get(name, b"half"))
    init(capsys, half).good()
    assert everything(half) == everything(whole)


# -- parameters for images ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ({}, {"channels": 3, "size": 24, "load_size": 24, "tasks": 2, "flip": 0.5}),
        ({"size": (90, 130)}, {"size": 64, "load_size": 64, "resize": 64}),
        ({"size": (20, 20)}, {"size": 20, "load_size": None, "resize": None}),
        (
            {"colour": False, "mode": "L"},
            {"channels": 1, "drop_colour": False, "flip": 0.0, "greyscale": 0.0},
        ),
        ({"colour": False}, {"channels": 1, "drop_colour": True}),
        ({"classes": 7}, {"sizes": [3, 2, 2]}),
        ({"classes": 9}, {"tasks": 3}),
        ({"classes": 3}, {"by": "data", "tasks": 2}),
        ({"count": 30}, {"proportion": [0.1], "per_class": None}),
        ({"count": 6}, {"proportion": None, "per_class": [1]}),
    ],
    ids=lambda value: str(value) if value else "as they are",
)
def test_parameters_fit_the_images(
    images: dict[str, Any],
    expected: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photos(tmp_path / "photos", **images)
    project = tmp_path / "p"
    init(capsys, project, "--from", tmp_path / "photos").good()
    params = load_params(project / "params.yaml")
    parts = (params.image, params.split, params.replay, params.augment, params.dataset)
    found = {name: value for part in parts for name, value in vars(part).items()}
    assert {name: found[name] for name in expected} == expected
    # The source's own look at them finds nothing to say, and the plan holds.
    monkeypatch.chdir(project)
    assert cli.main(["check"]) == 0
    output = capsys.readouterr().out
    assert "is far from" not in output and "left out" not in output
    assert cli.main(["plan"]) == 0
    lines = (project / "params.yaml").read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 100 and sum("#" in line for line in lines) > 20


@pytest.mark.parametrize(
    ("images", "why"),
    [
        ({}, "Images differ in size:"),
        ({"size": (100, 100)}, "Images are larger, or no squares:"),
        ({"size": (20, 20), "classes": 5}, "Not all images were looked at (10), so sizes may"),
    ],
    ids=["sizes", "large", "not all seen"],
)
def test_the_reason_is_the_one(
    images: dict[str, Any], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "classes" in images:
        monkeypatch.setattr(measured, "SEEN", 10)
    found = measured.measure(photos(tmp_path / "photos", **images))
    fitted = fit(found)
    assert fitted.load_size == fitted.size
    assert why in " ".join(params_text(found, fitted, "x").replace("#", " ").split())


def test_mean_and_deviation_are_the_pixels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos(tmp_path / "photos", size=(24, 24), count=10)
    init(capsys, tmp_path / "p", "--from", tmp_path / "photos").good()
    pixels = np.stack([np.asarray(Image.open(p)) for p in (tmp_path / "photos").rglob("*.png")])
    image = values(tmp_path / "p")["image"]
    assert image["mean"] == pytest.approx((pixels.mean(axis=(0, 1, 2)) / 255).tolist(), abs=0.002)
    assert image["std"] == pytest.approx((pixels.std(axis=(0, 1, 2)) / 255).tolist(), abs=0.002)


def test_parts_unlabelled_images_and_unread_files_are_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in the project"
    folder.mkdir()
    images = folder / "data/raw/mine"
    photos(images, below="train")
    photos(images, below="test", count=2)
    write(images / "unlabelled/x.png", 7, (24, 30), True)
    (images / "train/class 1/y.heic").write_bytes(b"not for us")
    monkeypatch.chdir(folder)
    output = init(capsys, ".", "--from", "data/raw/mine").good()
    assert "33 images of 4 classes (6 of each to train on, 1 without a class; 8 to test)" in output
    assert "left out: " in output and "y.heic" in output
    assert values(folder)["dataset"]["path"] == "data/raw/mine"
    dataset = load_params(folder / "params.yaml").dataset
    assert dataset.on_corrupt == "skip"
    assert "test_fraction" not in values(folder)["dataset"]
    assert cli.main(["check"]) == 0
    assert "left out of train: 1 " in capsys.readouterr().out


def test_names_of_folders_are_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = photos(tmp_path / 'my "photos": #1\n- é')
    init(capsys, tmp_path / "p", "--from", images).good()
    assert load_params(tmp_path / "p/params.yaml").dataset.path == str(images)
    assert values(tmp_path / "p")["report"]["title"] == f"Kaizen on {images.name}"


@pytest.mark.parametrize(
    ("images", "text"),
    [
        ("nowhere", "nowhere is not a folder"),
        ("empty", "holds no class folders"),
        ("one", "has one class, 'class 0', and an experiment needs two"),
        ("flat", "holds no class folders"),
        ("broken", "none of the images that were looked at can be read"),
        ("domains", "all have the same folders, 'class 0', 'class 1'"),
        (".", "would lie among the images of"),
    ],
)
def test_images_that_no_experiment_can_be_of_are_refused(
    images: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    photos(tmp_path / "one", classes=1)
    write(tmp_path / "flat/x.png", 1, (8, 8), True)
    for domain in ("photographs", "sketches"):
        photos(tmp_path / "domains" / domain, classes=2, below=".")
    for label in "ab":
        for number in range(3):
            path = tmp_path / f"broken/{label}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"no image")
    before = sorted(tmp_path.rglob("*"))
    message = init(capsys, tmp_path / "p", "--from", tmp_path / images).bad()
    assert text in message and "Traceback" not in message and "dataset.path" not in message
    assert sorted(tmp_path.rglob("*")) == before


def test_a_preset_of_another_dataset_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = photos(tmp_path / "photos")
    arguments = (tmp_path / "p", "--from", images, "--preset")
    assert "names another dataset" in init(capsys, *arguments, "cifar100").bad()
    assert not (tmp_path / "p").exists()
    init(capsys, *arguments, "quick").good()
    assert values(tmp_path / "p")["train"]["epochs"] == 4


@pytest.mark.parametrize("classes", range(2, 120))
def test_tasks_hold_all_classes_and_at_least_two_each(classes: int) -> None:
    sizes = _task_sizes(classes)
    if classes < 4:
        assert sizes == ()
        return
    assert sum(sizes) == classes and min(sizes) >= 2 and max(sizes) - min(sizes) <= 1
    assert 2 <= len(sizes) <= 5


# -- it works ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project from images, with git and DVC."""
    root = tmp_path_factory.mktemp("begun")
    photos(root / "photos")
    project = Project(root / "project")
    (root / "project").mkdir()
    arguments = ("init", ".", "--from", "../photos", "--dvc", "--preset", str(root / "tiny.yaml"))
    (root / "tiny.yaml").write_text(TINY)
    project.python(*arguments).good()
    return project


def test_snakemake_and_dvc_run_it(begun: Project) -> None:
    begun.variables = {
        f"GIT_{who}_{what}": "t@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    } | {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": f"{begun.root}.dvc-site"}
    begun.commit("begin")
    assert "params.yaml" in begun.run("git", "ls-files")
    dvc = (sys.executable, "-m", "dvc")
    # Without --cores: the profile in the project has it.
    output = begun.run(sys.executable, "-m", "snakemake")
    assert "Kaizen" in output and "results/summary/figures/accuracy_bars.png" in output
    begun.check_nothing_stale()
    assert "> snakemake --cores all" in begun.run(*dvc, "repro", "--dry")
    begun.run(*dvc, "commit", "--force")
    status = begun.run(*dvc, "status").split()
    assert status == ["inputs:", "always", "changed"]
    assert begun.run("git", "status", "--short").split() == ["??", "dvc.lock"]
    # The code is no file of the project, and what is installed of it counts all the same.
    assert "code" in yaml.safe_load((begun.root / "data/inputs.json").read_text())


def test_a_repository_that_is_there_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    init(capsys, tmp_path / "deep/p", "--dvc").good()
    assert not (tmp_path / "deep/p/.git").exists()
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "root"],
        cwd=tmp_path / "deep/p/presets",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ".."


def test_kaizen_runs_it_from_a_folder_below(begun: Project, tmp_path: Path) -> None:
    project = Project(tmp_path / "p", begun.store.root)
    project.root.mkdir()
    images = os.path.relpath(begun.root.parent / "photos", project.root)
    tiny = str(begun.root.parent / "tiny.yaml")
    project.python("init", ".", "--from", images, "--preset", tiny).good()
    below = Project(project.root / "notes", begun.store.root)
    below.root.mkdir()
    assert "Kaizen" in below.python("run").good()
    (run,) = (project.root / "results/models").glob("*kaizen*")
    answers = below.python(
        "predict", os.path.relpath(run, below.root), str(begun.root.parent / "photos")
    ).good()
    assert "accuracy " in answers
