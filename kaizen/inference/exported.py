"""A model from an exported file of ONNX: onnxruntime, NumPy and Pillow compute it. No torch.

The file may come from anywhere: it is bounded, its metadata are checked, and what onnxruntime gets
are the very bytes that were checked, which name no other file.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kaizen.errors import KaizenError
from kaizen.files import counted, parse_json, shortened
from kaizen.inference.answering import BATCH_SIZE
from kaizen.inference.facts import ModelFacts, facts_from_json
from kaizen.inference.images import Images, OneImage, numbered_batches, pixels_of
from kaizen.inference.preparing import shown_levels
from kaizen.inference.wire import read_metadata

SUFFIX = ".onnx"
# The metadata's name, and those of the graph's input and outputs.
METADATA, INPUT, OUTPUTS = "kaizen", "images", ("probabilities", "features")
# Protobuf holds no more.
MOST_BYTES = (1 << 31) - 1
_AGAIN = "export the model again, by `kaizen export`, or copy the file again"


class ExportedPredictions(NamedTuple):
    """What N images were taken for: the names of the most probable classes, str [N], and the
    probabilities of all K classes, float32 [N, K].
    """

    names: list[str]
    probabilities: np.ndarray


class ExportedModel:
    """An exported model. ``classes`` are the names of the K classes that it knows, in the order of
    the probabilities; ``about`` is what its file says, ``digest`` the SHA-256 of its bytes.
    """

    def __init__(self, session: Any, about: ModelFacts, digest: str) -> None:
        """Take a session of onnxruntime with the input and outputs of `kaizen export`."""
        self.session, self.about, self.digest = session, about, digest
        self.classes = tuple(about.classes)

    @property
    def key(self) -> str:
        """The key of the step that made the model."""
        return self.about.key

    def facts(self) -> dict[str, Any]:
        """What the file says of the model, as JSON (`ModelFacts`)."""
        return self.about.to_json()

    def identity(self) -> dict[str, str]:
        """What decides the bits of its answers."""
        return {"model": self.digest, "device": "cpu", "precision": self.about.numbers}

    def prepare_numpy(self, image: OneImage, name: str = "an image") -> np.ndarray:
        """What the network sees of one image of any kind, before it is normalised: uint8 [C, size,
        size]. Raises KaizenError, which names the file or ``name``, where it is no image.
        """
        about = self.about
        pixels = pixels_of(image, about.preprocessing, name)
        return shown_levels(pixels, about.image, about.preprocessing.test_crop)

    def answer(self, prepared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities float32 [N, K] and features float32 [N, F] of images uint8 [N, C, size,
        size] that `prepare_numpy` made; of others [N, C, H, W] the graph resizes them itself.

        Raises KaizenError where the graph fails, or answers for another number of images: one that
        was not exported by Kaizen may.
        """
        if not len(prepared):
            return (
                np.zeros((0, len(self.classes)), np.float32),
                np.zeros((0, self.about.feature_dim), np.float32),
            )
        try:
            return _answers(self, prepared)
        except ValueError as error:
            raise KaizenError(
                f"the exported model does not answer {counted(len(prepared), 'image')} at once "
                f"({shortened(str(error))}); {_AGAIN}"
            ) from error

    def predict(self, images: Images, *, batch_size: int = BATCH_SIZE) -> ExportedPredictions:
        """The classes of images: N names, and probabilities float32 [N, K] of the K ``classes``.

        ``images`` are paths, files' bytes, PIL images or arrays, of any size and mode, one or many.
        Raises KaizenError where one of them is no image.
        """
        found = [self.answer(batch)[0] for batch in self._batches(images, batch_size)]
        empty = np.zeros((0, len(self.classes)), np.float32)
        probabilities = np.concatenate([empty, *found])
        names = [self.classes[place] for place in probabilities.argmax(axis=1)]
        return ExportedPredictions(names, probabilities)

    def embed(self, images: Images, *, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """The features of images, float32 [N, F]; images as for `predict`."""
        found = [self.answer(batch)[1] for batch in self._batches(images, batch_size)]
        empty = np.zeros((0, self.about.feature_dim), np.float32)
        return np.concatenate([empty, *found])

    def _batches(self, images: Images, batch_size: int) -> Iterator[np.ndarray]:
        """Prepared images, ``batch_size`` at a time."""
        for batch in numbered_batches(images, batch_size):
            yield np.stack([self.prepare_numpy(one, f"image {number}") for number, one in batch])


def _answers(model: ExportedModel, prepared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the graph answers; raises ValueError where it fails, or the shapes are not of its
    classes, features and these images.
    """
    try:
        probabilities, features = model.session.run(list(OUTPUTS), {INPUT: prepared})
    except Exception as error:  # onnxruntime has a type of its own for each of its faults
        raise ValueError(" ".join(str(error).split())) from error
    count = len(prepared)
    expected = (count, len(model.classes)), (count, model.about.feature_dim)
    if (probabilities.shape, features.shape) != expected:
        raise ValueError("its answers have other shapes than its classes and features")
    return probabilities, features


def load_exported(path: Path, threads: int | None = None) -> ExportedModel:
    """The model in a file that `kaizen export --format onnx` wrote; ``threads`` compute it, by
    default one for each CPU.

    Raises KaizenError where it is none, is damaged, names other files, or answers with what are no
    probabilities.
    """
    data = _read(path)
    try:
        metadata = read_metadata(data)
        if METADATA not in metadata:
            raise ValueError("it was not made by `kaizen export`")
        about = facts_from_json(parse_json(metadata[METADATA]))
        model = ExportedModel(session_of(data, threads), about, hashlib.sha256(data).hexdigest())
        _check(model)
    except (ValueError, UnicodeError) as error:
        raise KaizenError(
            f"{path} is not an exported model ({shortened(str(error))}); {_AGAIN}"
        ) from error
    return model


def _read(path: Path) -> bytes:
    """The bytes of a regular file of bounded length."""
    try:
        # A pipe without a writer would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise KaizenError(f"{path} is not a file; name an exported model, *{SUFFIX}")
            if status.st_size > MOST_BYTES:
                raise KaizenError(f"{path} is longer than {MOST_BYTES} bytes; {_AGAIN}")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(status.st_size)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KaizenError(
            f"{path}: {error.strerror or error}; name an exported model that you can read"
        ) from error


def session_of(data: bytes, threads: int | None = None) -> Any:
    """A session of onnxruntime on the CPU; raises ValueError where it takes no such model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    # Between two requests no thread spins.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(
            data,
            sess_options=options,
            providers=["CPUExecutionProvider"],
            # No second try on another device, of which it would print to stdout.
            enable_fallback=0,
        )
    except Exception as error:  # as above
        raise ValueError(" ".join(str(error).split())) from error


def _check(model: ExportedModel) -> None:
    """Whether input and outputs are those of an export, and an answer is one; else ValueError."""
    about, session = model.about, model.session
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [(one.name, one.type) for one in inputs] != [(INPUT, "tensor(uint8)")]:
        raise ValueError(f"its input is not {INPUT}, uint8")
    if [(one.name, one.type) for one in outputs] != [(name, "tensor(float)") for name in OUTPUTS]:
        raise ValueError(f"its outputs are not {' and '.join(OUTPUTS)}, float32")
    side = about.image.size
    # No image is the same as another one; one and two, as a frozen batch passes by its own number.
    ramp = np.arange(2 * about.image.channels * side * side, dtype=np.int64) % 251
    pair = ramp.astype(np.uint8).reshape(2, -1, side, side)
    for images in (pair[:1], pair):
        _check_answers(*_answers(model, images))


def _check_answers(probabilities: np.ndarray, features: np.ndarray) -> None:
    if not (np.isfinite(features).all() and np.isfinite(probabilities).all()):
        raise ValueError("its answers are no finite numbers")
    if (probabilities < 0).any() or (abs(probabilities.sum(axis=1) - 1) > 1e-3).any():
        raise ValueError("its answers are no probabilities")
