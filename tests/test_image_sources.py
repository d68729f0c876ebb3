"""Published layouts of image files, and the choice of classes (test_sources has `image_folder`)."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from image_sources import opened, paths
from project import write_image

from kaizen.data.sources import open_source
from kaizen.data.sources.base import Part, Source
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams
from kaizen.params.registry import SOURCE_PARAMETERS, SOURCES, load

IDS = ("n01443537", "n01629819", "n02123045")


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


def test_unsorted_validation_images_of_imagenet_are_refused_with_the_fix(tmp_path: Path) -> None:
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
