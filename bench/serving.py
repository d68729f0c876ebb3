"""`kaizen serve` against a plain endpoint of FastAPI and torch, each in a process of its own on
loopback: images a second, and times of requests, with 1, 8 and 32 clients.

    python -m bench.serving                     # small_resnet on 32 x 32, and resnet18
    python -m bench.serving --seconds 2 --rounds 3

The servers are asked in turns, in rotating order, several rounds each; what is printed is the
median of the rounds, with the lowest and the highest. Clients are threads of this process, which
share the cores with the servers. Each request carries one PNG of 48 x 48 pixels, or of 256 x 256.
"""

from __future__ import annotations

import argparse
import http.client
import io
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from bench.machine import describe
from kaizen.data.names import CHECKPOINT, PREPROCESSING_FILE
from kaizen.models.config import (
    KnownClass,
    ModelConfig,
    Preprocessing,
    write_config,
    write_preprocessing,
)
from kaizen.models.feature_classifier import Architecture, build_feature_classifier
from kaizen.params import ImageParams, NetworkParams

CLIENTS = (1, 8, 32)
# What one writes in an afternoon: decode, resize, one forward pass for each request.
_PLAIN = """
import io, sys
import numpy as np, torch, uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image
import kaizen
torch.set_num_threads(int(sys.argv[3]))
model = kaizen.load(sys.argv[1])
size = model.config.image.size
app = FastAPI()

@app.post("/predict")
def predict(file: UploadFile):
    picture = Image.open(io.BytesIO(file.file.read())).convert("RGB").resize((size, size))
    x = (torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        shares = model(x).softmax(dim=1)[0]
    place = int(shares.argmax())
    return {"class": model.classes[place], "probability": float(shares[place])}

uvicorn.run(app, port=int(sys.argv[2]), log_level="error", access_log=False)
"""


@dataclass(frozen=True)
class Case:
    """A network, the side of its input, and that of the pictures that are sent."""

    name: str
    network: NetworkParams
    side: int
    sent: int


CASES = (
    Case("small_resnet, 32 x 32", NetworkParams(width=32), 32, 48),
    Case("resnet18, 64 x 64", NetworkParams(backbone="resnet18", stem="imagenet"), 64, 256),
)


@dataclass(frozen=True)
class Round:
    """What one round of one server gave: requests a second, and milliseconds."""

    rate: float
    p50: float
    p99: float


def write_model(case: Case, folder: Path) -> Path:
    """A model's folder with random weights; a server does the same work with them."""
    folder.mkdir(parents=True)
    architecture = Architecture(
        model=case.network,
        channels=3,
        logits=10,
        seed=0,
        stem_padding_2=False,
        image_size=case.side,
    )
    network = build_feature_classifier(architecture).eval()
    safetensors.torch.save_file(network.state_dict(), folder / CHECKPOINT)
    image = ImageParams(
        size=case.side, load_size=case.side, channels=3, mean=[0.5] * 3, std=[0.25] * 3
    )
    config = ModelConfig(
        key="0" * 32,
        lineage=[],
        method="simclr",
        network=case.network,
        stem_padding_2=False,
        logits=10,
        classes=[KnownClass(number, number, f"class {number}") for number in range(10)],
        image=image,
        precision="float32",
    )
    write_config(config, folder)
    preprocessing = Preprocessing(test_crop=1.0, resize=None, bit_depth=None)
    write_preprocessing(preprocessing, folder / PREPROCESSING_FILE)
    return folder


def bodies(side: int, count: int = 16) -> list[bytes]:
    """Forms with a picture each, as a camera's: smooth, with a little noise."""
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        picture = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).astype(int)
        noisy = np.clip(picture + rng.integers(-3, 4, picture.shape), 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(noisy).save(file, "png")
        head = b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
        head += b"Content-Type: image/png\r\n\r\n"
        found.append(head + file.getvalue() + b"\r\n--X--\r\n")
    return found


@contextmanager
def started(command: Sequence[str], port: int) -> Iterator[None]:
    """A server's process, from when it answers."""
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/openapi.json")
                connection.getresponse().read()
                connection.close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


def measure(port: int, sent: Sequence[bytes], clients: int, seconds: float) -> Round:
    """Ask a server for ``seconds`` from so many clients, each as soon as it is answered."""
    times: list[list[float]] = [[] for _ in range(clients)]
    end = time.perf_counter() + seconds

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Content-Type": "multipart/form-data; boundary=X"}
        turn = number
        while (began := time.perf_counter()) < end:
            connection.request("POST", "/predict", sent[turn % len(sent)], headers)
            response = connection.getresponse()
            data = response.read()
            if response.status != 200:
                raise RuntimeError(data.decode())
            times[number].append(time.perf_counter() - began)
            turn += 1
        connection.close()

    threads = [threading.Thread(target=ask, args=[number]) for number in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - began
    every = sorted(one for own in times for one in own)
    milliseconds = [1000 * every[len(every) * share // 100] for share in (50, 99)]
    return Round(len(every) / wall, *milliseconds)


def contest(case: Case, rounds: int, seconds: float) -> None:
    """Measure one case, and print its rows."""
    from kaizen.export.making import Request, export_model

    cores = str(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = write_model(case, Path(temporary) / "step-00")
        file = Path(temporary) / "step-00.onnx"
        export_model(folder, Request(format="onnx", out=file))
        ours = [sys.executable, "-m", "kaizen", "serve"]
        commands = {
            "FastAPI + torch": [sys.executable, "-c", _PLAIN, str(folder), "8301", cores],
            "kaizen serve, folder": [*ours, str(folder), "--port", "8302"],
            "kaizen serve, ONNX": [*ours, str(file), "--port", "8303"],
        }
        ports = dict(zip(commands, (8301, 8302, 8303), strict=True))
        for name, command in commands.items():
            stack.enter_context(started(command, ports[name]))
        sent = bodies(case.sent)
        for port in ports.values():
            measure(port, sent, 8, 1.0)
        print(f"\n{case.name}; a PNG of {case.sent} x {case.sent} a request")
        for clients in CLIENTS:
            found: dict[str, list[Round]] = {name: [] for name in ports}
            order = list(ports)
            for _ in range(rounds):
                for name in order:
                    found[name].append(measure(ports[name], sent, clients, seconds))
                order = [*order[1:], order[0]]
            for name, results in found.items():
                print(_row(name, clients, results), flush=True)


def _row(name: str, clients: int, results: Sequence[Round]) -> str:
    def spread(values: Sequence[float], digits: int) -> str:
        median, low, high = statistics.median(values), min(values), max(values)
        return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    columns = (
        spread([one.rate for one in results], 0),
        spread([one.p50 for one in results], 1),
        spread([one.p99 for one in results], 1),
    )
    return f"| {name} | {clients} | " + " | ".join(columns) + " |"


def main(arguments: Sequence[str]) -> None:
    """Run the contests and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a round; default: 3")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    known = parser.parse_args(arguments)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    machine = describe()
    print(f"{machine['cpu']}; {machine['packages']}")
    print("| server | clients | requests a second | p50, ms | p99, ms |")
    for case in CASES:
        contest(case, known.rounds, known.seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
