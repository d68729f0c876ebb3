"""The reader of exported files: torch is not needed, and a file that is not one of ours, is damaged
or names other files is refused in a sentence.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_models import SMALL, image_params, made_network, write_model
from PIL import Image
from project import REPOSITORY, Outcome, Project

import kaizen
from kaizen import cli
from kaizen.errors import KaizenError
from kaizen.export.making import Request, export_model
from kaizen.inference.exported import ExportedModel, load_exported
from kaizen.inference.facts import facts_from_json
from kaizen.inference.opening import load
from kaizen.inference.wire import read_metadata

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

HEAVY = ("torch", "pyarrow", "pydantic", "sklearn", "yaml", "rich", "scipy", "safetensors", "onnx")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model of colour images."""
    folder = tmp_path_factory.mktemp("exported")
    image = image_params(16, 3)
    model = write_model(folder / "model", made_network(SMALL, image), SMALL, image)
    picture = folder / "images" / "a.png"
    picture.parent.mkdir()
    Image.fromarray(pixels()).save(picture)
    out = folder / "model.onnx"
    export_model(model, Request(format="onnx", out=out, check=[str(picture)]))
    return out


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_kaizen_load_takes_the_file(file: Path) -> None:
    model = kaizen.load(file)
    assert isinstance(model, ExportedModel)
    picture = file.parent / "images" / "a.png"
    forms: list[Any] = [picture, str(picture), picture.read_bytes(), Image.open(picture), pixels()]
    names, probabilities = model.predict(forms, batch_size=2)
    assert names == [names[0]] * 5 and names[0] in ("one", "four")
    assert np.ptp(probabilities, axis=0).max() < 1e-6
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    tensor = torch.from_numpy(pixels()).permute(2, 0, 1)
    np.testing.assert_allclose(model.embed(tensor), model.embed(pixels()), atol=1e-6)
    assert model.predict([]).names == [] and model.embed([]).shape == (0, 32)
    with pytest.raises(KaizenError, match="image 1 cannot be read as an image"):
        model.predict([pixels(), b"text"])


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_batches_change_nothing(file: Path, size: int) -> None:
    model = load_exported(file)
    images = np.random.default_rng(1).integers(0, 256, (65, 16, 16, 3), dtype=np.uint8)
    expected = model.predict(list(images)).probabilities
    np.testing.assert_allclose(
        model.predict(list(images), batch_size=size).probabilities, expected, atol=1e-6
    )


def without(packages: tuple[str, ...], *arguments: str) -> Outcome:
    """The command line in a process that has not these packages."""
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {packages!r}:\n"
        "            raise ModuleNotFoundError(f'no module {name}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from kaizen.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
    )
    return Outcome(done.returncode, done.stdout + done.stderr)


def test_the_command_line_predicts_without_torch_and_the_rest(file: Path) -> None:
    images = str(file.parent / "images")
    output = without(HEAVY, "predict", str(file), images, "--top", "1").good()
    (name,), shares = load_exported(file).predict(file.parent / "images" / "a.png")
    assert output.startswith(f"{images}/a.png: {name} {shares.max():.3f}")


def test_shards_and_outputs_need_pyarrow_but_no_torch(file: Path, tmp_path: Path) -> None:
    images, out = str(file.parent / "images"), str(tmp_path / "features.csv")
    without(("torch",), "embed", str(file), images, "--out", out).good()
    assert Path(out).read_text().count("\n") == 2
    outcome = without(HEAVY, "embed", str(file), images, "--out", str(tmp_path / "two.csv"))
    assert outcome.code == 2 and "the package pyarrow is not installed" in outcome.output


# -- files that are none -----------------------------------------------------------------------


