"""What `kaizen check` tells of the images before any work, and the refusal to lose colour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from project import make_project, write_image

from kaizen.data.found import Found
from kaizen.data.looks import describe, refuse_loss_of_colour
from kaizen.data.sources import open_source
from kaizen.data.sources.base import Source
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams, InputParams

COLOUR: dict[str, Any] = {"channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}


def folder(root: Path, **suffixes: Any) -> Source:
    """Two classes of 10 + 5 images, flat (200, 100, 50) or as ``suffixes`` say: name -> pixels."""
    for part, count in (("train", 10), ("test", 5)):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = suffixes.get("pixels", np.full((20, 30, 3), (200, 100, 50)))
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{number}.png")
    return open_source(DatasetParams(source="image_folder", path=str(root)))


def test_colour_is_not_lost_unless_asked_for(tmp_path: Path) -> None:
    source = folder(tmp_path)
    with pytest.raises(
        KaizenError,
        match=r"image\.channels: 1, but images are in colour .*train/cat/0\.png.*set "
        r"image\.channels: 3 .*\[0\.784, 0\.392, 0\.196\].*image\.drop_colour: true",
    ):
        refuse_loss_of_colour(source, InputParams())
    refuse_loss_of_colour(source, InputParams(drop_colour=True))
    refuse_loss_of_colour(source, InputParams(**COLOUR))


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_has_no_colour_to_lose_however_it_is_stored(tmp_path: Path, channels: int) -> None:
    ramp = np.arange(600).reshape(20, 30, 1).repeat(channels, axis=2) % 256
    source = folder(tmp_path, pixels=ramp if channels == 3 else ramp[..., 0])
    refuse_loss_of_colour(source, InputParams())
    assert ("grey in all that were decoded" in describe(source, InputParams(), Found())[0]) == (
        channels == 3
    )


@pytest.mark.parametrize(
    ("name", "refused"),
    [("digits", False), ("synthetic", True), ("cifar10", True), ("stl10", True)],
)
def test_other_sources_know_their_colour(name: str, refused: bool) -> None:
    source = open_source(DatasetParams(source=name))
    if refused:
        words = r"images are in colour \(all of them\).*image\.drop_colour"
        with pytest.raises(KaizenError, match=words):
            refuse_loss_of_colour(source, InputParams())
    refuse_loss_of_colour(source, InputParams(**(COLOUR if refused else {})))


def test_check_tells_what_the_images_are_and_what_is_seen(tmp_path: Path) -> None:
    source = folder(tmp_path)
    Image.new("L", (400, 40), 7).save(tmp_path / "train" / "cat" / "0.png")
    image = InputParams(size=32, load_size=36, **COLOUR)
    lines = describe(
        open_source(DatasetParams(source="image_folder", path=str(tmp_path))), image, Found()
    )
    assert lines[0].startswith("30 images: 29 RGB and 1 greyscale, 20–40 x 30–400 px, mean [")
    assert lines[0].endswith(
        " -> 32 x 32 RGB, from 36 x 36, normalised by mean [0.5, 0.5, 0.5], std [0.25, 0.25, 0.25]"
    )
    assert lines[1].startswith("image.mean: [0.5, 0.5, 0.5] is far from these images'; set image")
    assert (
        "null takes images of one size only" in describe(source, InputParams(**COLOUR), Found())[0]
    )


def test_check_tells_what_was_left_out_and_what_stands_twice(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    before = project.kaizen("check")
    assert before.output.startswith("72 images: RGB, 8 x 8 px, mean [")
    write_image(project.images / "train/ant/@eaDir/0.png/thumb.png", 1)
    (project.images / "test/ant/10.png").write_bytes(
        (project.images / "train/ant/00.png").read_bytes()
    )
    after = project.kaizen("check")
    assert after.code == 0 and after.output.splitlines()[1:] == [
        "left out of train: 1 images in @eaDir folders, the first train/ant/@eaDir/0.png/thumb.png",
        "copies: 1 test images that are training images too, such as test/ant/10.png = "
        "train/ant/00.png",
    ]
    project.set({"image.channels": 1, "image.mean": [0.5], "image.std": [0.5]})
    outcome = project.kaizen("check")
    assert outcome.code == 2 and "image.drop_colour: true" in outcome.output


def test_images_of_one_grey_are_not_to_be_divided_by_their_deviation_of_zero(
    tmp_path: Path,
) -> None:
    for path in ("train/cat/0.png", "train/dog/0.png", "test/cat/0.png", "test/dog/0.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 255).save(tmp_path / path)
    source = open_source(DatasetParams(source="image_folder", path=str(tmp_path)))
    line = describe(source, InputParams(), Found())[1]
    assert line.endswith("set image.mean: [1] and image.std: [1]")
