from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kaizen.data.found import Finding, LeftOut, Share
from kaizen.data.sources import open_source
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams


def image(path: Path, value: int = 0, size: tuple[int, int] = (4, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 10, 20)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        for label, name in enumerate(("zebra", "ant & 'bee'", "Łoś")):
            for number in range(3):
                value = 10 * label + number + 100 * (part == "test")
                image(tmp_path / "data" / part / name / f"{number}.png", value)
    return tmp_path / "data"


def folder(root: Path) -> DatasetParams:
    return DatasetParams(source="image_folder", path=str(root))


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    source = open_source(DatasetParams(test_fraction=0.25, seed=3))
    rows = {part: source.rows(part) for part in ("train", "test")}
    assert sorted(row.index for row in rows["train"] + rows["test"]) == list(range(1797))
    for row in rows["train"] + rows["test"]:
        assert bunch.target[row.index] == row.label
        pixels = source.read(row)
        assert (
            isinstance(pixels, np.ndarray)
            and pixels.dtype == np.uint8
            and pixels.shape == (8, 8, 1)
        )
        np.testing.assert_array_equal(pixels[:, :, 0], np.rint(bunch.images[row.index] * 255 / 16))
    for label in range(10):
        held_out = sum(row.label == label for row in rows["test"])
        assert held_out == round(0.25 * (bunch.target == label).sum())


def test_digits_split_depends_on_its_seed_and_comes_class_by_class() -> None:
    first, again, other = (open_source(DatasetParams(seed=seed)).rows("test") for seed in (0, 0, 1))
    assert first == again != other
    assert first == sorted(first, key=lambda row: (row.label, row.index))


def test_digits_checksum_is_the_same_everywhere() -> None:
    source = open_source(DatasetParams())
    assert source.checksums(None) == pickle.loads(pickle.dumps(source)).checksums(None)
    assert len(source.checksums(None)["train"]) == len(source.classes) == 10


def test_rows_are_class_by_class_and_files_sorted(root: Path) -> None:
    image(root / "train" / "zebra" / "deeper" / "x.JPG", 99)
    image(root / "train" / "zebra" / ".hidden.png")
    (root / "train" / "zebra" / "notes.txt").write_text("no image")
    (root / "train" / ".cache").mkdir()
    source = open_source(folder(root))
    assert source.classes == ["ant & 'bee'", "zebra", "Łoś"]
    rows = source.rows("train")
    assert [row.index for row in rows] == list(range(10))
    assert [row.label for row in rows] == [0] * 3 + [1] * 4 + [2] * 3
    zebras = [row.path for row in rows if row.label == 1]
    assert zebras == [f"train/zebra/{name}" for name in ("0.png", "1.png", "2.png", "deeper/x.JPG")]
    assert source.read(rows[6]) == (root / "train" / "zebra" / "deeper" / "x.JPG").read_bytes()


def test_val_serves_as_the_test_part(root: Path) -> None:
    (root / "test").rename(root / "val")
    assert open_source(folder(root)).rows("test")[0].path == "val/ant & 'bee'/0.png"


@pytest.mark.parametrize("folder", ["", "train/"])
def test_without_a_test_part_a_share_of_every_class_is_held_out(root: Path, folder: str) -> None:
    own = open_source(folder_params := DatasetParams(source="image_folder", path=str(root)))
    assert not own.found(None).held_out and own.unlabelled_checksum(None) is None
    shutil.rmtree(root / "test")
    if not folder:
        (root / "test").mkdir()
        plain(root)
    image(root / "unlabelled" / "b" / "x.png", 201)
    image(root / "unlabelled" / "y.png", 202)
    source = open_source(folder_params)
    assert source.classes == own.classes
    train, test = source.rows("train"), source.rows("test")
    assert [row.label for row in train] == [0, 0, 1, 1, 2, 2, -1, -1]
    assert [row.label for row in test] == [0, 1, 2]
    assert [row.path for row in train[-2:]] == ["unlabelled/b/x.png", "unlabelled/y.png"]
    names = sorted(row.path for row in (*train[:-2], *test))
    expected = [f"{folder}{name}/{n}.png" for name in source.classes for n in range(3)]
    assert names == sorted(expected)
    assert source.found(None).held_out == Share(0.2, 0)
    # Images without a class have their own checksum, and change no other.
    before = source.checksums(None)
    image(root / "unlabelled" / "y.png", 203)
    after = open_source(folder_params)
    assert after.checksums(None) == before
    assert after.unlabelled_checksum(None) != source.unlabelled_checksum(None) is not None
    other = open_source(dataclasses.replace(folder_params, seed=3, test_fraction=0.5))
    assert len(other.rows("test")) == 6 and other.checksums(None) != before


def test_classes_are_chosen_from_a_plain_folder_too(root: Path) -> None:
    chosen = dataclasses.replace(folder(plain(root)), classes=["zebra", "Łoś"])
    assert open_source(chosen).classes == ["zebra", "Łoś"]


def test_images_beside_the_parts_are_counted(root: Path) -> None:
    before = open_source(folder(root)).found(None)
    (root / "notes").mkdir()
    assert open_source(folder(root)).found(None) == before
    image(root / "extra" / "gnu" / "0.png", 90)
    image(root / "loose.png", 91)
    image(root / "unlabelled" / "0.png", 92)
    what = "images beside test and train and unlabelled"
    left_out = LeftOut([Finding(what, 2, "extra/gnu/0.png")], [])
    assert open_source(folder(root)).found(None).skipped == left_out


def test_checksum_knows_content_and_names_but_neither_times_nor_place(
    root: Path, tmp_path: Path
) -> None:
    original = open_source(folder(root)).checksums(None)
    copy = tmp_path / "elsewhere"
    shutil.copytree(root, copy)
    for path in copy.rglob("*.png"):
        os.utime(path, (1, 1))
    assert open_source(folder(copy)).checksums(None) == original
    image(copy / "train" / "zebra" / "1.png", 200)
    changed = open_source(folder(copy)).checksums(None)
    assert [a == b for a, b in zip(changed["train"], original["train"], strict=True)] == [
        True,
        False,
        True,
    ]
    assert changed["test"] == original["test"]
    assert open_source(folder(copy)).checksums(None) != open_source(folder(root)).checksums(None)
    (root / "test" / "Łoś" / "2.png").rename(root / "test" / "Łoś" / "3.png")
    assert open_source(folder(root)).checksums(None)["test"] != original["test"]


def test_remembered_checksums_are_used_until_a_file_changes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    original = open_source(folder(root)).checksums(cache)
    with monkeypatch.context() as patch:
        patch.setattr(
            "kaizen.data.sources.files.sha256_file",
            lambda path: pytest.fail(f"{path} was read again"),
        )
        assert open_source(folder(root)).checksums(cache) == original
    victim = root / "train" / "zebra" / "0.png"
    before = victim.stat()
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    # Size and modification time are as they were, as tar and rsync leave them; the time of change
    # tells.
    assert (
        open_source(folder(root)).checksums(cache)
        == open_source(folder(root)).checksums(None)
        != original
    )


def test_a_damaged_or_unwritable_memory_does_no_harm(root: Path, tmp_path: Path) -> None:
    expected = open_source(folder(root)).checksums(tmp_path / "cache")
    for memory in (tmp_path / "cache").iterdir():
        memory.write_text('{"groups": {"train/zebra": 7}}')
    assert open_source(folder(root)).checksums(tmp_path / "cache") == expected
    (tmp_path / "file").write_text("")
    assert open_source(folder(root)).checksums(tmp_path / "file") == expected


def test_sources_travel_to_workers_without_their_listing(root: Path) -> None:
    source = open_source(folder(root))
    rows = source.rows("train")
    message = pickle.dumps(source)
    assert len(message) < 1000
    assert pickle.loads(message).read(rows[0]) == source.read(rows[0])


def _no_train(root: Path) -> None:
    shutil.rmtree(root / "train")


def _both(root: Path) -> None:
    shutil.copytree(root / "test", root / "val")


def _extra_class(root: Path) -> None:
    image(root / "train" / "gnu" / "0.png")


def _extra_test_class(root: Path) -> None:
    image(root / "test" / "yak" / "0.png")


def _empty_class(root: Path) -> None:
    for path in (root / "train" / "zebra").iterdir():
        path.rename(path.with_suffix(".txt"))


def plain(root: Path) -> Path:
    """Leave the class folders of train alone, in the dataset's own folder."""
    shutil.rmtree(root / "test")
    for path in (root / "train").iterdir():
        path.rename(root / path.name)
    (root / "train").rmdir()
    return root


def _class_beside_train(root: Path) -> None:
    shutil.rmtree(root / "test")
    image(root / "gnu" / "0.png")


def _plain_single(root: Path) -> None:
    for path in ("1.png", "2.png"):
        (plain(root) if (root / "train").exists() else root).joinpath("zebra", path).unlink()


def _plain_empty(root: Path) -> None:
    (plain(root) / "gnu").mkdir()


def _plain_nothing(root: Path) -> None:
    for path in plain(root).iterdir():
        path.rename(root / f".{path.name}")


def _unlabelled_class(root: Path) -> None:
    for part in ("train", "test"):
        image(root / part / "unlabelled" / "0.png")


def _no_images(root: Path) -> None:
    for path in root.rglob("*.png"):
        path.unlink()


def _a_file(root: Path) -> None:
    shutil.rmtree(root)
    root.write_text("")


def _no_classes(root: Path) -> None:
    shutil.rmtree(root / "train")
    (root / "train").mkdir()


def _dangling(root: Path) -> None:
    (root / "train" / "zebra" / "gone.png").symlink_to("nowhere.png")


def _loop(root: Path) -> None:
    (root / "train" / "zebra" / "up").symlink_to(root / "train" / "zebra")


def _pipe(root: Path) -> None:
    os.mkfifo(root / "train" / "zebra" / "pipe.png")


def _undecodable(root: Path) -> None:
    os.mkdir(os.fsencode(root / "train") + b"/caf\xe9")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_train, "no folder `train`"),
        (_class_beside_train, "folder `train`, and beside it 'gnu', which may be classes"),
        (_plain_single, "classes of one image, and one of every class is held out .*: 'zebra'"),
        (_plain_empty, "classes without images: 'gnu'"),
        (_plain_nothing, "data holds no class folders; expected train"),
        (_unlabelled_class, "'unlabelled' cannot be a class; put images without a class into"),
        (_both, "both `test` and `val`.*rename"),
        (_extra_class, r"differ \(only in train: 'gnu'\)"),
        (_extra_test_class, r"differ \(only in test: 'yak'\)"),
        (_empty_class, "classes without images: 'train/zebra'"),
        (_no_images, "train holds no images"),
        (_no_classes, "holds no class folders"),
        (_dangling, "gone.png cannot be read.*remove it"),
        (_loop, "up is a link to a folder that holds it"),
        (_pipe, "pipe.png is not a regular file"),
        (_undecodable, "not UTF-8; rename it"),
        (_a_file, "is not a folder"),
        (lambda root: shutil.rmtree(root), "does not exist"),
    ],
)
def test_bad_folders_are_refused_by_name(
    root: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(root)
    with pytest.raises(KaizenError, match=message) as caught:
        open_source(folder(root)).rows("train")
    assert str(root) in str(caught.value)


def test_an_absent_path_is_refused() -> None:
    with pytest.raises(KaizenError, match=r"dataset\.path: null"):
        open_source(DatasetParams(source="image_folder"))


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(
        KaizenError, match="'mnist' is unknown; choose one of cifar10, cifar100, digits, "
    ):
        open_source(DatasetParams(source="mnist"))


@pytest.fixture
def without_rights() -> Iterator[None]:
    """The superuser may read everything, so as root the test runs as another user."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_unreadable_folder_is_refused(without_rights: None) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for part in ("train", "test"):
            image(root / part / "zebra" / "0.png")
        (root / "train" / "zebra").chmod(0)
        try:
            with pytest.raises(
                KaizenError, match=r"train/zebra cannot be listed .*make it readable"
            ):
                open_source(folder(root)).rows("train")
        finally:
            (root / "train" / "zebra").chmod(0o700)
