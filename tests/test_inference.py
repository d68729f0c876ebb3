"""`kaizen.load`: a model's folder is whole wherever it lies, and what it answers is what the
evaluation measured, for images of any kind.
"""

from __future__ import annotations

import dataclasses
import io
import json
import shlex
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from project import REPOSITORY, Project, make_project

import kaizen
from kaizen.data.names import CHECKPOINT, CONFIG_FILE, PREPROCESSING_FILE
from kaizen.data.shards import read_table
from kaizen.errors import KaizenError
from kaizen.evaluation.confusion import read_confusion
from kaizen.files import read_json, write_json
from kaizen.inference.model import Model
from kaizen.models.config import KnownClass, ModelConfig, config_of, write_config
from kaizen.models.feature_classifier import Architecture, build_feature_classifier
from kaizen.params import ImageParams, NetworkParams
from kaizen.plan.specs import step_spec
from kaizen.store.records import read_record
from kaizen.views.augment import evaluation_transform
from kaizen.views.decode import load_shard

CROPPED = {
    "image.test_crop": 0.75,
    "image.load_size": 8,
    "dataset.resize": 12,
    "grid.variants": ["kaizen"],
    "grid.specialists": True,
    "dataset.test_fraction": 0.5,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run on photographs of several sizes, seen through crop, resize and shrinking; with a
    specialist.
    """
    root = tmp_path_factory.mktemp("inference") / "project"
    project = make_project(root, CROPPED)
    sizes = [(8, 8), (9, 14), (20, 13), (31, 16)]
    for number, path in enumerate(sorted(project.images.rglob("*.png"))):
        write_picture(path, number, sizes[number % 4])
    project.kaizen("run").good()
    return project


def write_picture(path: Path, seed: int, size: tuple[int, int]) -> None:
    """A picture with shapes larger than a pixel, which classes have something of."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size[::-1], Image.Resampling.BILINEAR).save(path)


@pytest.fixture(scope="module")
def run(project: Project) -> Path:
    (folder,) = project.root.glob("results/models/*kaizen*")
    return folder


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """A copy of the last step's folder, that may be written, and nothing beside it."""
    folder = shutil.copytree(run / "step-01", tmp_path / "elsewhere" / "model")
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def test_it_answers_what_the_evaluation_measured(project: Project, run: Path) -> None:
    """From the raw files: each pair of true and predicted class as often as the node counted it."""
    (file,) = project.root.glob("results/evaluations/*kaizen*/confusion.parquet")
    for step, counts in enumerate(read_confusion(file)):
        model = kaizen.load(run / f"step-{step:02d}")
        paths = sorted((project.images / "test").rglob("*.png"))
        labels = {name: label for label, name in enumerate(("ant", "bee", "cat", "dog"))}
        with torch.no_grad():
            logits = model.classifier(model.encoder(model.prepare(paths)))
        taken = logits.argmax(dim=1).tolist()
        found = Counter(
            (labels[path.parent.name], place) for path, place in zip(paths, taken, strict=True)
        )
        assert found == counts
    # All classes are seen after the last step.
    names, probabilities = model.predict(paths)
    assert [labels[name] for name in names] == taken
    assert probabilities.shape == (24, 4) and probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(24))


def test_raw_files_become_what_the_evaluation_shows_of_its_shards(
    project: Project, run: Path
) -> None:
    model = kaizen.load(run)
    for task in (0, 1):
        shard = project.root / f"data/shards/task-{task:02d}.test.parquet"
        images, _ = load_shard(shard, model.config.image)
        expected = evaluation_transform(torch.from_numpy(images), model.config.image, 0.75)
        paths = read_table(shard, ["path"]).column("path").to_pylist()
        assert torch.equal(model.prepare([project.images / path for path in paths]), expected)


def test_only_classes_seen_so_far_are_answered(run: Path, project: Project) -> None:
    first, last = kaizen.load(run / "step-00"), kaizen.load(run)
    stream = read_json(project.root / "data/shards/tasks.json")
    assert set(first.classes) == set(stream["tasks"][0]["class_names"])
    assert last.classes == ("ant", "bee", "cat", "dog")
    assert first.config.logits == 4, "the head is fixed: it has logits for classes to come"
    images = sorted((project.images / "test").rglob("*.png"))
    names, probabilities = first.predict(images)
    assert set(names) <= set(first.classes) and probabilities.shape == (24, 2)
    x = first.prepare(images)
    with torch.no_grad():
        logits = first(x)
        all_logits = first.classifier(first.encoder(x))
    assert torch.equal(logits, all_logits[:, [known.logit for known in first.config.classes]])
    torch.testing.assert_close(logits.softmax(dim=1), probabilities)
    # An unseen class wins in the raw logits of none or some; never in the answer.
    assert [first.classes[place] for place in logits.argmax(dim=1)] == names


