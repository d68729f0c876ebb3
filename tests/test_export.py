"""`kaizen export`: what comes out answers as the model does, on real images and in batches of any
size; and nothing is written that does not, or over what is not ours.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import safetensors.torch
import torch
from exported_models import (
    CIFAR,
    SMALL,
    cifar,
    digits,
    image_params,
    made_network,
    train_on_digits,
    write_model,
)
from PIL import Image
from project import Outcome, Project, make_project

import kaizen
from kaizen.data.names import CHECKPOINT, CONFIG_FILE, PREPROCESSING_FILE
from kaizen.export.making import Request, export_model
from kaizen.files import read_json
from kaizen.inference.exported import ExportedModel, load_exported
from kaizen.inference.loading import load
from kaizen.inference.model import Model
from kaizen.models.config import Preprocessing
from kaizen.params import ImageParams, NetworkParams

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


def torch_model(folder: Path) -> Model:
    """The model as the export is compared with it."""
    return load(folder, device="cpu", precision="float32")


def exported(folder: Path, **options: Any) -> ExportedModel:
    """The model after a way through a file."""
    out = folder.with_suffix(".onnx")
    export_model(folder, Request(format="onnx", out=out, force=True, **options))
    return load_exported(out)


def levels_of(model: Model, images: list[Any]) -> np.ndarray:
    """What the network sees of images, in whole levels."""
    image = model.config.image
    mean, std = (np.array(values)[:, None, None] for values in (image.mean, image.std))
    seen = [(model.prepare_numpy(one) * std + mean) * 255 for one in images]
    assert max(np.abs(one - np.rint(one)).max() for one in seen) < 1e-3
    levels: np.ndarray = np.rint(np.stack(seen)).astype(np.uint8)
    return levels


# -- the same answers --------------------------------------------------------------------------

NETWORKS: dict[str, tuple[NetworkParams, Literal[1, 3], int]] = {
    "small_resnet": (SMALL, 3, 32),
    "resnet18": (NetworkParams(backbone="resnet18", stem="imagenet", classifier_hidden=[8]), 3, 32),
    "resnet18, cifar stem": (NetworkParams(backbone="resnet18", classifier_hidden=[]), 1, 8),
    "resnet50": (NetworkParams(backbone="resnet50", stem="imagenet"), 3, 32),
    "timm": (NetworkParams(backbone="timm/resnet10t", classifier_hidden=[8]), 3, 32),
}


@pytest.fixture(scope="module")
def photographs() -> list[Any]:
    """1,000 photographs of CIFAR-10."""
    if not CIFAR.exists():
        pytest.skip(f"CIFAR-10 is not at {CIFAR}")
    return list(cifar(1000))


@pytest.mark.parametrize("name", NETWORKS)
def test_an_export_answers_as_torch_on_1000_real_images(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    params, channels, size = NETWORKS[name]
    if params.backbone.startswith("timm/"):
        pytest.importorskip("timm")
    images = list(digits()[0][:1000])
    if channels == 3:
        images = request.getfixturevalue("photographs")
    image = image_params(size, channels)
    folder = write_model(tmp_path / "model", made_network(params, image), params, image)
    there, model = exported(folder), torch_model(folder)
    assert there.classes == model.classes == ("one", "four")

    levels = levels_of(model, images)
    own = np.stack([there.prepare_numpy(one) for one in images])
    # Both prepare the same pixels, but for halves that float32 rounds the other way.
    assert (own != levels).mean() < 1e-3
    assert np.abs(own.astype(int) - levels).max() <= 1
    prepared = np.stack([model.prepare_numpy(one) for one in images])
    worst = [0.0, 0.0]
    begin, sizes = 0, [1, 2, 7, *[64] * 20]
    while begin < len(images):
        rows = slice(begin, begin + sizes.pop(0))
        expected, got = model.answer(prepared[rows]), there.answer(levels[rows])
        scale = max(1.0, float(np.abs(expected[1]).max()))
        apart = [np.abs(got[0] - expected[0]).max(), np.abs(got[1] - expected[1]).max() / scale]
        worst = [max(pair) for pair in zip(worst, apart, strict=True)]
        begin = rows.stop
    print(f"{name}: probabilities {worst[0]:.2g}, features {worst[1]:.2g}")
    assert max(worst) < 1e-5


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that has learnt digits."""
    return train_on_digits(tmp_path_factory.mktemp("trained") / "model")


