"""A server beside steps that are broken, on a machine that is: what it has goes on answering."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from project import Outcome, mounted
from served import NAMES, Server, form, picture, png, write_classes, write_step

from faults.inject import fill
from faults.table import fault
from kaizen.cli import main
from kaizen.data.names import CHECKPOINT

RED = png(picture("red"))


def not_a_number(weights: dict[str, torch.Tensor]) -> None:
    weights[min(weights)].fill_(float("nan"))


def mixed_up(weights: dict[str, torch.Tensor]) -> None:
    for name, tensor in weights.items():
        if name.startswith("classifier."):
            tensor.copy_(tensor.roll(1, dims=0))


def cut_short(step: Path) -> None:
    data = (step / CHECKPOINT).read_bytes()
    (step / CHECKPOINT).write_bytes(data[: len(data) // 2])


def write_bad(run: Path, what: str) -> None:
    """Step 1, with what is wrong with it."""
    if what == "with NaN in its weights":
        write_step(run, 1, NAMES[:4], not_a_number)
    elif what == "that does not know a class any more":
        write_step(run, 1, NAMES[1:4])
    elif what == "that mixes classes up":
        write_step(run, 1, NAMES[:4], mixed_up)
    elif what == "without its record":
        (write_step(run, 1, NAMES[:4]) / "node.json").unlink()
    else:
        cut_short(write_step(run, 1, NAMES[:4]))


NEWER = (
    "with NaN in its weights",
    "that is truncated",
    "without its record",
    "that does not know a class any more",
    "that mixes classes up",
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with its first step, of three classes."""
    write_step(tmp_path / "run", 0, NAMES[:3])
    return tmp_path / "run"


def red_by(server: Server) -> str:
    """The name of the step that says that red is red."""
    status, answer = server.predict(RED)
    assert status == 200 and answer["answers"][0]["class"] == "red"
    return str(answer["model"]["name"])


def ended(server: Server) -> Outcome:
    return Outcome(server.end(), server.said())


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=pytest.mark.rows(f"a newer step {what}")) for what in NEWER]
)
def test_a_newer_step_that_is_broken(run: Path, tmp_path: Path, what: str) -> None:
    held_out = write_classes(tmp_path / "held-out", NAMES[:3])
    follow = ("--follow", "--poll", "0.1", "--check", str(held_out))
    with Server(tmp_path / "log", str(run), *follow) as server:
        write_bad(run, what)
        server.wait_for("refused", 1)
        assert red_by(server) == "step-00"
        write_step(run, 1, NAMES[:4])
        server.wait_for("swaps", 1)
        assert red_by(server) == "step-01", "made again, it is taken"
        fault(f"a newer step {what}").check(ended(server))


@pytest.mark.rows("a server that starts beside a newest step that is truncated")
def test_a_start_beside_a_broken_step(run: Path, tmp_path: Path) -> None:
    cut_short(write_step(run, 1, NAMES[:4]))
    with Server(tmp_path / "log", str(run), "--follow", "--poll", "0.1") as server:
        assert red_by(server) == "step-00"
        row = fault("a server that starts beside a newest step that is truncated")
        row.check(ended(server))


def serve(capfd: pytest.CaptureFixture[str], *arguments: str) -> Outcome:
    """A server that must end by itself."""
    code = main(["serve", *arguments])
    printed = capfd.readouterr()
    return Outcome(code, printed.out + printed.err)


@pytest.mark.rows("a server of one model, which is truncated")
def test_a_start_with_a_broken_model(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cut_short(run / "step-00")
    row = fault("a server of one model, which is truncated")
    row.check(serve(capfd, str(run / "step-00"), "--port", "0"))


@pytest.mark.rows("a port that another program has")
def test_a_port_that_is_taken(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        fault("a port that another program has").check(serve(capfd, str(run), "--port", port))


@pytest.mark.rows("no space for an image that is given with feedback")
def test_a_full_disk_under_the_feedback(run: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with (
        mounted(kept, "size=1m"),
        Server(tmp_path / "log", str(run), "--collect", str(kept)) as server,
    ):
        given = form([("a.png", RED)], label="red")
        server.good("/feedback", *given)
        before = (kept / "next/labels.csv").read_text()
        fill(kept)
        other = form([("b.png", png(picture("blue", size=(64, 64))))], label="blue")
        status, answer = server.ask("/feedback", *other)
        assert status == 507 and list(answer) == ["error"] and str(kept) not in answer["error"]
        assert red_by(server) == "step-00", "all else goes on"
        assert (kept / "next/labels.csv").read_text() == before
        (kept / "filler").unlink()
        server.good("/feedback", *other)
        assert server.good("/info")["collected"]["classes"] == {"blue": 1, "red": 1}
        fault("no space for an image that is given with feedback").check(ended(server))


@pytest.mark.rows("SIGKILL while feedback is given")
def test_a_kill_while_feedback_is_given(run: Path, tmp_path: Path) -> None:
    """What was acknowledged is there, and the collection goes on."""
    kept = tmp_path / "kept"
    with Server(tmp_path / "log", str(run), "--collect", str(kept)) as server:
        for seed in range(8):
            server.good("/feedback", *form([("a.png", png(picture("red", seed)))], label="red"))
        connection = server.connect()
        body, kind = form([("b.png", png(picture("blue")))], label="blue")
        connection.request("POST", "/feedback", body, {"Content-Type": kind})
        outcome = Outcome(server.end(signal.SIGKILL), server.said())
        connection.close()
    fault("SIGKILL while feedback is given").check(outcome)
    with Server(tmp_path / "log", str(run), "--collect", str(kept)) as server:
        found = server.good("/info")["collected"]
        assert found["classes"]["red"] == 8
        server.good("/feedback", body, kind)
        assert server.good("/info")["collected"]["classes"] == {"blue": 1, "red": 8}
    assert not [name for name in os.listdir(kept / "next") if name.endswith(".tmp")]


@pytest.mark.rows("SIGTERM while a request is under way")
def test_an_end_while_a_request_is_under_way(run: Path, tmp_path: Path) -> None:
    with Server(tmp_path / "log", str(run)) as server:
        connection = server.connect()
        body, kind = form([("a.png", RED)])
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Type", kind)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:10])
        while "kaizen_requests_under_way 1.0" not in server.good("/metrics"):
            time.sleep(0.02)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        connection.send(body[10:])
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        assert answer["answers"][0]["class"] == "red"
        connection.close()
        outcome = Outcome(server.process.wait(20), server.said())
    fault("SIGTERM while a request is under way").check(outcome)
