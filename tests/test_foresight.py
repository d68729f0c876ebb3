"""What would fail a job late is reported by the plan and by `kaizen check`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from project import CLASSES, Project, make_checkout, make_project, write_image

from kaizen.data.sources import open_source
from kaizen.errors import KaizenError
from kaizen.jobs.foresight import sees_gpu
from kaizen.params import DatasetParams


def refused(project: Project, *texts: str) -> None:
    """`kaizen check`, `plan` and `run` end with exit code 2 and these texts, with nothing made."""
    for command in ("check", "plan", "run"):
        outcome = project.kaizen(command)
        assert outcome.code == 2, outcome.output
        for text in texts:
            assert text in outcome.output
    assert not any(project.nodes())


def test_images_of_several_sizes_need_a_load_size(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_image(project.images / "train" / CLASSES[0] / "03.png", 1, (12, 9))
    refused(
        project,
        "image.load_size: null",
        "8 x 8 and 12 x 9",
        "03.png",
        "image.load_size",
        "such as 8",
    )
    project.set({"image.load_size": 8})
    assert project.kaizen("check").code == 0


@pytest.mark.parametrize("ratio", [(8, 12), (12, 8)])
def test_equal_sides_in_another_order_are_another_size(
    tmp_path: Path, ratio: tuple[int, int]
) -> None:
    project = make_project(tmp_path)
    for part in ("train", "test"):
        for path in (project.images / part).glob("*/*.png"):
            write_image(path, int(path.stem), (8, 12))
    write_image(project.images / "test" / CLASSES[1] / "00.png", 7, ratio)
    source = open_source(DatasetParams(source="image_folder", path=str(project.images)))
    looks = source.looks(1000, 0)
    assert looks is not None and (looks.unlike is None) == (ratio == (8, 12))


def test_a_task_with_one_training_image_is_no_task(tmp_path: Path) -> None:
    project = make_project(tmp_path, {"split.classes": [[CLASSES[0]], [*CLASSES[1:]]]})
    project.set({"split.tasks": 2})
    for path in sorted((project.images / "train" / CLASSES[0]).glob("*.png"))[1:]:
        path.unlink()
    refused(project, "split: task 0 has 1 training image,", "at least 2", "fewer tasks")
    write_image(project.images / "train" / CLASSES[0] / "99.png", 4321)
    project.set({"replay.proportion": [0.5]})  # of two images, one
    assert project.kaizen("check").code == 0


@pytest.mark.parametrize(("images", "tasks", "fits"), [(1, 2, False), (2, 1, True)])
def test_made_up_images_are_counted_too(
    tmp_path: Path, images: int, tasks: int, fits: bool
) -> None:
    project = make_project(tmp_path)
    project.set(
        {
            "dataset": {"source": "synthetic", "synthetic": {"classes": 2, "train": images}},
            "split": {"tasks": tasks},
        }
    )
    assert (project.kaizen("check").code == 0) == fits


def test_a_backbones_package_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name in ("timm", "torchvision") else found(name, *rest),
    )
    project.set({"model.backbone": "timm/resnet26d"})
    refused(project, "timm/resnet26d needs the package timm", "pip install timm")
    project.set({"model.backbone": "resnet18"})
    assert project.kaizen("check").code == 0


@pytest.mark.parametrize("source", ["cifar10", "cifar100", "stl10"])
def test_a_path_that_does_not_exist_starts_no_download(tmp_path: Path, source: str) -> None:
    with pytest.raises(
        KaizenError, match=rf"dataset\.path: {tmp_path}/cifra does not exist.*null to download it"
    ):
        open_source(DatasetParams(source=source, path=str(tmp_path / "cifra")))
    open_source(DatasetParams(source=source, path=None))


@pytest.mark.parametrize(
    ("files", "environment", "seen"),
    [
        ([], {}, False),
        (["nvidiactl"], {}, False),
        (["nvidia0"], {}, True),
        (["dxg"], {}, True),
        (["kfd"], {}, True),
        (["nvidia0"], {"CUDA_VISIBLE_DEVICES": ""}, False),
        (["nvidia0"], {"CUDA_VISIBLE_DEVICES": "-1"}, False),
        (["nvidia0"], {"CUDA_VISIBLE_DEVICES": "0"}, True),
    ],
)
def test_signs_of_a_gpu(
    tmp_path: Path, files: list[str], environment: dict[str, str], seen: bool
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert sees_gpu(environment, tmp_path, "posix") == seen


def test_check_notes_an_absent_gpu_and_the_plan_stays_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    project = make_project(tmp_path, {"train.device": "cuda"})
    outcome = project.kaizen("check")
    assert (
        outcome.code == 0 and "train.device: cuda, but this machine shows no GPU" in outcome.output
    )
    assert project.kaizen("plan").code == 0
    outcome = project.kaizen("run")
    assert outcome.code == 2 and "train.device: cuda" in outcome.output
    assert not any(project.nodes())


def test_an_error_under_snakemake_stands_between_no_specifications(tmp_path: Path) -> None:
    project = make_checkout(tmp_path / "checkout")
    project.set({"train.lr": 1e30})
    outcome = project.snakemake("--cores", "2")
    assert outcome.code != 0 and "not finite" in outcome.output
    assert "/.specs/step-" in outcome.output and '"params":' not in outcome.output


def test_snakemake_refuses_an_absent_gpu_before_any_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    project = make_checkout(tmp_path / "checkout")
    project.set({"train.device": "cuda"})
    outcome = project.snakemake("--cores", "2")
    assert outcome.code != 0 and "this machine shows no GPU" in outcome.output, outcome.output
    assert "Traceback" not in outcome.output
    assert not any(project.nodes())
