"""Images that cannot be read or trained on: refused by their path, and nothing is half made."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from bad_input import (
    IMAGE,
    IMAGE_SAYS,
    Case,
    check_intact,
    check_message,
    for_each,
    node_command,
    setting,
    spec_of,
    truncate,
    written,
)
from project import Project, write_image


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a huge image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(64)))
        + chunk(b"IEND", b"")
    )


IMAGE_CASES = (
    Case(
        "corrupt image",
        written(b"\x89PNG\r\n\x1a\n" + bytes(range(200)), IMAGE),
        IMAGE_SAYS,
        ("run",),
    ),
    Case("truncated image", lambda p: truncate(p.root / IMAGE), IMAGE_SAYS, ("run",)),
    Case("empty image", written(b"", IMAGE), IMAGE_SAYS, ("run",)),
    Case(
        "text named .jpg",
        written("not an image\n", "images/train/cat/99.jpg"),
        ("images/train/cat/99.jpg", *IMAGE_SAYS[1:]),
        ("run",),
    ),
    Case(
        "decompression bomb",
        written(png_claiming(60000, 60000), IMAGE),
        (*IMAGE_SAYS, "60000"),
        ("run",),
    ),
    Case(
        "no readable image left in a class",
        for_each("test/dog", truncate, dataset__on_corrupt="skip"),
        ("class 'dog'", "test part", "test/dog/00.png", "fix its images or remove the class"),
        ("run",),
    ),
    Case(
        "images of different sizes",
        lambda p: write_image(p.root / IMAGE, 1, (12, 8)),
        ("image.load_size: null", "8 x 8 and 12 x 8", "set image.load_size"),
        ("run",),
    ),
    Case(
        "too few images",
        # One row of each class stays, so a task of one class.
        setting(train__data_fraction=0.01, split__tasks=4),
        ("train.data_fraction: 0.01", "1 images of task 0", "at least 2 are needed", "raise it"),
        ("run",),
    ),
)


@pytest.mark.parametrize("case", IMAGE_CASES, ids=lambda case: case.name)
def test_images(case: Case, fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    case.breaks(project)
    outcome = project.kaizen(*case.command)
    check_message(outcome, case.code, case.says, case.name)
    check_intact(project, {})


def test_images_that_change_between_plan_and_job(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    command = node_command(project, spec_of(project, "shards"))
    write_image(project.root / IMAGE, 77)
    outcome = project.kaizen(*command)
    assert outcome.code == 2 and "Traceback" not in outcome.output
    assert (
        "dataset.path: the images of images changed after the plan was made; run" in outcome.output
    )
    check_intact(project, {})
    assert project.nodes() == {}


def test_snakemake_with_a_corrupt_image(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    truncate(project.root / IMAGE)
    outcome = project.snakemake()
    assert outcome.code != 0 and "Traceback" not in outcome.output
    for words in IMAGE_SAYS:
        assert words in outcome.output
    check_intact(project, {})
    assert project.nodes() == {}


def test_names_of_the_table_are_unique() -> None:
    names = [case.name for case in IMAGE_CASES]
    assert len(set(names)) == len(names)