def test_a_copied_folder_is_whole(copied: Path, run: Path, project: Project) -> None:
    images = sorted((project.images / "test").rglob("*.png"))
    here, there = kaizen.load(run), kaizen.load(str(copied))
    assert torch.equal(here.embed(images), there.embed(images))
    for name in ("node.json", "step.json", "history.parquet", "README.md"):
        (copied / name).unlink()
    assert torch.equal(here.embed(images), kaizen.load(copied).embed(images))


def test_config_says_what_the_model_is(run: Path, project: Project) -> None:
    first, last = (read_json(run / f"step-0{step}/{CONFIG_FILE}") for step in (0, 1))
    assert last["classes"] == [
        {"logit": place, "label": place, "name": name}
        for place, name in enumerate(("ant", "bee", "cat", "dog"))
    ]
    assert first["lineage"] == [] and last["lineage"] == [first["key"]]
    for step, config in enumerate((first, last)):
        record = read_json(run / f"step-0{step}/node.json")
        assert config["key"] == record["key"] and CONFIG_FILE in record["files"]
        assert config["image"] == record["params"]["image"]
    assert "test_crop" not in json.dumps(last), "no step's key depends on it"
    preprocessing = {"bit_depth": None, "resize": 12, "head": "trained", "test_crop": 0.75}
    assert read_json(run / f"step-01/{PREPROCESSING_FILE}") == preprocessing
    (specialist,) = project.root.glob("results/models/*specialist*/task-00")
    assert read_json(specialist / PREPROCESSING_FILE) == preprocessing
    assert kaizen.load(specialist).preprocessing.test_crop == 0.75


def test_a_growing_head_has_its_classes_in_the_order_of_the_logits(run: Path) -> None:
    record = read_record(run / "step-01/node.json")
    assert record is not None
    step = dataclasses.replace(step_spec(record), num_classes=3, logits=[7, 2, 4])
    config = config_of(step, {"2": "two", "4": "four", "7": "seven"}, "k", [])
    assert [(known.logit, known.label, known.name) for known in config.classes] == [
        (0, 7, "seven"),
        (1, 2, "two"),
        (2, 4, "four"),
    ]


def test_another_test_crop_changes_the_description_and_no_step(
    project: Project, tmp_path: Path
) -> None:
    copy = project.copy(tmp_path / "copy")
    copy.set({"image.test_crop": 0.5})
    copy.start_counting()
    copy.kaizen("run").good()
    assert "step" not in copy.jobs()
    for path in copy.root.glob(f"results/models/*/*/{PREPROCESSING_FILE}"):
        assert read_json(path)["test_crop"] == 0.5