def test_a_trained_model_is_as_right_from_its_file(trained: Path) -> None:
    images, labels = digits()
    there, model = exported(trained), torch_model(trained)
    test = list(images[1200:])
    names, probabilities = there.predict(test)
    expected, shares = model.predict(test)
    assert (
        np.mean([name == f"digit {n}" for name, n in zip(names, labels[1200:], strict=True)]) > 0.8
    )
    assert np.mean([one == other for one, other in zip(names, expected, strict=True)]) > 0.99
    assert probabilities.dtype == np.float32 and probabilities.shape == (597, 10)
    assert np.abs(probabilities - shares.numpy()).max() < 0.02, (
        "a level more or less here and there"
    )
    features = there.embed(test)
    assert features.shape == (597, 32) and features.dtype == np.float32
    np.testing.assert_allclose(features, model.embed(test).numpy(), atol=0.05)


def test_an_analytic_head_answers_in_float64_without_classes_it_never_saw(tmp_path: Path) -> None:
    folder = train_on_digits(tmp_path / "model", head=True)
    there, model = exported(folder), torch_model(folder)
    assert there.facts()["head"] == "lda" and there.classes == model.classes
    images = list(digits()[0][1200:])
    prepared = np.stack([model.prepare_numpy(one) for one in images])
    expected, got = model.answer(prepared), there.answer(levels_of(model, images))
    np.testing.assert_allclose(got[0], expected[0], atol=1e-4)
    assert (got[0][:, 4] == 0).all() and (expected[0][:, 4] == 0).all()
    made = onnx.load(str(folder.with_suffix(".onnx")))
    doubles = [one for one in made.graph.initializer if one.data_type == onnx.TensorProto.DOUBLE]
    assert sum(int(np.prod(one.dims)) for one in doubles) > 9 * 50, "the head's weights"


def showing(test_crop: float, resize: int | None = None) -> Preprocessing:
    return Preprocessing(test_crop=test_crop, resize=resize, bit_depth=None)


SHOWN: dict[str, tuple[ImageParams, Preprocessing]] = {
    "as stored": (image_params(16, 3), showing(1.0)),
    "cropped": (image_params(16, 3), showing(0.75)),
    "loaded, cropped": (image_params(16, 3, 20), showing(0.8)),
    "shrunk before": (image_params(16, 1, 18), showing(1.0, 24)),
    "large": (image_params(64, 3, 72), showing(0.9)),
}


@pytest.mark.parametrize("name", SHOWN)
def test_the_graph_shows_images_of_any_size_as_evaluation_does(name: str, tmp_path: Path) -> None:
    """Resize, crops and normalisation are in it; so are they in NumPy, where nothing has torch."""
    image, preprocessing = SHOWN[name]
    network = made_network(SMALL, image)
    folder = write_model(tmp_path / "model", network, SMALL, image, preprocessing=preprocessing)
    there, model = exported(folder), torch_model(folder)
    for seed, size in enumerate([(16, 16), (40, 31), (31, 40), (150, 160), (9, 12), (21, 20)]):
        if size == (image.size, image.size) and name != "as stored":
            continue  # taken for prepared
        picture = smooth(seed, size, image.channels)
        levels = levels_of(model, [picture])
        own = there.prepare_numpy(picture)
        assert np.abs(own.astype(int) - levels[0]).max() <= 1 and (own != levels[0]).mean() < 0.01
        given = picture.transpose(2, 0, 1)[None]
        expected, got = model.answer(model.prepare_numpy(picture)[None]), there.answer(given)
        # Not to the bit: passes in another order, and large images in 16 bits.
        np.testing.assert_allclose(got[0], expected[0], atol=0.01)
        np.testing.assert_allclose(got[1], expected[1], atol=0.05 * np.abs(expected[1]).max())


