"""An export from beginning to end: load, make, compare, write."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from kaizen.errors import KaizenError
from kaizen.export.check import (
    FEW_IMAGES,
    MOST_IMAGES,
    TOLERANCE,
    Answer,
    Compared,
    RealImages,
    answer_of,
    compare,
    real_images,
)
from kaizen.export.folders import hf_files, timm_files, triton_files
from kaizen.export.network import program_of
from kaizen.export.numbers import Numbers, in_bfloat16, in_int8
from kaizen.export.onnx_file import file_bytes, onnx_model
from kaizen.export.ours import check_place, write_file, write_folder
from kaizen.export.program import program_bytes
from kaizen.files import counted
from kaizen.inference.exported import MOST_BYTES, session_of
from kaizen.inference.facts import ModelFacts, facts_of
from kaizen.inference.loading import load, model_folder
from kaizen.inference.model import Model

Format = Literal["onnx", "torch", "hf", "timm", "triton"]
# Of each format, what its default name ends in.
ENDINGS: dict[str, str] = {
    "onnx": ".onnx",
    "torch": ".pt2",
    "hf": "-hf",
    "timm": "-timm",
    "triton": "-triton",
}
_FOLDERS = ("hf", "timm", "triton")
# Every fourth image tells the ranges of activations; the others tell the accuracy.
_EVERY, _MOST_RANGES = 4, 256


@dataclass(frozen=True)
class Request:
    """What is asked for: format, place (None: a name of its own in the current folder), numbers
    (None: float32), the largest difference allowed (None: 1e-4, and any of smaller numbers), images
    to check with, and whether an earlier export may be replaced.
    """

    format: Format
    out: Path | None = None
    quantize: Numbers | None = None
    tolerance: float | None = None
    check: Sequence[str] = ()
    force: bool = False


@dataclass(frozen=True)
class Made:
    """What was written, and what was seen of it; ``compared`` is None where nothing computes it."""

    path: Path
    facts: ModelFacts
    compared: Compared | None
    source: str


def export_model(folder: Path, request: Request) -> Made:
    """Export the model of a step's or a run's folder.

    Raises KaizenError, before anything is written, where the model is not whole, the format cannot
    hold it, the place is taken, or the export answers otherwise than the model.
    """
    place = model_folder(folder)
    out = request.out or Path(_name(place) + ENDINGS[request.format])
    check_place(out, request.format in _FOLDERS, request.force)
    model = load(place, device="cpu", precision="float32")
    facts = facts_of(model.config, model.preprocessing, model.encoder.feature_dim)
    if request.format in ("hf", "timm"):
        made = hf_files(model, facts, place) if request.format == "hf" else timm_files(model, facts)
        write_folder(out, made, {"format": request.format, "key": facts.key})
        return Made(out, facts, None, "")
    # An accuracy needs more images than a difference in rounding.
    most = MOST_IMAGES if request.check or request.quantize else FEW_IMAGES
    images = real_images(model, request.check, place, most)
    if not len(images):
        raise KaizenError("--check: there is no image in it; name some")
    with _explained("torch.export"):
        program = program_of(model)
    if request.format == "torch":
        compared = compare(model, _of_archive(program_bytes(program, facts)), images)
        facts = _checked(facts, compared, request)
        write_file(out, program_bytes(program, facts))
        return Made(out, facts, compared, images.source)
    data, facts, compared = _onnx(model, program, facts, images, request)
    if request.format == "onnx":
        write_file(out, data)
    else:
        files = triton_files(data, facts, out.absolute().name)
        write_folder(out, files, {"format": request.format, "key": facts.key})
    return Made(out, facts, compared, images.source)


def _name(place: Path) -> str:
    """<run>-<step>, or the name of a copied folder."""
    own = place.absolute()
    return f"{own.parent.name}-{own.name}" if own.name.startswith("step-") else own.name


def _onnx(
    model: Model, program: Any, facts: ModelFacts, images: RealImages, request: Request
) -> tuple[bytes, ModelFacts, Compared]:
    """The bytes of the file, and what is said of it."""
    if sum(one.nbytes for one in model.state_dict().values()) > MOST_BYTES:
        raise KaizenError(
            f"the model has more than {MOST_BYTES} bytes, which a file of ONNX cannot hold; export "
            "it by --format torch or hf"
        )
    with _explained("torch.onnx"):
        made = onnx_model(program, facts)
    if request.quantize == "bf16":
        in_bfloat16(made)
    elif request.quantize == "int8":
        if len(images) < 2 * _EVERY:
            raise KaizenError(
                f"--quantize int8: {counted(len(images), 'image')} are too few to find the ranges "
                "of activations; name more by --check"
            )
        with _explained("onnxruntime's quantisation"):
            made = in_int8(made, images.levels[::_EVERY][:_MOST_RANGES])
        rest = np.arange(len(images)) % _EVERY != 0
        images = RealImages(images.levels[rest], images.classes[rest], images.source)
    facts = dataclasses.replace(facts, numbers=request.quantize or "float32")
    compared = compare(model, _session(file_bytes(made, facts)), images)
    facts = _checked(facts, compared, request)
    data = file_bytes(made, facts)
    return data, facts, compared


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Say in a sentence what another's exporter cannot do; it may raise anything."""
    try:
        yield
    except (KaizenError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise KaizenError(
            f"{what} cannot take this network ({reason}); export it in another format, or by "
            "--format hf, which needs no graph"
        ) from error


def _session(data: bytes) -> Answer:
    try:
        return answer_of(session_of(data))
    except ValueError as error:
        raise KaizenError(
            f"onnxruntime does not take the exported model ({str(error)[:200]}); export it by "
            "--format torch or hf"
        ) from error


def _checked(facts: ModelFacts, compared: Compared, request: Request) -> ModelFacts:
    """The facts with what was measured; raises KaizenError where that is too much."""
    allowed = request.tolerance
    if allowed is None and request.quantize is None:
        allowed = TOLERANCE
    if allowed is not None and compared.worst() > allowed:
        raise KaizenError(
            f"the export differs from the model by {compared.worst():.2g} on "
            f"{counted(compared.images, 'real image')}, more than --tolerance {allowed:g}: nothing "
            "is written; allow more, or export it by --format hf"
        )
    return dataclasses.replace(
        facts,
        checked=compared.images,
        accuracy=compared.accuracy(),
        deviation=[compared.probability, compared.feature],
    )


def _of_archive(data: bytes) -> Answer:
    """What was just written, read again; raises KaizenError where it holds a pickle."""
    if b'"use_pickle": true' in data:
        raise KaizenError("torch pickled a tensor of the program; export it by --format onnx or hf")
    module = torch.export.load(io.BytesIO(data)).module()

    def answer(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            probabilities, features = module(torch.from_numpy(levels))
        return probabilities.numpy(), features.numpy()

    return answer