def edited(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """The file with its ONNX model changed."""

    def make(data: bytes) -> bytes:
        model = onnx.load_from_string(data)
        change(model)
        made: bytes = model.SerializeToString()
        return made

    return make


def facts(**changes: Any) -> Callable[[bytes], bytes]:
    """The file with other metadata."""

    def change(model: Any) -> None:
        (entry,) = [one for one in model.metadata_props if one.key == "kaizen"]
        entry.value = json.dumps(json.loads(entry.value) | changes)

    return edited(change)


def outside(model: Any) -> None:
    """A weight that lies in another file."""
    tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"


def hidden(model: Any) -> None:
    """The same in an attribute of a node of a graph within a node."""
    tensor = onnx.helper.make_tensor("x", onnx.TensorProto.FLOAT, [1], [1.0])
    inner = onnx.helper.make_node("Constant", [], ["x"], value=tensor)
    inner.attribute[0].t.data_location = onnx.TensorProto.EXTERNAL
    graph = onnx.helper.make_graph([inner], "inner", [], [])
    model.graph.node.append(
        onnx.helper.make_node("If", ["shown_0"], ["y"], then_branch=graph, else_branch=graph)
    )


def poisoned(model: Any) -> None:
    tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[:] = np.nan
    tensor.raw_data = values.tobytes()


def without_metadata(model: Any) -> None:
    del model.metadata_props[:]


def renamed(model: Any) -> None:
    model.graph.output[0].name = "features2"


def twice(model: Any) -> None:
    model.metadata_props.append(model.metadata_props[-1])


def image(**changes: Any) -> dict[str, Any]:
    return {
        "size": 16,
        "load_size": None,
        "channels": 3,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    } | changes


def widths(model: Any) -> tuple[int, int]:
    """How many classes and features it has."""
    (entry,) = [one for one in model.metadata_props if one.key == "kaizen"]
    about = json.loads(entry.value)
    return len(about["classes"]), about["feature_dim"]


def frozen(count: int) -> Callable[[Any], None]:
    """The same answers for ``count`` images, whatever is asked."""

    def change(model: Any) -> None:
        del model.graph.node[:]
        for output, width in zip(model.graph.output, widths(model), strict=True):
            values = onnx.numpy_helper.from_array(np.full((count, width), 1 / width, np.float32))
            node = onnx.helper.make_node("Constant", [], [output.name], value=values)
            model.graph.node.append(node)

    return change


def no_name(data: bytes) -> bytes:
    """The name of an output in bytes that are no text: onnxruntime lists it."""
    return data.replace(b"features", b"f\xffatures")


DAMAGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "it was not made by `kaizen export`"),
    "text": (lambda data: b"hello, world\n" * 9, "no ONNX model"),
    "cut off": (lambda data: data[: len(data) // 2], "it is cut off, or no ONNX model"),
    "a weight elsewhere": (edited(outside), "a tensor of it lies in another file"),
    "hidden elsewhere": (edited(hidden), "a tensor of it lies in another file"),
    "not finite": (edited(poisoned), "its answers are no finite numbers"),
    "another's": (edited(without_metadata), "it was not made by `kaizen export`"),
    "other outputs": (edited(renamed), "not an exported model"),
    "no name": (no_name, "not an exported model"),
    "a batch of one": (edited(frozen(1)), "other shapes"),
    "a batch of two": (edited(frozen(2)), "other shapes"),
    "said twice": (edited(twice), "its metadata have 'kaizen' twice"),
    "another format": (facts(format=2), "format 2, and this version of Kaizen reads 1"),
    "no text": (facts(key=7), "key must be a text, not 7"),
    "more than there is": (facts(more=1), "more is unknown"),
    "fewer classes": (facts(classes=["one"], labels=[1]), "its answers have other shapes"),
    "a class twice": (facts(classes=["one", "one"]), "a class is named twice"),
    "labels are missing": (facts(labels=[1]), "classes and labels are not as many"),
    "no head": (facts(head="hydra"), "head 'hydra' is none"),
    "no features": (facts(feature_dim=0), "0 features are none"),
    "a large image": (facts(image=image(size=1 << 20)), "images of 3 channels and"),
    "two channels": (facts(image=image(channels=2)), "one of 1, 3, not 2"),
    "a mean too few": (facts(image=image(mean=[0.5])), "mean and std need a value for each"),
    "not JSON": (
        edited(lambda m: setattr(m.metadata_props[-1], "value", "{")),
        "not an exported model",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_no_export_is_refused_in_a_sentence(
    file: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make, message = DAMAGED[name]
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(make(file.read_bytes()))
    with pytest.raises(KaizenError) as caught:
        load_exported(bad)
    said = str(caught.value)
    assert said.startswith(f"{bad} is not an exported model (") and message in said, said
    assert "\n" not in said and "export the model again, by `kaizen export`" in said
    assert capfd.readouterr() == ("", ""), "onnxruntime adds nothing"


def at_most_two(model: Any) -> None:
    """Answers for two images where more are asked about."""
    node, tensor = onnx.helper.make_node, onnx.numpy_helper.from_array
    zero = node("Constant", [], ["zero"], value=tensor(np.zeros(1, np.int64)))
    del model.graph.node[:]
    model.graph.node.extend([zero, node("Shape", ["images"], ["count"], start=0, end=1)])
    for output, width in zip(model.graph.output, widths(model), strict=True):
        values = tensor(np.full((2, width), 1 / width, np.float32))
        rows = f"rows of {output.name}"
        model.graph.node.append(node("Constant", [], [rows], value=values))
        model.graph.node.append(node("Slice", [rows, "zero", "count", "zero"], [output.name]))


def test_a_graph_that_answers_for_other_images_is_refused(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(edited(at_most_two)(file.read_bytes()))
    model = load(bad)
    assert len(model.predict([pixels()] * 2).names) == 2
    with pytest.raises(KaizenError, match="does not answer 3 images at once"):
        model.embed([pixels()] * 3)
    for number in range(3):
        Image.fromarray(pixels()).save(tmp_path / f"{number}.png")
    arguments = [str(bad), str(tmp_path), "--out", str(tmp_path / "out.csv")]
    for command in ("predict", "embed"):
        assert cli.main([command, *arguments]) == 2
        assert "does not answer 3 images at once" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("step", range(7, 200, 13))
def test_a_flipped_bit_is_refused_or_does_no_harm(file: Path, tmp_path: Path, step: int) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) * step // 200] ^= 1 << (step % 8)
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(data)
    try:
        model = load_exported(bad)
    except KaizenError as error:
        assert str(bad) in str(error)
    else:
        assert np.isfinite(model.predict(pixels()).probabilities).all()


def test_nested_and_endless_messages_are_refused() -> None:
    def field(number: int, data: bytes) -> bytes:
        return onnx_varint(number << 3 | 2) + onnx_varint(len(data)) + data

    data = b""
    for _ in range(40):
        data = field(6, field(1, field(5, data)))
    with pytest.raises(ValueError, match="nested too deep"):
        read_metadata(field(7, field(1, field(5, data))))
    with pytest.raises(ValueError, match="no ONNX model"):
        read_metadata(b"\xff" * 20)
    with pytest.raises(ValueError, match="no mapping"):
        facts_from_json([])


def onnx_varint(value: int) -> bytes:
    """Protobuf's way to write a number."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def test_other_places_are_refused(file: Path, tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "nothing.onnx", "No such file or directory; name an exported model"),
        (tmp_path / "folder.onnx", "is not a file; name an exported model"),
        (tmp_path / "pipe.onnx", "is not a file; name an exported model"),
    ):
        if path.stem == "folder":
            path.mkdir()
        elif path.stem == "pipe":
            os.mkfifo(path)
        with pytest.raises(KaizenError, match=message):
            load_exported(path)
    other = tmp_path / "model.bin"
    other.write_bytes(file.read_bytes())
    with pytest.raises(KaizenError, match=r"does not end in \.onnx, as that of an"):
        load(other)
    with pytest.raises(KaizenError, match="device: cuda cannot be chosen of"):
        load(file, device="cuda")


def test_the_command_ends_with_2(finished: Project, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"text")
    outcome = finished.kaizen("predict", str(bad), "images/test")
    assert outcome.code == 2 and "Traceback" not in outcome.output
    assert f"kaizen: {bad} is not an exported model (" in outcome.output.replace("\n", " ")