ARCHITECTURES: dict[str, tuple[NetworkParams, Literal[1, 3]]] = {
    "small_resnet, grey": (NetworkParams(width=8, classifier_hidden=[]), 1),
    "small_resnet, two hidden layers": (NetworkParams(classifier_hidden=[16, 8]), 3),
    "resnet18": (NetworkParams(backbone="resnet18", classifier_hidden=[8]), 3),
    "resnet18, imagenet stem, grey": (NetworkParams(backbone="resnet18", stem="imagenet"), 1),
    "resnet50": (NetworkParams(backbone="resnet50", classifier_hidden=[8]), 3),
    "timm": (NetworkParams(backbone="timm/resnet10t", classifier_hidden=[8]), 3),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("padded", [False, True], ids=["", "stem padding 2"])
def test_any_network_comes_back_from_its_folder(name: str, padded: bool, tmp_path: Path) -> None:
    params, channels = ARCHITECTURES[name]
    if params.backbone.startswith("timm/"):
        pytest.importorskip("timm")
    architecture = Architecture(
        model=params,
        channels=channels,
        logits=5,
        seed=3,
        stem_padding_2=padded,
        image_size=32,
    )
    network = build_feature_classifier(architecture).eval()
    safetensors.torch.save_file(network.state_dict(), tmp_path / CHECKPOINT)
    image = ImageParams(size=32, channels=channels, mean=[0.4] * channels, std=[0.2] * channels)
    config = ModelConfig(
        key="k",
        lineage=[],
        method="simclr",
        network=params,
        stem_padding_2=padded,
        logits=5,
        classes=[KnownClass(1, 7, "one"), KnownClass(4, 2, "four")],
        image=image,
        precision="float32",
    )
    write_config(config, tmp_path)
    model = kaizen.load(tmp_path, test_crop=1.0)
    pictures = [rgb((40, 50)), rgb((32, 32))[:, :, 0]]
    prepared = model.prepare(pictures)
    with torch.no_grad():
        expected = network(prepared.contiguous(memory_format=torch.channels_last))
    names, probabilities = model.predict(pictures)
    assert prepared.shape == (2, channels, 32, 32)
    torch.testing.assert_close(probabilities, expected[:, [1, 4]].softmax(dim=1))
    assert names == [("one", "four")[place] for place in expected[:, [1, 4]].argmax(dim=1)]
    assert model.embed(pictures).shape == (2, network.encoder.feature_dim)


# -- images of any kind ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return kaizen.load(run)


def rgb(size: tuple[int, int] = (10, 12)) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png")
    return file.getvalue()


SAME: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "path": lambda a, folder: write(folder / "a.png", png(a)),
    "text": lambda a, folder: str(write(folder / "a.png", png(a))),
    "bytes": lambda a, folder: png(a),
    "PIL image": lambda a, folder: Image.fromarray(a),
    "PIL image of a file": lambda a, folder: Image.open(io.BytesIO(png(a))),
    "array": lambda a, folder: a,
    "array [1, H, W, C]": lambda a, folder: a[None],
    "array of float64": lambda a, folder: a / 255,
    "array that is turned": lambda a, folder: np.asfortranarray(a),
    "tensor [C, H, W]": lambda a, folder: torch.from_numpy(a).permute(2, 0, 1),
    "tensor [1, C, H, W]": lambda a, folder: torch.from_numpy(a).permute(2, 0, 1)[None],
    "tensor of float32": lambda a, folder: torch.from_numpy(a).permute(2, 0, 1).float() / 255,
    "opaque RGBA": lambda a, folder: Image.fromarray(a).convert("RGBA"),
    "array of RGBA": lambda a, folder: np.dstack([a, np.full(a.shape[:2], 255, np.uint8)]),
    "several": lambda a, folder: [a],
    "a generator": lambda a, folder: (one for one in [a]),
}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", SAME)
def test_one_image_is_the_same_in_any_form(model: Model, kind: str, tmp_path: Path) -> None:
    expected = model.prepare(rgb())
    assert expected.shape == (1, 3, 8, 8)
    assert torch.equal(model.prepare(SAME[kind](rgb(), tmp_path)), expected)


GREY: dict[str, Callable[[np.ndarray], Any]] = {
    "array [H, W]": lambda a: a,
    "array [H, W, 1]": lambda a: a[:, :, None],
    "array [N, H, W]": lambda a: a[None],
    "tensor [H, W]": torch.from_numpy,
    "L": Image.fromarray,
    "LA": lambda a: Image.fromarray(a).convert("LA"),
    "P": lambda a: Image.fromarray(a).convert("P"),
    "uint16": lambda a: a.astype(np.uint16) * 257,
    "I;16": lambda a: Image.fromarray(a.astype(np.uint16) * 257),
    "RGB": lambda a: np.dstack([a, a, a]),
}


@pytest.mark.parametrize("kind", GREY)
def test_grey_is_the_same_in_any_form(model: Model, kind: str) -> None:
    grey = rgb()[:, :, 0]
    assert torch.equal(model.prepare(GREY[kind](grey)), model.prepare(png(grey)))


def test_a_photograph_that_a_camera_turned_is_turned_back(model: Model) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb()).save(file, "png", exif=exif)
    turned = np.rot90(rgb(), -1)
    expected = model.prepare(np.ascontiguousarray(turned))
    assert torch.equal(model.prepare(file.getvalue()), expected)
    assert torch.equal(model.prepare(Image.open(file)), expected)


def test_black_and_white_and_empty_lists(model: Model) -> None:
    bits = rgb()[:, :, 0] > 127
    assert torch.equal(model.prepare(bits), model.prepare(bits.astype(np.uint8) * 255))
    assert model.prepare([]).shape == (0, 3, 8, 8)
    names, probabilities = model.predict([])
    assert names == [] and probabilities.shape == (0, 4)
    assert model.embed([]).shape == (0, 16)


