"""Published layouts of image files, the choice of classes, and made-up images; `image_folder` is in
test_sources.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from project import write_image

from kaizen.data.image_files import decode_file, shrink
from kaizen.data.ingest import ingest
from kaizen.data.sources import open_source
from kaizen.data.sources.base import Part, Source
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams, LabelsParams, SplitParams, SyntheticParams
from kaizen.params.registry import SOURCE_PARAMETERS, SOURCES, load
from kaizen.params.typed import UNSET, as_json

IDS = ("n01443537", "n01629819", "n02123045")


def opened(source: str, path: Path, **options: Any) -> Source:
    return open_source(DatasetParams(source=source, path=str(path), **options))


def paths(source: Source, part: Part) -> list[tuple[int, str]]:
    return [(row.label, row.path) for row in source.rows(part)]


@pytest.fixture
def tiny_imagenet(tmp_path: Path) -> Path:
    root = tmp_path / "tiny-imagenet-200"
    annotations = []
    for label, name in enumerate(reversed(IDS)):
        for number in range(2):
            write_image(
                root / "train" / name / "images" / f"{name}_{number}.JPEG", 10 * label + number
            )
            write_image(
                root / "val" / "images" / f"val_{3 * number + label}.JPEG",
                100 + 10 * label + number,
            )
            annotations.append(f"val_{3 * number + label}.JPEG\t{name}\t0\t32\t44\t62\n")
        (root / "train" / name / f"{name}_boxes.txt").write_text("x.JPEG\t0\t10\t63\t58\n")
    (root / "val" / "val_annotations.txt").write_text("".join(annotations))
    (root / "wnids.txt").write_text("\n".join(reversed(IDS)) + "\n")
    (root / "words.txt").write_text("n01443537\tgoldfish\n")
    return root


def test_tiny_imagenet_is_read_as_published(tiny_imagenet: Path) -> None:
    source = opened("tiny_imagenet", tiny_imagenet)
    assert source.classes == sorted(IDS)
    assert paths(source, "train")[:3] == [
        (0, "train/n01443537/images/n01443537_0.JPEG"),
        (0, "train/n01443537/images/n01443537_1.JPEG"),
        (1, "train/n01629819/images/n01629819_0.JPEG"),
    ]
    assert paths(source, "test") == [
        (label, f"val/images/val_{number}.JPEG")
        for label, numbers in enumerate(((2, 5), (1, 4), (0, 3)))
        for number in numbers
    ]
    two = opened("tiny_imagenet", tiny_imagenet, classes=[IDS[2], IDS[0]])
    assert two.classes == [IDS[0], IDS[2]] and {row.label for row in two.rows("test")} == {0, 1}
    assert two.checksums(None)["test"] == [
        source.checksums(None)["test"][label] for label in (0, 2)
    ]


def _break_annotations(root: Path) -> None:
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG n01443537\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "wnids.txt").unlink(), r"wnids\.txt cannot be read"),
        (lambda root: (root / "wnids.txt").write_text("n1\n"), "names 'n1', which train/ lacks"),
        (lambda root: (root / "wnids.txt").write_text("\n"), "is empty"),
        (lambda root: shutil.rmtree(root / "val"), "lacks `train` or `val`"),
        (
            lambda root: (root / "val" / "val_annotations.txt").unlink(),
            r"val_annotations\.txt cannot be read",
        ),
        (_break_annotations, "entry 1: .* is not a file's name, a tab and a WordNet id"),
        (
            lambda root: (root / "val" / "images" / "val_4.JPEG").unlink(),
            r"val_4\.JPEG cannot be read",
        ),
        (
            lambda root: shutil.rmtree(root / "train" / IDS[1] / "images"),
            f"without images: 'train/{IDS[1]}'",
        ),
    ],
)
def test_a_damaged_tiny_imagenet_is_refused(
    tiny_imagenet: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    spoil(tiny_imagenet)
    with pytest.raises(KaizenError, match=message):
        source = opened("tiny_imagenet", tiny_imagenet)
        source.rows("train"), source.rows("test")


def imagenet100() -> list[str]:
    lines = (
        (Path(open_source.__code__.co_filename).parent / "class_lists" / "imagenet100.txt")
        .read_text()
        .splitlines()
    )
    return [line for line in lines if not line.startswith("#")]


def test_imagenet100_is_a_hundred_ids() -> None:
    ids = imagenet100()
    assert len(ids) == len(set(ids)) == 100 and ids == sorted(ids)
    assert all(len(name) == 9 and name[0] == "n" and name[1:].isdecimal() for name in ids)
    # The first of the published, unsorted list.
    assert {"n02869837", "n01749939", "n02488291", "n02107142", "n13037406", "n02091831"} <= set(
        ids
    )


def test_imagenet_takes_the_classes_of_a_list(tmp_path: Path) -> None:
    root = tmp_path / "imagenet"
    for number, name in enumerate([*imagenet100(), "n00000001"]):
        for part in ("train", "val"):
            write_image(root / part / name / f"{part}.JPEG", number)
    write_image(root / "test" / "ILSVRC2012_test_00000001.JPEG", 0)
    assert len(opened("imagenet", root).classes) == 101
    hundred = opened("imagenet", root, classes="imagenet100")
    assert hundred.classes == imagenet100()
    assert paths(hundred, "test")[0] == (0, f"val/{imagenet100()[0]}/val.JPEG")
    listed = tmp_path / "list.txt"
    listed.write_text("# two classes\nn02869837\n\nn00000001\n")
    for wanted in (["n02869837", "n00000001"], str(listed)):
        two = opened("imagenet", root, classes=wanted)
        assert two.classes == ["n00000001", "n02869837"]
        assert [row.label for row in two.rows("train")] == [0, 1]
    # What was remembered of other classes stays.
    opened("imagenet", root).checksums(tmp_path / "cache")
    memory = next((tmp_path / "cache").iterdir()).read_bytes()
    two.checksums(tmp_path / "cache")
    assert next((tmp_path / "cache").iterdir()).read_bytes() == memory


def test_a_class_in_one_part_only_matters_where_it_is_chosen(tmp_path: Path) -> None:
    for name in IDS:
        for part in ("train", "val"):
            write_image(tmp_path / part / name / "0.JPEG", 0)
    shutil.rmtree(tmp_path / "val" / IDS[1])
    for source in ("imagenet", "image_folder"):
        with pytest.raises(KaizenError, match=f"differ .only in train: '{IDS[1]}'"):
            opened(source, tmp_path)
        assert opened(source, tmp_path, classes=[IDS[2], IDS[0]]).classes == [IDS[0], IDS[2]]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["n1"], r"dataset\.classes: 'n1' not found in .*; fix the list or add the folders"),
        (["n01443537", "n01443537"], r"names 'n01443537' twice; name each class once"),
        ([], "names no class"),
        (
            "imagenet1000",
            r"'imagenet1000' is neither a list that comes with Kaizen \(imagenet100\) nor a text "
            r"file",
        ),
        ("imagenet100", r"not found in"),
    ],
)
def test_a_bad_choice_of_classes_is_refused(
    tiny_imagenet: Path, classes: list[str] | str, message: str
) -> None:
    with pytest.raises(KaizenError, match=message):
        opened("tiny_imagenet", tiny_imagenet, classes=classes)


def test_unsorted_validation_images_of_imagenet_are_refused_with_the_mend(tmp_path: Path) -> None:
    write_image(tmp_path / "train" / IDS[0] / "0.JPEG", 0)
    with pytest.raises(KaizenError, match="has no folder `val`"):
        opened("imagenet", tmp_path)
    write_image(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG", 0)
    with pytest.raises(
        KaizenError,
        match=r"has no class folders; sort the validation images into val/<WordNet id>/",
    ):
        opened("imagenet", tmp_path)


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


@pytest.mark.parametrize("listed", [True, False])
def test_domain_folders_are_read_in_both_layouts(tmp_path: Path, listed: bool) -> None:
    source = opened("domain_folder", write_domains(tmp_path, listed))
    assert source.domains == ["clipart", "real", "sketch"]
    classes = ["bee", "Cat", "ant"] if listed else ["Cat", "ant", "bee"]
    assert source.classes == classes
    folder = {"train": "" if listed else "train/", "test": "" if listed else "test/"}
    numbers: dict[Part, tuple[int, ...]] = {"train": (0, 1, 2), "test": (3,)}
    for part, images in numbers.items():
        expected = [
            (label, position, f"{domain}/{folder[part]}{name}/{image}.jpg")
            for label, name in enumerate(classes)
            for position, domain in enumerate(source.domains)
            for image in images
            if (domain, name) != ("sketch", "ant")
        ]
        rows = source.rows(part)
        assert [(row.label, row.domain, row.path) for row in rows] == expected
        assert [row.index for row in rows] == list(range(len(rows)))
    assert opened("domain_folder", tmp_path, classes=["ant", "bee"]).classes == [
        n for n in classes if n != "Cat"
    ]


@pytest.mark.parametrize("listed", [True, False])
def test_checksums_of_domains_and_classes_know_their_own_files_only(
    tmp_path: Path, listed: bool
) -> None:
    root = write_domains(tmp_path / "data", listed)
    before = opened("domain_folder", root)
    by_class, by_domain = before.checksums(None), before.domain_checksums(None)
    assert {part: (len(by_class[part]), len(by_domain[part])) for part in by_class} == {
        "train": (3, 3),
        "test": (3, 3),
    }
    write_image(root / "real" / ("ant/1.jpg" if listed else "train/ant/1.jpg"), 7)
    after = opened("domain_folder", root)
    changed = [
        name
        for name, a, b in zip(
            after.classes, by_class["train"], after.checksums(None)["train"], strict=True
        )
        if a != b
    ]
    assert changed == ["ant"]
    changed = [
        n
        for n, a, b in zip(
            after.domains, by_domain["train"], after.domain_checksums(None)["train"], strict=True
        )
        if a != b
    ]
    assert changed == ["real"]
    assert (
        after.checksums(None)["test"] == by_class["test"]
        and after.domain_checksums(None)["test"] == by_domain["test"]
    )
    # A domain more leaves the others' checksums alone.
    shutil.copytree(root / "clipart", root / "quickdraw")
    if listed:
        for part in ("train", "test"):
            text = (root / f"clipart_{part}.txt").read_text().replace("clipart", "quickdraw")
            (root / f"quickdraw_{part}.txt").write_text(text)
    more = opened("domain_folder", root).domain_checksums(tmp_path / "cache")
    assert [more["train"][position] for position in (0, 2, 3)] == after.domain_checksums(None)[
        "train"
    ]


def _line(name: str, line: str) -> Callable[[Path], Any]:
    return lambda root: (root / name).write_text((root / name).read_text() + line + "\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "real_test.txt").unlink(), r"real_test\.txt cannot be read"),
        (lambda root: (root / "real_test.txt").write_text(""), "lists no images"),
        (
            _line("real_train.txt", "real/bee 0"),
            "'real/bee 0' is not real/<class>/<file>, a space and a number",
        ),
        (_line("real_train.txt", "real/../0.jpg 0"), "fix that line"),
        (_line("real_train.txt", "clipart/bee/0.jpg 0"), "is not real/<class>/<file>"),
        (_line("real_train.txt", "real/bee/0.jpg zero"), "fix that line"),
        (_line("real_train.txt", "real/bee/0.jpg 2"), "'bee' has the number 2 here, 0 before"),
        (
            _line("real_train.txt", "real/dog/0.jpg 0"),
            "'dog' the same number 0|'bee', 'dog' the same number 0",
        ),
        (_line("real_train.txt", "real/dog/0.jpg 3"), "'dog' in one part only"),
        (_line("real_train.txt", "real/bee/9.jpg 0"), r"real/bee/9\.jpg cannot be read"),
    ],
)
def test_bad_lists_of_domains_are_refused(
    tmp_path: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    spoil(write_domains(tmp_path, listed=True))
    with pytest.raises(KaizenError, match=message):
        opened("domain_folder", tmp_path).rows("train")


def test_a_folder_without_domains_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KaizenError, match="holds no domains"):
        opened("domain_folder", tmp_path)
    write_image(tmp_path / "real" / "bee" / "0.jpg", 0)
    with pytest.raises(KaizenError, match=r"real has no folder `train`"):
        opened("domain_folder", tmp_path)


def synthetic(**options: Any) -> Source:
    return open_source(DatasetParams(source="synthetic", synthetic=SyntheticParams(**options)))


def test_synthetic_images_depend_on_class_and_number_alone() -> None:
    small, large = (
        synthetic(classes=3, train=4, test=2, size=10),
        synthetic(classes=5, train=9, test=3, size=10),
    )
    by_path = {row.path: large.read(row) for part in ("train", "test") for row in large.rows(part)}
    assert (
        len(by_path) == 5 * 12
        and len({np.asarray(pixels).tobytes() for pixels in by_path.values()}) == 60
    )
    for part in ("train", "test"):
        for row in small.rows(part):
            pixels = small.read(row)
            assert (
                isinstance(pixels, np.ndarray)
                and pixels.shape == (10, 10, 3)
                and pixels.dtype == np.uint8
            )
            np.testing.assert_array_equal(pixels, by_path[row.path])
    assert small.classes == ["0000", "0001", "0002"]
    same, other = (
        small.checksums(None)["test"],
        synthetic(classes=3, train=9, test=2, size=10).checksums(None),
    )
    assert same == other["test"] and other["train"] != small.checksums(None)["train"]
    grey = synthetic(size=7, channels=1)
    pixels = grey.read(grey.rows("train")[0])
    assert isinstance(pixels, np.ndarray) and pixels.shape == (7, 7, 1)


def test_synthetic_classes_can_be_told_apart() -> None:
    source = synthetic(classes=8, train=20, test=10, size=16)
    train, test = (
        (
            np.array([np.asarray(source.read(row), float).ravel() for row in rows]),
            np.array([row.label for row in rows]),
        )
        for rows in (source.rows("train"), source.rows("test"))
    )
    means = np.array([train[0][train[1] == label].mean(axis=0) for label in range(8)])
    nearest = ((test[0][:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == test[1]).mean() > 0.95


@pytest.mark.parametrize("size", [(50, 90), (90, 50), (31, 64), (33, 33)])
@pytest.mark.parametrize("channels", [1, 3])
def test_shrinking_is_pytorchs_antialiased_resize(size: tuple[int, int], channels: int) -> None:
    # Far from black and white: Pillow would cut off there between its two passes, in which it also
    # rounds.
    pixels = np.random.default_rng(0).integers(80, 176, (*size, channels), dtype=np.uint8)
    found = shrink(pixels, 32)
    if min(size) <= 32:
        assert found is pixels
        return
    sides = [int(32 * side / min(size)) for side in size]
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(tensor, sides, mode="bicubic", antialias=True)
    expected = resized[0].permute(1, 2, 0).clamp(0, 255).round().numpy()
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_large_images_are_shrunk_when_ingested_and_small_ones_left_as_they_are(
    tmp_path: Path,
) -> None:
    root = tmp_path / "data"
    for seed, part in ((0, "train"), (10, "test")):
        write_image(root / part / "a" / "large.png", seed + 1, (60, 40))
        write_image(root / part / "a" / "small.png", seed + 2, (19, 30))
        write_image(root / part / "a" / "exact.png", seed + 3, (20, 20))
    large = Image.open(root / "train" / "a" / "large.png")
    expected = np.asarray(large.resize((20, 30), Image.Resampling.BICUBIC))
    split = SplitParams(1)
    cases: tuple[tuple[Literal["auto", "file"], int, list[str]], ...] = (
        ("auto", 16384, ["raw"] * 3),
        ("auto", 1500, ["raw", "file", "file"]),
        ("file", 1, ["file"] * 3),
    )
    for encoding, limit, encodings in cases:
        dataset = DatasetParams(
            source="image_folder",
            path=str(root),
            resize=20,
            encoding=encoding,
            raw_limit=limit,
        )
        ingest(dataset, split, LabelsParams(), 1, tmp_path / "out")
        rows = {
            Path(row["path"]).stem: row
            for row in pq.read_table(tmp_path / "out" / "task-00.train.parquet").to_pylist()
        }
        assert [rows[name]["encoding"] for name in ("exact", "large", "small")] == encodings
        assert (rows["large"]["height"], rows["large"]["width"]) == (30, 20)
        if rows["large"]["encoding"] == "raw":
            assert rows["large"]["image"] == expected.tobytes()
        else:
            assert Image.open(io.BytesIO(rows["large"]["image"])).format == "PNG"
            np.testing.assert_array_equal(decode_file(rows["large"]["image"]), expected)
            assert rows["small"]["image"] == (root / "train" / "a" / "small.png").read_bytes()
        assert (rows["small"]["height"], rows["small"]["width"]) == (19, 30)


def test_sources_travel_to_workers_without_their_listing(
    tiny_imagenet: Path, tmp_path: Path
) -> None:
    for source in (
        opened("tiny_imagenet", tiny_imagenet),
        opened("domain_folder", write_domains(tmp_path / "domains", listed=False)),
    ):
        rows = source.rows("train")
        assert len(pickle.dumps(source)) < 2000
        assert pickle.loads(pickle.dumps(source)).read(rows[0]) == source.read(rows[0])


def test_the_registry_names_every_parameter_that_only_some_sources_read() -> None:
    assert {name for entry in SOURCES.values() for name in entry.reads} == set(SOURCE_PARAMETERS)
    assert all(hasattr(DatasetParams(), name) for name in SOURCE_PARAMETERS)
    for entry in SOURCES.values():
        assert issubclass(load(entry.target), Source)


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
def test_an_image_by_content_alone_is_not_passed_over(cats_and_dogs: Path, name: str) -> None:
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


def test_few_copies_are_told_with_counts(cats_and_dogs: Path, tmp_path: Path) -> None:
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
            "8 training images, all of class 'bird', stand in several classes",
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


@pytest.mark.parametrize("nested", [True, False])
def test_tiny_imagenet_with_a_sorted_val_is_read(tiny_imagenet: Path, nested: bool) -> None:
    published = [
        (label, Path(path).name)
        for label, path in paths(opened("tiny_imagenet", tiny_imagenet), "test")
    ]
    val = tiny_imagenet / "val"
    for line in (val / "val_annotations.txt").read_text().splitlines():
        name, wordnet_id, *_ = line.split("\t")
        place = val / wordnet_id / ("images" if nested else "")
        place.mkdir(parents=True, exist_ok=True)
        (val / "images" / name).rename(place / name)
        if name == "val_0.JPEG":
            with pytest.raises(
                KaizenError, match="val has class folders, and images in val/images"
            ):
                opened("tiny_imagenet", tiny_imagenet).rows("test")
    for _ in range(2):
        rows = paths(opened("tiny_imagenet", tiny_imagenet), "test")
        assert [(label, Path(path).name) for label, path in rows] == published
        # With and without what the sorting left behind.
        shutil.rmtree(val / "images", ignore_errors=True)
        (val / "val_annotations.txt").unlink(missing_ok=True)
    shutil.rmtree(val / IDS[0])
    with pytest.raises(KaizenError, match=f"has class folders, and no folder '{IDS[0]}'"):
        opened("tiny_imagenet", tiny_imagenet).rows("test")


BOM = b"\xef\xbb\xbf"


def test_byte_order_marks_in_lists_are_no_part_of_the_first_name(
    tiny_imagenet: Path, tmp_path: Path
) -> None:
    expected = paths(opened("tiny_imagenet", tiny_imagenet), "test")
    for name in ("wnids.txt", "val/val_annotations.txt"):
        path = tiny_imagenet / name
        path.write_bytes(BOM + path.read_bytes().replace(b"\n", b"\r\n"))
    assert paths(opened("tiny_imagenet", tiny_imagenet), "test") == expected
    listed = tmp_path / "classes.txt"
    listed.write_bytes(BOM + f"{IDS[0]}\n".encode() + BOM + f"{IDS[2]}\n".encode())
    assert opened("tiny_imagenet", tiny_imagenet, classes=str(listed)).classes == [IDS[0], IDS[2]]
    listed.write_text("\n".join(IDS), encoding="utf-16")
    with pytest.raises(KaizenError, match="it is UTF-16; save it as UTF-8"):
        opened("tiny_imagenet", tiny_imagenet, classes=str(listed))
    root = write_domains(tmp_path / "domains", listed=True)
    rows = opened("domain_folder", root).rows("train")
    for path in root.glob("*.txt"):
        path.write_bytes(BOM + path.read_bytes())
    assert opened("domain_folder", root).rows("train") == rows