def smooth(seed: int, size: tuple[int, int], channels: int) -> np.ndarray:
    """A picture with shapes larger than a pixel: uint8 [H, W, C]."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize(size[::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels[:, :, None] if channels == 1 else pixels


# -- what the file says ------------------------------------------------------------------------


def test_the_file_says_what_the_model_is(trained: Path) -> None:
    there, model = exported(trained), torch_model(trained)
    said, expected = there.facts(), model.facts()
    assert there.key == model.key == said["key"] == "0123456789abcdef"
    assert said["lineage"] == ["aa", "bb"] and said["classes"] == [f"digit {n}" for n in range(10)]
    assert said["size"] == 16 and said["channels"] == 1 and said["feature_dim"] == 32
    assert {name: value for name, value in said.items() if name in expected} == expected
    assert said["checked"] == 512 and max(said["deviation"]) < 1e-5
    made = onnx.load(str(trained.with_suffix(".onnx")))
    props = {one.key: one.value for one in made.metadata_props}
    assert json.loads(props["classes"]) == said["classes"] and props["key"] == said["key"]
    assert [one.name for one in made.graph.output] == ["probabilities", "features"]
    text = made.SerializeToString()
    assert str(Path(kaizen.__file__).parent).encode() not in text, "no path of this machine"


def test_the_same_model_gives_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    files = [tmp_path / "one.onnx", tmp_path / "two.onnx"]
    for out in files:
        export_model(trained, Request(format="onnx", out=out))
    assert files[0].read_bytes() == files[1].read_bytes()


# -- smaller numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize(("numbers", "share"), [("int8", 0.6), ("bf16", 0.7)])
def test_smaller_numbers_say_what_accuracy_they_cost(
    trained: Path, tmp_path: Path, numbers: Literal["int8", "bf16"], share: float
) -> None:
    images, labels = digits()
    for number in range(1200, 1797):
        place = tmp_path / "test" / f"digit {labels[number]}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[number]).save(place / f"{number}.png")
    whole, small = tmp_path / "whole.onnx", tmp_path / "small.onnx"
    export_model(trained, Request(format="onnx", out=whole))
    request = Request(format="onnx", out=small, quantize=numbers, check=[str(tmp_path / "test")])
    made = export_model(trained, request)
    assert small.stat().st_size < share * whole.stat().st_size
    said = load_exported(small).facts()
    # Every fourth image told int8 the ranges, and is not counted.
    assert said["checked"] == (447 if numbers == "int8" else 597) and said["numbers"] == numbers
    before, after = said["accuracy"]
    assert before > 80 and abs(after - before) < 3
    assert made.compared is not None and 0 < made.compared.probability < 0.3
    test = sorted((tmp_path / "test").rglob("*.png"))
    names, _ = load_exported(small).predict(test)
    right = np.mean([name == path.parent.name for name, path in zip(names, test, strict=True)])
    assert 100 * right == pytest.approx(after, abs=3)


# -- other formats -----------------------------------------------------------------------------


def test_torchs_program_is_read_without_a_pickle(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.pt2"
    export_model(trained, Request(format="torch", out=out))
    data = out.read_bytes()
    assert b'"use_pickle": true' not in data and b'"use_pickle": false' in data
    assert b"data.pkl" not in data, "torch.save's"
    assert str(Path(kaizen.__file__).parent).encode() not in data
    beside = {"kaizen-export.json": ""}
    program = torch.export.load(io.BytesIO(data), extra_files=beside).module()
    assert json.loads(beside["kaizen-export.json"])["key"] == "0123456789abcdef"
    model = torch_model(trained)
    images = list(digits()[0][:65])
    levels = torch.from_numpy(levels_of(model, images))
    for count in (1, 2, 7, 65):
        expected = model.answer(np.stack([model.prepare_numpy(one) for one in images[:count]]))
        for one, other in zip(expected, program(levels[:count]), strict=True):
            np.testing.assert_allclose(other.numpy(), one, atol=1e-5)


def test_hugging_faces_folder_is_a_model_of_ours_too(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "hub"
    export_model(trained, Request(format="hf", out=out))
    names = {CHECKPOINT, CONFIG_FILE, PREPROCESSING_FILE, "README.md", "kaizen-export.json"}
    assert {path.name for path in out.iterdir()} == names
    assert (out / "README.md").read_text().startswith("---\nlibrary_name: kaizen-ssl\n")
    image = digits()[0][0]
    assert torch.equal(kaizen.load(out).embed(image), kaizen.load(trained).embed(image))


def test_triton_gets_its_configuration_and_labels(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "repository" / "digits"
    out.parent.mkdir()
    export_model(trained, Request(format="triton", out=out))
    assert (out / "labels.txt").read_text().splitlines() == [f"digit {n}" for n in range(10)]
    config = (out / "config.pbtxt").read_text()
    assert 'name: "digits"\n' in config and "dims: [ 1, -1, -1 ]" in config
    assert 'name: "probabilities" data_type: TYPE_FP32 dims: [ 10 ] label_filename' in config
    assert load_exported(out / "1" / "model.onnx").classes[3] == "digit 3"


def test_timm_gets_its_own_names_and_the_classes_seen(tmp_path: Path) -> None:
    params = NetworkParams(backbone="resnet18", stem="imagenet", classifier_hidden=[])
    image = image_params(32, 3)
    network = made_network(params, image)
    folder = write_model(tmp_path / "model", network, params, image)
    out = tmp_path / "for-timm"
    export_model(folder, Request(format="timm", out=out))
    config = read_json(out / "config.json")
    assert config["architecture"] == "resnet18" and config["label_names"] == ["one", "four"]
    assert config["pretrained_cfg"]["mean"] == image.mean
    tensors = safetensors.torch.load_file(out / "model.safetensors")
    assert tensors["fc.weight"].shape == (2, 512)
    state = network.state_dict()
    assert torch.equal(tensors["fc.bias"], state["classifier.0.bias"][[1, 4]])
    name = "layer1.0.conv1.weight"
    assert torch.equal(tensors[name], state[f"encoder.network.{name}"])
    timm = pytest.importorskip("timm")
    there = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    model = torch_model(folder)
    x = model.prepare(smooth(0, (40, 40), 3))
    with torch.no_grad():
        torch.testing.assert_close(there(x), model(x), atol=1e-4, rtol=1e-4)


# -- the command, and what it refuses ----------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run of two steps."""
    root = tmp_path_factory.mktemp("export") / "project"
    project = make_project(root, {"grid.variants": ["kaizen"]})
    project.kaizen("run").good()
    return project