BAD: dict[str, tuple[Any, str]] = {
    "no file": ("nothing.png", r"nothing\.png: it does not exist"),
    "a folder": (Path("/"), "/: it is not a file"),
    "no image": (b"text", "image 0 cannot be read as an image: it is none of PNG"),
    "floats above 1": (np.full((4, 4), 7.0), "floats must lie between 0 and 1"),
    "NaN": (np.full((4, 4), np.nan), "floats must lie between 0 and 1"),
    "int64": (np.zeros((4, 4), np.int64), "type int64 and 1 channels have no defined range"),
    "a vector": (np.zeros(9, np.uint8), r"shape is \[9\]; an array is \[H, W\]"),
    "channels last tensor": (torch.zeros(9, 9, 3), r"shape is \[9, 3, 9\]"),
    "nothing": (np.zeros((0, 4), np.uint8), "it has no pixels"),
    "a number": (5, "an image is a builtins.int; give a path"),
    "a number among others": ([5], "image 0 is a builtins.int"),
    "signed": (Image.new("I", (4, 4)), "no defined range"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_refused_in_a_sentence(model: Model, name: str) -> None:
    image, message = BAD[name]
    with pytest.raises(KaizenError, match=message):
        model.predict(image)


def test_a_truncated_picture_is_refused(model: Model) -> None:
    data = png(rgb((40, 40)))[:900]
    with pytest.raises(KaizenError, match=r"image 0 cannot be read as an image: .*truncated"):
        model.predict(Image.open(io.BytesIO(data)))


def test_batches_and_the_modules_mode_change_nothing(model: Model, project: Project) -> None:
    images = sorted((project.images / "test").rglob("*.png"))[:7]
    expected = model.embed(images)
    model.train()
    torch.testing.assert_close(model.embed(images, batch_size=2), expected)
    assert model.training and model.encoder.training
    model.eval()
    assert not model.embed(images).requires_grad


def test_prepared_images_are_those_of_the_evaluation(model: Model) -> None:
    batch = np.stack([rgb((8, 8)), 255 - rgb((8, 8))])
    tensor = torch.from_numpy(batch).permute(0, 3, 1, 2)
    expected = evaluation_transform(tensor, model.config.image, 0.75)
    assert torch.equal(model.prepare(batch), expected)


# -- wrong folders -----------------------------------------------------------------------------


def edit(name: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write_json(folder / name, read_json(folder / name) | changes)
        (folder / "node.json").unlink()

    return change


def network(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        values = read_json(folder / CONFIG_FILE)["network"] | changes
        edit(CONFIG_FILE, network=values)(folder)

    return change


def flip(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[-2] ^= 1
        (folder / name).write_bytes(data)

    return change


def poison(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / CHECKPOINT)
    tensors["classifier.0.weight"][0, 0] = torch.nan
    safetensors.torch.save_file(tensors, folder / CHECKPOINT)
    (folder / "node.json").unlink()


def cut(folder: Path) -> None:
    (folder / CHECKPOINT).write_bytes((folder / CHECKPOINT).read_bytes()[:-100])
    (folder / "node.json").unlink()


def without(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "altered weights": (flip(CHECKPOINT), "model.safetensors does not match its recorded hash"),
    "altered classes": (flip(CONFIG_FILE), "config.json (is not readable|does not match)"),
    "poisoned weights": (poison, r"classifier\.0\.weight is not finite"),
    "a cut file": (cut, "model.safetensors is not a readable checkpoint .*copy the model"),
    "no weights": (without(CHECKPOINT, "node.json"), "model.safetensors does not exist; copy"),
    "weights that the record names are gone": (without(CHECKPOINT), "safetensors is missing"),
    "no config": (without(CONFIG_FILE), "has model.safetensors but no config.json"),
    "no description of the input": (without(PREPROCESSING_FILE), "preprocessor_config.* not exist"),
    "another format": (edit(CONFIG_FILE, format=2), "format 2, and this version of Kaizen reads 1"),
    "an unknown key": (edit(CONFIG_FILE, colour=1), "colour is unknown"),
    "no such crop": (edit(PREPROCESSING_FILE, test_crop=0.0), "test_crop lies above 0"),
    "other channels": (
        edit(
            CONFIG_FILE,
            image={"size": 8, "load_size": 8, "channels": 1, "mean": [0.5], "std": [0.5]},
        ),
        "has shape .* but the parameters make it .*copy the model",
    ),
    "too few means": (
        edit(
            CONFIG_FILE,
            image={"size": 8, "load_size": 8, "channels": 3, "mean": [0.5], "std": [0.5]},
        ),
        "mean and std need a value for each of the 3 channels",
    ),
    "an image that fills the memory": (
        edit(
            CONFIG_FILE,
            image={"size": 1 << 30, "load_size": 8, "channels": 1, "mean": [0.5], "std": [0.5]},
        ),
        "images of 1 channels and 1073741824 pixels are none",
    ),
    "logits that fill the memory": (edit(CONFIG_FILE, logits=1 << 40), "order of their logits"),
    "no such backbone": (network(backbone="vgg11"), "vgg11 is none of the backbones"),
    "no such backbone of timm": (network(backbone="timm/nothing"), "timm"),
    "no such stem": (network(stem="wide"), "network.stem"),
    "a network that fills the memory": (network(width=1 << 20), "a network of width 1048576"),
    "no classes": (edit(CONFIG_FILE, classes=[]), "the classes have other logits"),
    "a class without a logit": (
        edit(CONFIG_FILE, classes=[{"logit": 9, "label": 0, "name": "x"}]),
        "the classes have other logits than the 4",
    ),
    "another step's record": (
        lambda folder: write_json(
            folder / "node.json", read_json(folder / "node.json") | {"key": "0" * 32}
        ),
        "node.json is not the record of this model",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_folder_is_refused_in_a_sentence(name: str, copied: Path) -> None:
    change, message = WRONG[name]
    change(copied)
    with pytest.raises(KaizenError, match=message) as error:
        kaizen.load(copied)
    assert "\n" not in str(error.value) and str(copied) in str(error.value)


def test_what_is_no_folder_of_a_model_is_refused(project: Project, tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "nothing", "does not exist.*; name a model's folder"),
        (project.params, r"is a file, .* not end in \.onnx, .*; name such, or a model's"),
        (project.images, "has neither config.json nor steps.*; name a model's folder"),
    ):
        with pytest.raises(KaizenError, match=message):
            kaizen.load(path)


def test_a_run_without_its_latest_config_is_refused(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "step-02").mkdir()
    with pytest.raises(KaizenError, match=r"step-02/config\.json does not exist"):
        kaizen.load(copy)


def test_a_folder_of_the_store_needs_the_crop(project: Project, run: Path) -> None:
    key = read_json(run / "step-01/node.json")["key"]
    folder = project.store.root / "step" / key
    with pytest.raises(KaizenError, match="preprocessor_config"):
        kaizen.load(folder)
    images = sorted((project.images / "test").rglob("*.png"))
    assert kaizen.load(folder, test_crop=0.75).preprocessing.resize is None
    assert torch.equal(
        kaizen.load(folder, test_crop=0.5).prepare(images[0]),
        kaizen.load(run, test_crop=0.5).prepare(images[0]),
    )
    with pytest.raises(KaizenError, match="test_crop: 2"):
        kaizen.load(run, test_crop=2)


def test_the_device_and_the_precision_can_be_chosen(run: Path) -> None:
    assert kaizen.load(run).compute.dtype == torch.float32, "the step's"
    assert kaizen.load(run, precision="bfloat16").predict(rgb()).probabilities.isfinite().all()
    if not torch.cuda.is_available():
        with pytest.raises(KaizenError, match="device: cuda, but torch sees no GPU"):
            kaizen.load(run, device="cuda")


# -- the README --------------------------------------------------------------------------------


def readme(language: str, run: Path) -> str:
    """A block of the section on the use of a model, with the name of a run."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Use the model\n")[2].partition("\n## ")[0]
    block = section.partition(f"```{language}\n")[2].partition("```")[0]
    return block.replace("<run>", run.name)


def put_pictures(folder: Path) -> None:
    for number, name in enumerate(("cat.png", "photographs/1.jpg", "in/a/b.jpg", "in/c.jpg")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_picture(folder / name, number, (12, 9))


def test_the_readmes_lines_of_python_are_true(
    project: Project, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_pictures(project.root)
    monkeypatch.chdir(project.root)
    picture = Image.open("cat.png")
    names: dict[str, Any] = {"picture": picture, "images": [picture, picture, picture]}
    exec(readme("python", run), names)
    assert names["names"][0] == names["names"][1]
    assert names["features"].shape == (1, 16) and names["logits"].shape == (3, 4)


def test_the_readmes_commands_do_what_it_says(project: Project, run: Path) -> None:
    put_pictures(project.root)
    printed = []
    for line in readme("sh", run).splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "kaizen"
        printed.append(project.kaizen(*arguments).good())
    assert "photographs/1.jpg: " in printed[0]
    assert "answers.csv: 2 images\n" in printed[1]
    assert (project.root / "answers.csv").read_text().count(".jpg") == 2
    assert "features.parquet: 12 images\n" in printed[2]
