"""An exported file is served without torch, and a newer one in its folder takes over."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import REPOSITORY
from served import NAMES, Server, form, picture, png, write_classes, write_step

import kaizen
from kaizen.export.making import Request, export_model

pytest.importorskip("onnxruntime")

# The process that serves says at its end what it has imported.
_SERVE = """
import sys
from kaizen import cli
code = cli.main()
print("MODULES", *sorted(sys.modules))
sys.exit(code)
"""
_HEAVY = {"torch", "torchvision", "snakemake", "dvc", "vl_convert", "sklearn"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of three exported steps; of the last a half is missing."""
    folder = tmp_path_factory.mktemp("exported")
    check = write_classes(folder / "check", NAMES[:3])
    for number in range(3):
        step = write_step(folder / "run", number, NAMES[: 3 + number])
        out = folder / f"step-{number:02d}.onnx"
        export_model(step, Request(format="onnx", out=out, check=(str(check),)))
    whole = (folder / "step-02.onnx").read_bytes()
    (folder / "half").write_bytes(whole[: len(whole) // 2])
    return folder


def test_no_torch_is_imported(files: Path, tmp_path: Path) -> None:
    place = tmp_path / "step-00.onnx"
    shutil.copy(files / "step-00.onnx", place)
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, "serve", str(place), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().split(":")[2].split("/")[0])
        server = Server.__new__(Server)
        server.port = port
        for name in NAMES[:3]:
            status, answer = server.predict(png(picture(name)))
            assert status == 200 and answer["answers"][0]["class"] == name
        info = json.loads(json.dumps(server.ask("/info")[1]))
        assert info["explained"] is None and info["facts"]["classes"] == list(NAMES[:3])
        assert server.ask("/predict", *form([("a.png", b"no")]))[0] == 422
        process.terminate()
        said = process.communicate(timeout=30)[0]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    modules = set(said.rpartition("MODULES")[2].split())
    assert "onnxruntime" in modules and not modules & _HEAVY


def test_it_answers_as_the_folder_does(files: Path) -> None:
    exported, folder = kaizen.load(files / "step-01.onnx"), kaizen.load(files / "run/step-01")
    assert exported.key == folder.key and exported.classes == folder.classes


def test_newer_files_take_over(files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    shutil.copy(files / "step-00.onnx", folder)
    arguments = ("--follow", "--poll", "0.1", "--check", str(files / "check"))
    with Server(tmp_path / "log", str(folder), *arguments) as server:
        assert server.good("/healthz")["model"]["name"] == "step-00.onnx"
        shutil.copy(files / "step-01.onnx", folder)
        info = server.wait_for("swaps", 1)
        assert info["answers"]["key"] == kaizen.load(files / "run/step-01").key
        assert info["answers"]["check"] == {"images": 12, "before": 1.0, "after": 1.0}
        shutil.copy(files / "half", folder / "step-02.onnx")
        info = server.wait_for("refused", 1)
        assert info["answers"]["name"] == "step-01.onnx"
        shutil.copy(files / "step-02.onnx", folder)
        assert server.wait_for("swaps", 2)["answers"]["step"] == 2
        assert server.good("/classes")["classes"] == list(NAMES[:5])
        assert server.good("/rollback", b"")["model"]["name"] == "step-01.onnx"
        assert "Traceback" not in server.said()