def test_the_command_exports_what_predict_then_takes(project: Project, tmp_path: Path) -> None:
    (run,) = project.root.glob("results/models/*kaizen*")
    out = tmp_path / "model.onnx"
    said = project.kaizen("export", str(run), "--format", "onnx", "--out", str(out)).good()
    assert f"{out}: 4 classes, step " in said
    assert "compared with the model on 24 images (2 test shards beside the model)" in said
    here = project.kaizen("predict", str(run), "images/test").good()
    there = project.kaizen("predict", str(out), "images/test", "--batch-size", "7").good()
    (accuracy,) = [line for line in here.splitlines() if line.startswith("accuracy ")]
    assert accuracy in there.splitlines()
    features = tmp_path / "features.jsonl"
    shard = "data/shards/task-00.test.parquet"
    project.kaizen("embed", str(out), shard, "--out", str(features)).good()
    rows = [json.loads(line) for line in features.read_text().splitlines()]
    assert len(rows) == 12 and all(len(row["features"]) == 16 for row in rows)
    assert all(row["true_class"] in ("ant", "bee", "cat", "dog") for row in rows)
    expected = kaizen.load(run, device="cpu", precision="float32").embed(
        [project.images / row["file"].partition(":")[2] for row in rows]
    )
    got = torch.tensor([row["features"] for row in rows])
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def other(path: Path) -> None:
    path.write_bytes(b"mine")


