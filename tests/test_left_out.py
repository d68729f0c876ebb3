"""What of an image folder is refused, left out with a count, or there more than once."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from image_sources import opened
from PIL import Image
from project import write_image

from kaizen.data.image_files import decode_file
from kaizen.data.ingest import ingest
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams, LabelsParams, SplitParams
from kaizen.params.typed import UNSET, as_json

DOMAINS = ("sketch", "clipart", "real")


def write_domains(root: Path, listed: bool) -> Path:
    """Three domains of the classes bee, Cat and ant, which have the numbers 0, 1 and 2; no ants in
    sketch.
    """
    for number, domain in enumerate(DOMAINS):
        lines: dict[str, list[str]] = {"train": [], "test": []}
        for label, name in enumerate(("bee", "Cat", "ant")):
            if (domain, name) == ("sketch", "ant"):
                continue
            for image in range(4):
                part = "test" if image == 3 else "train"
                path = (
                    f"{domain}/{name}/{image}.jpg"
                    if listed
                    else f"{domain}/{part}/{name}/{image}.jpg"
                )
                write_image(root / path, 100 * number + 10 * label + image)
                lines[part].append(f"{path} {label}\n")
        if listed:
            for part, of_part in lines.items():
                (root / f"{domain}_{part}.txt").write_text("".join(reversed(of_part)))
    return root


@pytest.fixture
def cats_and_dogs(tmp_path: Path) -> Path:
    """A folder of two classes with 5 training and 3 test images each, all different."""
    for part, count in (("train", 5), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                seed = 100 * label + number + 50 * (part == "test")
                write_image(tmp_path / "data" / part / name / f"{number}.png", seed)
    return tmp_path / "data"


def _left_out(root: Path, **options: Any) -> dict[str, list[tuple[str, int, str]]]:
    found = opened("image_folder", root, **options).found(None).skipped
    assert found is not UNSET
    return {
        part: [dataclasses.astuple(finding) for finding in findings]
        for part, findings in vars(found).items()
    }


@pytest.mark.parametrize(
    "place",
    ["train/cat", "train/bird", "test/dog", "test", "train", "train/cat/more", "train/cat/a.b"],
)
@pytest.mark.parametrize("target", ["/mnt/not mounted", "itself"])
def test_a_link_to_nowhere_is_refused_by_name(cats_and_dogs: Path, place: str, target: str) -> None:
    path = cats_and_dogs / place
    if path.exists():
        shutil.rmtree(path)
    path.symlink_to(path if target == "itself" else target)
    with pytest.raises(
        KaizenError, match=r"cannot be read .*mount the disk.*remove it|cannot be li"
    ):
        opened("image_folder", cats_and_dogs).found(None)


def test_a_domain_that_is_a_link_to_nowhere_is_refused(tmp_path: Path) -> None:
    write_domains(tmp_path, listed=False)
    (tmp_path / "painting").symlink_to("/mnt/not mounted")
    with pytest.raises(KaizenError, match="painting cannot be read"):
        opened("domain_folder", tmp_path)


def test_every_suffix_of_a_format_that_is_read_is_read(cats_and_dogs: Path) -> None:
    folder = cats_and_dogs / "train" / "cat"
    picture = Image.new("RGB", (8, 8))
    names = {
        "JPEG": ("jpg", "jpeg", "jpe", "jfif", "JPG"),
        "PNG": ("png", "apng"),
        "BMP": ("bmp", "dib"),
        "TIFF": ("tif", "tiff"),
        "PPM": ("ppm", "pnm"),
        "GIF": ("gif",),
        "WEBP": ("webp",),
        "MPO": ("mpo",),
        "AVIF": ("avif",),
    }
    for format_, suffixes in names.items():
        for suffix in suffixes:
            picture.putpixel((0, 0), (len(list(folder.iterdir())), 0, 0))
            options = {"save_all": True} if format_ == "MPO" else {}
            picture.save(folder / f"x.{suffix}", format_, **options)
    source = opened("image_folder", cats_and_dogs)
    rows = [row for row in source.rows("train") if "/x." in row.path]
    assert len(rows) == sum(map(len, names.values()))
    for row in rows:
        assert decode_file(source.read(row)).shape == (8, 8, 3)  # type: ignore[arg-type]


def test_images_that_cannot_be_read_are_refused_or_counted(cats_and_dogs: Path) -> None:
    for number in range(12):
        (cats_and_dogs / "train" / "dog" / f"{number:02d}.HEIC").write_bytes(b"x")
    for source in ("image_folder",):
        with pytest.raises(
            KaizenError,
            match=r"12 \.heic images, which Pillow here does not read \(the first: .*dog/00\.HEIC\)"
            r".*convert them to PNG or JPEG.*dataset\.on_corrupt: skip",
        ):
            opened(source, cats_and_dogs).checksums(None)
    assert _left_out(cats_and_dogs, on_corrupt="skip")["train"] == [
        (".heic images, which Pillow here does not read", 12, "train/dog/00.HEIC")
    ]


@pytest.mark.parametrize("name", ["0001", "a.jpg.1", "b.png~", "c.JPG_", "d.jpeg.part"])
def test_an_image_by_content_alone_is_not_skipped(cats_and_dogs: Path, name: str) -> None:
    path = cats_and_dogs / "test" / "cat" / name
    Image.new("RGB", (8, 8)).save(path, "png")
    with pytest.raises(KaizenError, match=r"names do not end as an image's .*rename them"):
        opened("image_folder", cats_and_dogs).rows("test")
    assert _left_out(cats_and_dogs, on_corrupt="skip")["test"][0][1:] == (1, f"test/cat/{name}")


HOUSEKEEPING = (
    "@eaDir/0.png/SYNOPHOTO_THUMB_M.png",
    ".thumbnails/0.png",
    "__MACOSX/0.png",
    ".AppleDouble/0.png",
    "$RECYCLE.BIN/0.png",
    "lost+found/0.png",
    ".@__thumb/0.png",
    ".ipynb_checkpoints/0-checkpoint.png",
    "#recycle/0.png",
    "@Recycle/0.png",
    "System Volume Information/0.png",
    "thumbnails/0.png",
    "._0.png",
)


@pytest.mark.parametrize("name", HOUSEKEEPING)
@pytest.mark.parametrize("above", ["train/cat", "train"])
def test_housekeeping_is_never_trained_on_and_counted(
    cats_and_dogs: Path, name: str, above: str
) -> None:
    if (name.startswith("thumbnails"), above) == (True, "train"):
        pytest.skip("a class may have that name")
    write_image(cats_and_dogs / above / name, 7)
    (cats_and_dogs / above / "Thumbs.db").write_bytes(b"x")
    (cats_and_dogs / above / ".DS_Store").write_bytes(b"x")
    source = opened("image_folder", cats_and_dogs)
    assert source.classes == ["cat", "dog"] and len(source.rows("train")) == 10
    ((_, count, first),) = _left_out(cats_and_dogs)["train"]
    assert (count, first) == (1, f"{above}/{name}")


def test_other_files_and_images_outside_classes_are_counted(cats_and_dogs: Path) -> None:
    (cats_and_dogs / "train" / "cat" / "notes.txt").write_text("")
    (cats_and_dogs / "train" / "cat" / "README").write_text("P5 is a format")
    (cats_and_dogs / "train" / "dog" / "empty").mkdir()
    write_image(cats_and_dogs / "train" / "stray.png", 7)
    assert _left_out(cats_and_dogs) == {
        "train": [
            (".txt files, no images", 1, "train/cat/notes.txt"),
            ("empty folders", 1, "train/dog/empty"),
            ("files without a suffix, no images", 1, "train/cat/README"),
            ("images outside class folders", 1, "train/stray.png"),
        ],
        "test": [],
    }


def test_the_same_folder_twice_is_refused(cats_and_dogs: Path) -> None:
    shutil.rmtree(cats_and_dogs / "test")
    (cats_and_dogs / "test").symlink_to("train")
    with pytest.raises(KaizenError, match=r"test is the same folder as .*train"):
        opened("image_folder", cats_and_dogs)
    (cats_and_dogs / "test").unlink()
    for place, target in (("test/cat", "train/cat"), ("test/dog", "train/dog")):
        (cats_and_dogs / place).parent.mkdir(exist_ok=True)
        (cats_and_dogs / place).symlink_to(cats_and_dogs / target)
    with pytest.raises(KaizenError, match=r"test/cat is the same folder as .*train/cat"):
        opened("image_folder", cats_and_dogs).checksums(None)


@pytest.mark.parametrize("place", ["train/bird", "train/cat/more", "test/cat/more"])
def test_a_class_under_two_names_is_refused(cats_and_dogs: Path, place: str) -> None:
    (cats_and_dogs / place).symlink_to(cats_and_dogs / "train" / "dog")
    if place == "train/bird":
        write_image(cats_and_dogs / "test" / "bird" / "9.png", 9)
    with pytest.raises(KaizenError, match="is the same folder as"):
        opened("image_folder", cats_and_dogs).checksums(None)


def _copy(root: Path, origin: str, place: str) -> None:
    (root / place).parent.mkdir(exist_ok=True)
    shutil.copy(root / origin, root / place)


def test_few_copies_are_reported_with_counts(cats_and_dogs: Path, tmp_path: Path) -> None:
    _copy(cats_and_dogs, "train/cat/0.png", "test/cat/9.png")
    _copy(cats_and_dogs, "train/cat/1.png", "train/dog/9.png")
    _copy(cats_and_dogs, "train/cat/2.png", "train/cat/8.png")
    source = opened("image_folder", cats_and_dogs)
    found = source.found(tmp_path / "cache")
    assert [(copies.count, copies.first) for copies in found.copies or []] == [
        (1, "test/cat/9.png = train/cat/0.png"),
        (2, "train/cat/1.png = train/dog/9.png"),
        (1, "train/cat/8.png = train/cat/2.png"),
    ]
    # Remembered, and the same in a process that reads no image.
    assert opened("image_folder", cats_and_dogs).found(tmp_path / "cache") == found
    dataset = DatasetParams(source="image_folder", path=str(cats_and_dogs))
    summary = ingest(dataset, SplitParams(1), LabelsParams(), 1, tmp_path / "out")
    assert (summary["copies"], summary["skipped"]) == tuple(
        as_json(value) for value in (found.copies, found.skipped)
    )


@pytest.mark.parametrize(
    ("copied", "message"),
    [
        ([(f"train/cat/{n}.png", f"test/cat/{n}.png") for n in range(3)], "3 test images, all of"),
        (
            [(f"train/{c}/{n}.png", f"test/{c}/{n}.png") for c in ("cat", "dog") for n in (0, 1)],
            "4 test images, of 6, are training images too",
        ),
        (
            [(f"train/cat/{n}.png", f"train/bird/{n}.png") for n in range(4)],
            "8 training images, all of class 'bird', are in several classes",
        ),
    ],
)
def test_copies_that_cannot_be_meant_are_refused(
    cats_and_dogs: Path, copied: list[tuple[str, str]], message: str
) -> None:
    if any("bird" in place for _, place in copied):
        write_image(cats_and_dogs / "test" / "bird" / "0.png", 9)
    for origin, place in copied:
        _copy(cats_and_dogs, origin, place)
    with pytest.raises(KaizenError, match=message):
        opened("image_folder", cats_and_dogs).found(None)


def test_one_image_over_and_over_is_refused(cats_and_dogs: Path) -> None:
    image = (cats_and_dogs / "train/cat/0.png").read_bytes()
    for path in cats_and_dogs.glob("*/*/*.png"):
        path.write_bytes(image)
    with pytest.raises(KaizenError, match="6 test images, all of class 'cat', are training"):
        opened("image_folder", cats_and_dogs).found(None)


def test_names_that_look_alike_are_told_apart(cats_and_dogs: Path) -> None:
    composed, apart = "Caf\u00e9", "Cafe\u0301"
    (cats_and_dogs / "train" / "cat").rename(cats_and_dogs / "train" / composed)
    (cats_and_dogs / "test" / "cat").rename(cats_and_dogs / "test" / apart)
    with pytest.raises(
        KaizenError,
        match=r"look alike: in test 'Cafe\\u0301' \(Unicode NFD\) looks like 'Caf\\xe9' "
        r"\(Unicode NFC\) in train; rename one",
    ):
        opened("image_folder", cats_and_dogs)
    (cats_and_dogs / "test" / apart).rename(cats_and_dogs / "test" / composed)
    with pytest.raises(KaizenError, match=r"not found in .*'Cafe\\u0301' .*looks like 'Caf\\xe9'"):
        opened("image_folder", cats_and_dogs, classes=[apart, "dog"])
    write_image(cats_and_dogs / "train" / apart / "0.png", 9)
    with pytest.raises(KaizenError, match=r"train has two classes that look alike, 'Cafe"):
        opened("image_folder", cats_and_dogs)
