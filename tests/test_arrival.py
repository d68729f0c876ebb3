"""The folder of one arrival: its layouts, what is held out of it, and what is refused."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project import write_image

from kaizen.data.found import Finding, Found, LeftOut, Share
from kaizen.data.sources.arrival import Arrival
from kaizen.data.sources.base import PARTS, Part
from kaizen.data.sources.held_out import HeldOut
from kaizen.data.sources.labels_file import read_labels
from kaizen.data.sources.walk import File
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams


def arrived(root: Path, **options: Any) -> Arrival:
    return Arrival(DatasetParams(path=str(root), **options))


def fill(root: Path, *folders: str, images: int = 5) -> Path:
    """Images 0.png … in each of the folders, all different."""
    for folder in folders:
        for number in range(images):
            seed = sum(ord(char) << (place % 16) for place, char in enumerate(folder))
            write_image(root / folder / f"{number}.png", 100 * seed + number)
    return root


def paths(source: Arrival, part: Part, label: int) -> list[str]:
    return [row.path for row in source.rows(part) if row.label == label]


def listed(root: Path, text: str, *images: str) -> Path:
    for number, image in enumerate(images):
        write_image(root / image, number)
    (root / "labels.csv").write_bytes(text.encode())
    return root


# -- layouts -----------------------------------------------------------------------------------


def test_parts_as_folders_with_images_without_a_class(tmp_path: Path) -> None:
    fill(tmp_path, "train/cat", "train/ant", "test/cat", "unlabelled/day 1/deep", "unlabelled")
    source = arrived(tmp_path)
    assert (source.classes, source.domains, source.held_out) == (["ant", "cat"], [], None)
    assert source.counts("train") == {0: 5, 1: 5, -1: 10}
    assert source.counts("test") == {1: 5}, "a class may have no test image"
    rows = source.rows("train")
    assert [row.index for row in rows] == list(range(20))
    assert [row.label for row in rows] == [0] * 5 + [1] * 5 + [-1] * 10
    assert rows[0].path == "train/ant/0.png" and rows[-1].path == "unlabelled/day 1/deep/4.png"
    assert source.read(rows[-1]) == (tmp_path / rows[-1].path).read_bytes()
    sums = source.checksums(None)
    assert sums["test"][0] == "" and len({*sums["train"], sums["test"][1]}) == 3
    assert source.found(None) == Found(skipped=LeftOut([], []), copies=[])


def test_val_is_a_test_part(tmp_path: Path) -> None:
    source = arrived(fill(tmp_path, "train/cat", "val/cat"))
    assert paths(source, "test", 0)[0] == "val/cat/0.png" and source.held_out is None


@pytest.mark.parametrize("folder", ["", "train/"])
def test_without_a_test_part_a_share_of_every_class_is_held_out(
    tmp_path: Path, folder: str
) -> None:
    fill(tmp_path, f"{folder}cat", "unlabelled", images=10)
    fill(tmp_path, f"{folder}dog", images=2)
    fill(tmp_path, f"{folder}rare", images=1)
    source = arrived(tmp_path, test_fraction=0.3, seed=4)
    assert source.counts("train") == {0: 7, 1: 1, 2: 1, -1: 10}
    assert source.counts("test") == {0: 3, 1: 1}
    assert source.found(None).held_out == Share(0.3, 4)
    assert source.checksums(None)["test"][2] == ""
    both = paths(source, "train", 0) + paths(source, "test", 0)
    assert sorted(both) == [f"{folder}cat/{number}.png" for number in range(10)]
    assert source.train_counts() == {(0, 0): 7, (1, 0): 1, (2, 0): 1, (-1, 0): 10}


def test_images_without_a_class_alone(tmp_path: Path) -> None:
    source = arrived(fill(tmp_path, "unlabelled/deeper"))
    assert (source.classes, source.counts("train"), source.counts("test")) == ([], {-1: 5}, {})
    assert source.checksums(None) == {"train": [], "test": []}
    assert source.unlabelled_checksum(None) and source.found(None).copies == []
    with_train = tmp_path / "other"
    fill(with_train, "unlabelled")
    (with_train / "train").mkdir()
    assert arrived(with_train).counts("train") == {-1: 5}


LIST = 'path,label\na.png,cat\nb/c.png,dog\n./b//d.png, cat \n\ne.png,\n"f,g.png",dog\n'
LISTED = ("a.png", "b/c.png", "b/d.png", "e.png", "f,g.png")


@pytest.mark.parametrize("text", [LIST, "\ufeff" + LIST.replace("\n", "\r\n")])
def test_a_list_of_labels(tmp_path: Path, text: str) -> None:
    source = arrived(listed(tmp_path, text, *LISTED), test_fraction=0.5)
    assert source.classes == ["cat", "dog"]
    assert source.counts("train") == {0: 1, 1: 1, -1: 1}
    assert source.counts("test") == {0: 1, 1: 1}
    both = [sorted(p for part in PARTS for p in paths(source, part, label)) for label in (0, 1, -1)]
    assert both == [["a.png", "b/d.png"], ["b/c.png", "f,g.png"], ["e.png"]]
    # labels.csv is no file that was left out.
    assert source.found(None).skipped == LeftOut([], [])
    before = source.checksums(None)
    moved = text.replace("a.png,cat", "a.png,dog")
    (tmp_path / "labels.csv").write_bytes(moved.encode())
    assert arrived(tmp_path, test_fraction=0.5).checksums(None) != before


def test_a_list_of_images_without_a_class(tmp_path: Path) -> None:
    source = arrived(listed(tmp_path, "path,label\na.png,\nb.png,\n", "a.png", "b.png"))
    assert (source.classes, source.counts("train"), source.counts("test")) == ([], {-1: 2}, {})


# -- what is held out, and how it is known -----------------------------------------------------


def test_what_is_held_out_depends_on_seed_class_and_paths_alone(tmp_path: Path) -> None:
    names = [f"cat/{number:03d}.png" for number in range(200)]
    files = [File(name, 1, 2, 3) for name in names]
    train, test = HeldOut(0.1, 0).split("cat", files)
    assert len(test) == 20 and sorted(train + test) == files
    touched = [File(name, 9, 9, 9) for name in reversed(names)]
    assert {f.path for f in HeldOut(0.1, 0).split("cat", touched)[1]} == {f.path for f in test}
    assert HeldOut(0.1, 1).split("cat", files)[1] != test
    assert HeldOut(0.1, 0).split("dog", files)[1] != test
    # Larger shares hold smaller ones, and one image more moves few.
    assert set(test) < set(HeldOut(0.2, 0).split("cat", files)[1])
    more = HeldOut(0.1, 0).split("cat", [*files, File("cat/more.png", 1, 2, 3)])[1]
    assert len(set(test) - set(more)) <= 1
    assert len(HeldOut(0.999, 0).split("cat", files)[0]) == 1
    assert len(HeldOut(0.001, 0).split("cat", files)[1]) == 1
    # The choice itself, so that it is the same everywhere and in every version.
    assert [f.path for f in HeldOut(0.02, 0).split("cat", files)[1]] == GOLDEN


GOLDEN = [f"cat/{number}.png" for number in (110, 118, 133, 137)]


def test_the_same_folder_elsewhere_has_the_same_parts_and_checksums(tmp_path: Path) -> None:
    first = arrived(fill(tmp_path / "a", "cat", "dog", "unlabelled"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    again = arrived(tmp_path / "b")
    for part in PARTS:
        assert first.rows(part) == again.rows(part)
    cache = tmp_path / "cache"
    assert (
        first.checksums(cache) == again.checksums(None) == arrived(tmp_path / "a").checksums(cache)
    )
    assert first.unlabelled_checksum(cache) == again.unlabelled_checksum(None)
    # Remembered, and not mistaken for one another: another seed has other parts.
    other = arrived(tmp_path / "a", seed=1)
    assert other.checksums(cache) == arrived(tmp_path / "b", seed=1).checksums(None)
    assert other.checksums(None) != first.checksums(None)


def test_the_checksum_of_images_without_a_class_knows_these_alone(tmp_path: Path) -> None:
    root = fill(tmp_path / "a", "cat", "unlabelled")
    before = arrived(root)
    write_image(root / "cat" / "9.png", 7)
    more_cats = arrived(root)
    assert more_cats.unlabelled_checksum(None) == before.unlabelled_checksum(None)
    write_image(root / "unlabelled" / "9.png", 8)
    more = arrived(root)
    assert more.unlabelled_checksum(None) != before.unlabelled_checksum(None)
    assert more.checksums(None) == more_cats.checksums(None)
    shutil.rmtree(root / "unlabelled")
    assert arrived(root).unlabelled_checksum(None) is None
    (root / "unlabelled").mkdir()
    assert arrived(root).unlabelled_checksum(None) is None, "an empty folder is no image"


def test_it_travels_to_workers_without_its_listing(tmp_path: Path) -> None:
    count = 50
    text = "path,label\n" + "".join(f"{number}.png,cat\n" for number in range(count))
    source = arrived(listed(tmp_path, text, *(f"{number}.png" for number in range(count))))
    rows = source.rows("train")
    message = pickle.dumps(source)
    assert len(message) < 1000
    copy = pickle.loads(message)
    assert copy.read(rows[0]) == source.read(rows[0]) and copy.rows("train") == rows


# -- what is refused ---------------------------------------------------------------------------


def _write(path: str, data: bytes = b"x") -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)

    return spoil


def _add(*folders: str, images: int = 2) -> Callable[[Path], object]:
    return lambda root: fill(root, *folders, images=images)


def _emptied(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def _move(origin: str, place: str) -> Callable[[Path], object]:
    return lambda root: (root / origin).rename(root / place)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "does not exist; give the folder that holds <class>"),
        (_emptied, r"data holds no images; expected <class>"),
        (_add("test/yak"), "test has classes that train lacks: 'yak'; add images to train on"),
        (_add("val/cat"), "both `test` and `val`"),
        (_move("train", "training"), "has a folder `test`, but no folder `train`"),
        (_add("train/Cat"), "two classes that differ in letter case only, 'Cat' and 'cat'"),
        (_add("test/DOG"), "two classes that differ in letter case only, 'DOG' and 'dog'"),
        (_add("train/Cafe\u0301", "train/Caf\u00e9"), "two classes that look alike, 'Cafe"),
        (_add("train/unlabelled"), "'unlabelled' cannot be a class; put images without a class"),
        (
            _add("unlabeled"),
            "'unlabeled' cannot be a class; put images without a class into .*/unl",
        ),
        (_add("test/Unlabeled"), "'Unlabeled' cannot be a class"),
        (
            lambda root: (root / "train/empty").mkdir(),
            "classes without images: 'train/empty'",
        ),
        (
            lambda root: [path.unlink() for path in root.glob("test/*/*")],
            r"data/test holds no images; add test images, or remove the folder: then a share",
        ),
        (
            lambda root: (root / "unlabelled").symlink_to("/mnt/not mounted"),
            "unlabelled cannot be read .*mount the disk",
        ),
        (lambda root: (root / "unlabelled").symlink_to(root / "train"), "is the same folder as"),
        (_write("unlabelled/x.HEIC"), r"1 \.heic images, which Pillow here does not read"),
        (
            _write("train/cat/0001", b"\x89PNG\r\n\x1a\n" + bytes(8)),
            "names do not end as an image's",
        ),
        (
            lambda root: [
                shutil.copy(path, root / "test/cat") for path in root.glob("train/cat/*")
            ],
            "5 test images, all of class 'cat', are training images too .*remove them from one",
        ),
        (
            lambda root: shutil.copytree(root / "test/cat", root / "unlabelled"),
            "5 test images, all of class 'cat', are training images too",
        ),
        (
            lambda root: shutil.copytree(root / "train/cat", root / "train/yak"),
            "10 training images, all of class 'cat', are in several classes",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(fill(tmp_path / "data", "train/cat", "train/dog", "test/cat"))
    with pytest.raises(KaizenError, match=message) as caught:
        arrived(tmp_path / "data").found(None)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_add("train/cat"), r"folder `train`, and beside it 'cat', 'dog', which may be classes"),
        (_add("unlabeled"), "'unlabeled' cannot be a class; put images without a class into .*/un"),
        (
            _add("Train", "Test"),
            "has a folder 'Test', which looks like a part of a dataset and not",
        ),
        (
            _add("Validation"),
            "'Validation', which looks like .*; call the parts `train`, and `test`",
        ),
        (_add("dOg"), "differ in letter case only, 'dOg' and 'dog'"),
        (_write("Labels.csv"), "Labels.csv has a name in capitals; call it labels.csv"),
        (
            lambda root: shutil.copytree(root / "cat", root / "cat/again"),
            r"\d test images, .*, are training images too .*so that .*; remove the copies",
        ),
    ],
)
def test_what_cannot_be_meant_of_class_folders_is_refused(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(fill(tmp_path / "data", "cat", "dog", images=10))
    with pytest.raises(KaizenError, match=message):
        arrived(tmp_path / "data", test_fraction=0.3).found(None)


def test_loose_images_are_told_to_need_a_list(tmp_path: Path) -> None:
    fill(tmp_path, ".", images=3)
    with pytest.raises(
        KaizenError, match=r"no images \(left out: 3 images outside class folders\); .*labels\.csv"
    ):
        arrived(tmp_path).checksums(None)
    fill(tmp_path, "cat")
    skipped = arrived(tmp_path).found(None).skipped
    assert skipped and skipped.train == [Finding("images outside class folders", 3, "0.png")]


def test_copies_among_images_without_a_class_are_told(tmp_path: Path) -> None:
    fill(tmp_path, "train/cat", "train/dog", "test/cat", "test/dog", "unlabelled")
    shutil.copy(tmp_path / "train/cat/1.png", tmp_path / "unlabelled/9.png")
    shutil.copy(tmp_path / "unlabelled/0.png", tmp_path / "unlabelled/8.png")
    shutil.copy(tmp_path / "unlabelled/2.png", tmp_path / "test/cat/9.png")
    found = arrived(tmp_path).found(None).copies or []
    assert [(finding.what, finding.count, finding.first) for finding in found] == [
        ("test images that are training images too", 1, "test/cat/9.png = unlabelled/2.png"),
        (
            "images without a class that are training images already",
            2,
            "unlabelled/8.png = unlabelled/0.png",
        ),
    ]


def test_images_that_cannot_be_read_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    text = "path,label\na.png,cat\nb.png,cat\nc.heic,cat\n"
    listed(tmp_path, text, "a.png", "b.png")
    (tmp_path / "c.heic").write_bytes(b"x")
    with pytest.raises(KaizenError, match=r"1 \.heic images, which Pillow here does not read"):
        arrived(tmp_path).found(None)
    source = arrived(tmp_path, on_corrupt="skip")
    assert source.counts("train") == source.counts("test") == {0: 1}
    skipped = source.found(None).skipped
    assert skipped and [finding.count for finding in skipped.train] == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the header is '', but must be `path,label`"),
        ("path;label\na.png;cat\n", "line 1: the header is 'path;label', but must be"),
        ("label,path\n", "the header is 'label,path'"),
        ("path,label\n", "lists no images"),
        ("path,label\na.png\n", "line 2: 'a.png' has 1 column, not a path and a label"),
        ("path,label\na.png,cat,x\n", "line 2: 'a.png,cat,x' has 3 columns"),
        ("path,label\na.png,cat\n./a.png,cat\n", "line 3: 'a.png' is listed twice"),
        ("path,label\n/a.png,cat\n", "line 2: '/a.png' is not a path inside the folder"),
        ("path,label\nb/../../a.png,cat\n", "is not a path inside the folder"),
        ("path,label\n ,cat\n", "line 2: ' ' is not a path inside the folder"),
        ("path,label\n.,cat\n", "'.' is not a path inside the folder"),
        ('path,label\n"a.png,cat\n', r"line 2: it is no CSV \(.*\); fix the line"),
        ("path,label\na.png,c\x00at\n", "holds a control character"),
        ('path,label\na.png,"c\nat"\n', "line 3: .* holds a control character"),
        (f"path,label\na.png,{'x' * 256}\n", "more than 255 bytes; shorten it"),
        ("path,label\na.png,cat\nb.png,Cat\n", "differ in letter case only, 'Cat' and 'cat'"),
        ("path,label\na.png,unlabelled\n", "'unlabelled' cannot be a class"),
        (
            "path,label\na.png,cat\nb.png,cat\nd.png,cat\nc.png,dog\n",
            r"lists 2 images that cannot be used; the first, 'c\.png', is not here; add what",
        ),
        ("path,label\na.png,cat\nb.png,\nA.png,\n", "1 image that cannot be used; the first, 'A.p"),
        ("path,label\na.png,cat\nb.png,\nx\\y.png,\n", r"is not here \(folders are divided by `/`"),
        (f"path,label\na.png,cat\n{'x' * 5000}.png,\n", "1 image that cannot be used"),
        ("path,label\na.png,cat\nb.png,\nlabels.csv,\n", "'labels.csv', is no image"),
        ("path,label\na.png,cat\n", r"does not list 1 image beside it \(the first: 'b\.png'\)"),
    ],
)
def test_a_bad_list_of_labels_is_refused(tmp_path: Path, text: str, message: str) -> None:
    listed(tmp_path, text, "a.png", "b.png")
    with pytest.raises(KaizenError, match=message) as caught:
        arrived(tmp_path).rows("train")
    assert "labels.csv" in str(caught.value) and len(str(caught.value)) < 500


def test_a_list_that_is_no_text_or_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("path,label\na.png,cat\n", encoding="utf-16")
    with pytest.raises(KaizenError, match=r"labels\.csv cannot be read .*make it a CSV file"):
        read_labels(path)
    path.write_text("path,label\na.png,cat\n")
    assert read_labels(path) == {"a.png": "cat"}
    with pytest.raises(KaizenError, match=r"labels\.csv cannot be read \(longer than 20 bytes\)"):
        read_labels(path, most=20)
    path.unlink()
    path.mkdir()
    with pytest.raises(KaizenError, match=r"labels\.csv cannot be read \(not a regular file\)"):
        arrived(tmp_path)