def other_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine").write_text("mine")


def ours_and_more(path: Path) -> None:
    other_folder(path)
    (path / "kaizen-export.json").write_text('{"files": []}')


def link(path: Path) -> None:
    path.symlink_to("/nowhere")


def pipe(path: Path) -> None:
    os.mkfifo(path)


TAKEN: dict[str, tuple[str, Callable[[Path], None], bool, str]] = {
    "a file": ("onnx", other, False, "exists; remove it, name another, or give --force"),
    "not ours": ("onnx", other, True, "was not written by `kaizen export`, so --force does not"),
    "a folder": ("onnx", other_folder, True, "is a folder, no such export"),
    "a pipe": ("onnx", pipe, True, "is a pipe or a device, no such export"),
    "a link": ("onnx", link, True, "is a link, no such export"),
    "a folder of others": ("hf", other_folder, True, "has no kaizen-export.json of an export"),
    "ours and more": ("hf", ours_and_more, True, "holds mine, which no export wrote"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_nothing_is_replaced_that_no_export_wrote(
    project: Project, tmp_path: Path, name: str
) -> None:
    form, make, force, message = TAKEN[name]
    out = tmp_path / "out"
    make(out)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    outcome = export(project, form, out, *(["--force"] if force else []))
    assert outcome.code == 2 and message in outcome.output.replace("\n", " ")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("form", ["onnx", "torch", "hf", "triton"])
def test_an_earlier_export_is_replaced_when_asked(
    project: Project, tmp_path: Path, form: str
) -> None:
    out = tmp_path / "out"
    export(project, form, out).good()
    export(project, form, out, "--force").good()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def export(project: Project, form: str, out: Path, *more: str) -> Outcome:
    (run,) = project.root.glob("results/models/*kaizen*")
    return project.kaizen("export", str(run), "--format", form, "--out", str(out), *more)


BAD: dict[str, tuple[list[str], str]] = {
    "no equal in timm": (["timm"], "timm has no equal of small_resnet; export it by --format hf"),
    "quantised torch": (["torch", "--quantize", "int8"], "--quantize has no effect on --format"),
    "no tolerance": (["onnx", "--tolerance", "0"], "--tolerance: 0.0 is none; a number above 0"),
    "too strict": (["onnx", "--tolerance", "1e-12"], "real images, more than --tolerance 1e-12"),
    "nothing to check": (["onnx", "--check", "nothing"], "nothing does not exist; name an image"),
    "too few": (
        ["onnx", "--quantize", "int8", "--check", "images/test/ant"],
        "6 images are too few",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_and_nothing_written(
    project: Project, tmp_path: Path, name: str
) -> None:
    (form, *more), message = BAD[name]
    outcome = export(project, form, tmp_path / "out", *more)
    assert outcome.code == 2 and "Traceback" not in outcome.output
    assert message in outcome.output.replace("\n", " "), outcome.output
    assert not list(tmp_path.iterdir())


def test_a_network_that_torch_cannot_export_is_refused_in_a_sentence(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise RuntimeError("no such operator:\n  aten::frobnicate")

    monkeypatch.setattr(torch.export, "export", fails)
    outcome = export(project, "torch", tmp_path / "out")
    assert outcome.code == 2 and not list(tmp_path.iterdir())
    assert "torch.export cannot take this network (no such operator: aten::frob" in outcome.output
