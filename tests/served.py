"""Small steps of a run for the tests of `kaizen serve`, with their records, and a real server.

Each class is a colour. An encoder is random; its classifier is solved from what the encoder makes
of the colours: a step is right on nearly every image, and another step's numbers are others.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from project import REPOSITORY

from kaizen.data.names import CHECKPOINT, CONFIG_FILE, PREPROCESSING_FILE
from kaizen.files import write_json
from kaizen.models.config import (
    KnownClass,
    ModelConfig,
    Preprocessing,
    write_config,
    write_preprocessing,
)
from kaizen.models.feature_classifier import Architecture, build_feature_classifier
from kaizen.params import ImageParams, NetworkParams
from kaizen.store.node_id import Kind, NodeId, node_key
from kaizen.store.records import RECORD, FileEntry, Record

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 40, 220),
    "yellow": (230, 220, 30),
    "white": (240, 240, 240),
    "black": (10, 10, 10),
    "pink": (240, 130, 180),
    "teal": (20, 130, 130),
}
NAMES = tuple(COLOURS)
IMAGE = ImageParams(size=8, load_size=8, channels=3, mean=[0.5] * 3, std=[0.25] * 3)
NETWORK = NetworkParams(width=8, classifier_hidden=[])


def picture(name: str, seed: int = 0, size: tuple[int, int] = (12, 9)) -> np.ndarray:
    """An image of a class: its colour with some noise, uint8 [H, W, 3]."""
    noise = np.random.default_rng(seed).integers(-8, 9, (*size, 3))
    return np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)


def png(array: np.ndarray) -> bytes:
    """A PNG file of pixels."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png")
    return file.getvalue()


def write_classes(folder: Path, names: Sequence[str] = NAMES, count: int = 4) -> Path:
    """Held-out images in a folder for each class."""
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{number}.png").write_bytes(png(picture(name, 100 + number)))
    return folder


def write_step(
    folder: Path,
    number: int,
    classes: Sequence[str],
    change: Callable[[dict[str, torch.Tensor]], object] = lambda weights: None,
) -> Path:
    """A step's folder with a record that fits it; ``change`` changes its weights before that.

    It is renamed to its place when it is whole.
    """
    beside = folder / f".step-{number:02d}"
    beside.mkdir(parents=True)
    architecture = Architecture(
        model=NETWORK,
        channels=3,
        logits=len(classes),
        seed=100 + number,
        stem_padding_2=False,
        image_size=8,
    )
    network = build_feature_classifier(architecture).eval()
    weights = network.state_dict()
    colours = torch.tensor([COLOURS[name] for name in classes]) / 255
    inputs = ((colours - 0.5) / 0.25)[:, :, None, None].expand(-1, -1, 8, 8)
    with torch.no_grad():
        features = network.encoder(inputs)
    features = features - features.mean(dim=0)
    scale = 20 / features.square().sum(dim=1).mean()
    names = sorted(name for name in weights if name.startswith("classifier."))
    bias, weight = (weights[name] for name in names)
    mean = network.encoder(inputs).detach().mean(dim=0)
    weight.copy_(features * scale)
    bias.copy_(-(features.square().sum(dim=1) / 2 + features @ mean) * scale)
    change(weights)
    safetensors.torch.save_file(weights, beside / CHECKPOINT)
    params = {"number": number, "classes": list(classes), "made": time.time_ns()}
    key = node_key(Kind.STEP, params, "c" * 64, {})
    config = ModelConfig(
        key=key,
        lineage=[],
        method="simclr",
        network=NETWORK,
        stem_padding_2=False,
        logits=len(classes),
        classes=[KnownClass(n, n, name) for n, name in enumerate(classes)],
        image=IMAGE,
        precision="float32",
    )
    write_config(config, beside)
    crop = Preprocessing(test_crop=1.0, resize=None, bit_depth=None)
    write_preprocessing(crop, beside / PREPROCESSING_FILE)
    files = {name: FileEntry.of(beside / name) for name in (CHECKPOINT, CONFIG_FILE)}
    record = Record(NodeId(Kind.STEP, key), "c" * 64, params, {}, {}, {}, files)
    write_json(beside / RECORD, record.to_json())
    place = folder / f"step-{number:02d}"
    if place.exists():
        shutil.rmtree(place)
    os.rename(beside, place)
    return place


def form(images: Sequence[tuple[str, bytes]], **fields: str) -> tuple[bytes, str]:
    """A form with files, and its type."""
    parts = [
        f'--X\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for name, data in images:
        head = f'--X\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        parts.append(f"{head}Content-Type: image/png\r\n\r\n".encode() + data + b"\r\n")
    return b"".join([*parts, b"--X--\r\n"]), "multipart/form-data; boundary=X"


class Server:
    """`kaizen serve` in a process of its own, on a free port of loopback."""

    def __init__(self, log: Path, *arguments: str, cwd: Path | None = None) -> None:
        """Start it, and wait until it answers; what it says on stderr goes to ``log``."""
        self.log = log
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "kaizen", "serve", *arguments, "--port", "0"]
        with open(log, "wb") as errors:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                cwd=cwd or log.parent,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("serving on http://127.0.0.1:"), self.said()
        self.port = int(line.split(":")[2].split("/")[0])

    def said(self) -> str:
        """What it said on stderr so far."""
        return self.log.read_text(encoding="utf-8")

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()

    def connect(self) -> http.client.HTTPConnection:
        """A connection to it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
    ) -> tuple[int, Any]:
        """A request's status and the JSON of its answer (its text, where it is none)."""
        connection = self.connect()
        try:
            given = {"Content-Type": kind} if body is not None else {}
            verb = method or ("GET" if body is None else "POST")
            connection.request(verb, path, body, {**given, **(headers or {})})
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        if response.headers["content-type"].startswith("application/json"):
            return response.status, json.loads(data)
        return response.status, data.decode()

    def good(self, path: str, body: bytes | None = None, kind: str = "application/json") -> Any:
        """The answer to a request that must succeed."""
        status, answer = self.ask(path, body, kind)
        assert status == 200, (status, answer, self.said())
        return answer

    def predict(self, *images: bytes, **fields: str) -> tuple[int, Any]:
        """Ask for the classes of images."""
        return self.ask(
            "/predict", *form([(f"{n}.png", i) for n, i in enumerate(images)], **fields)
        )

    def wait_for(self, what: str, number: int, seconds: float = 60) -> dict[str, Any]:
        """/info, once a count of it ("swaps", say) has come to ``number``."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            info: dict[str, Any] = self.good("/info")
            count = len(info[what]) if isinstance(info[what], list) else info[what]
            if count >= number:
                return info
            time.sleep(0.05)
        raise AssertionError(f"{what} did not come to {number}: {info}\n{self.said()}")
