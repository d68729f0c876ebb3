"""`kaizen serve` over HTTP: what each path answers, its limits, what is refused in a sentence."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from project import REPOSITORY, Project, make_project
from served import NAMES, Server, form, picture, png, write_step

import kaizen
from kaizen import cli
from kaizen.errors import KaizenError
from kaizen.files import read_json
from kaizen.inference.answering import Answering
from kaizen.inference.places import shards_of_project, steps_in
from kaizen.serving.batching import Batcher, Full
from kaizen.serving.held_out import answers, held_out

LIMITS = (
    *("--max-bytes", "200000", "--max-pixels", "10000", "--max-images", "6"),
    *("--batch-size", "4", "--workers", "2"),
)


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_step(tmp_path_factory.mktemp("run"), 0, NAMES)


@pytest.fixture(scope="module")
def model(step: Path) -> Answering:
    return kaizen.load(step)


@pytest.fixture(scope="module")
def server(step: Path) -> Iterator[Server]:
    with Server(step.parent / "log", str(step), *LIMITS) as server:
        yield server
        assert "Traceback" not in server.said()
        assert "boundary" not in server.said(), "a client's bad form fills no log"


def as_json(*images: bytes, **fields: Any) -> bytes:
    texts = [base64.b64encode(image).decode() for image in images]
    return json.dumps({"images": texts, **fields}).encode()


PICTURES = [png(picture(name)) for name in NAMES[:5]]


def test_it_answers_what_the_model_answers(server: Server, model: Answering) -> None:
    """By a form and by JSON; more images than a batch holds."""
    expected = model.predict([image for image in PICTURES]).probabilities
    by_form = server.predict(*PICTURES, top="8")
    by_json = server.ask("/predict", as_json(*PICTURES, top=8))
    for status, answer in (by_form, by_json):
        assert status == 200
        assert answer["model"] == {"key": model.key, "name": "step-00", "step": 0}
        assert [one["class"] for one in answer["answers"]] == list(NAMES[:5])
        for one, row in zip(answer["answers"], expected, strict=True):
            assert "id" not in one, "nothing is kept"
            found = {each["class"]: each["probability"] for each in one["top"]}
            named = dict(zip(model.classes, row.tolist(), strict=True))
            assert found == pytest.approx(named, abs=1e-5)
            assert list(found.values()) == sorted(found.values(), reverse=True)
    assert [one["name"] for one in by_form[1]["answers"]] == [f"{n}.png" for n in range(5)]
    top = server.good("/predict?top=2", as_json(PICTURES[0]))["answers"][0]["top"]
    assert len(top) == 2


def test_it_embeds(server: Server, model: Answering) -> None:
    answer = server.good("/embed", as_json(*PICTURES))
    features = np.array([one["features"] for one in answer["answers"]], np.float32)
    np.testing.assert_allclose(features, np.asarray(model.embed(list(PICTURES))), atol=1e-5)
    assert answer["model"]["key"] == model.key


def test_it_says_what_it_is(server: Server, model: Answering, step: Path) -> None:
    info = server.good("/info")
    assert info["answers"]["place"] == str(step) and info["facts"] == model.facts()
    assert info["explained"] is None and "lies in no project" in info["not_explained"]
    assert info["follows"] is None and info["collected"] is None
    assert info["limits"]["max_pixels"] == 10000
    assert server.good("/classes")["classes"] == list(NAMES)
    assert server.good("/healthz")["status"] == "ok"
    metrics = server.good("/metrics")
    assert f'kaizen_model_info{{key="{model.key}",name="step-00"}} 1.0' in metrics
    assert 'kaizen_requests_total{path="/healthz",status="200"} 1.0' in metrics
    assert re.search(r"kaizen_batch_images_count \d", metrics)


def test_the_pages_load_nothing_from_elsewhere(server: Server) -> None:
    document = server.good("/openapi.json")
    assert set(document["paths"]) == {
        *("/predict", "/embed", "/feedback", "/rollback"),
        *("/info", "/classes", "/healthz", "/metrics"),
    }
    page = server.good("/docs")
    for path in document["paths"]:
        assert path in page
    for place in ("/", "/docs", "/page/page.js", "/page/page.css", "/page/icon.svg"):
        text = server.good(place)
        found = [url for url in re.findall(r"(?:https?:)?//[\w.]+", text) if "localhost" not in url]
        assert found in ([], ["http://www.w3.org"]), (place, found)
    connection = server.connect()
    connection.request("GET", "/")
    policy = connection.getresponse().headers["content-security-policy"]
    connection.close()
    assert "default-src 'none'" in policy and "unsafe" not in policy


IMAGE = PICTURES[0]
CUT = png(picture("red", size=(40, 40)))[:1500]
BAD: dict[str, tuple[str, bytes, str, int, str]] = {
    "no image": ("/predict", *form([("a.png", b"text")]), 422, "a.png cannot be read as an image"),
    "no image among others": (
        *("/predict", *form([("a.png", IMAGE), ("../b\x07.png", b"")])),
        *(422, "b�.png cannot be read as an image"),
    ),
    "truncated": ("/predict", *form([("a.png", CUT)]), 422, "a.png cannot be read as an image: "),
    "EPS": ("/embed", *form([("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n")]), 422, "it is none of PNG"),
    "too many pixels": (
        *("/predict", *form([("a.png", png(np.zeros((101, 100, 3), np.uint8)))])),
        *(422, "a.png has 100 x 101 pixels, more than 10000"),
    ),
    "too many bytes": ("/predict", *form([("a", b"0" * 200_001)]), 413, "are more than 200000"),
    "too many images": ("/predict", *form([("a.png", IMAGE)] * 7), 413, "Too many files"),
    "too many in JSON": (
        *("/predict", as_json(*[IMAGE] * 7), "application/json"),
        *(413, "7 images are more than 6"),
    ),
    "none": ("/predict", *form([]), 400, "no image in the request"),
    "no form": ("/predict", b"--Y\r\nnothing", "multipart/form-data; boundary=X", 400, "the form"),
    "no boundary": ("/predict", b"", "multipart/form-data", 400, "the form cannot be read"),
    "no codec": (
        *("/predict", form([("a.png", IMAGE)])[0]),
        *(f"{form([('a.png', IMAGE)])[1]}; charset=undefined", 400, "the form cannot be read"),
    ),
    "another type": ("/predict", IMAGE, "image/png", 415, "send images as files of a form"),
    "top 0": ("/predict", *form([("a.png", IMAGE)], top="0"), 400, "top: '0' is no number"),
    "top -": ("/predict", as_json(IMAGE, top=[1]), "application/json", 400, r"top: [1] is no"),
    "top true": ("/predict", as_json(IMAGE, top=True), "application/json", 400, "top: True is"),
    "no JSON": ("/predict", b"{", "application/json", 400, "the JSON cannot be read"),
    "NaN": ("/predict", b'{"top": NaN}', "application/json", 400, "NaN is not a number"),
    "deep": ("/predict", b"[" * 50_000, "application/json", 400, "nested too deep"),
    "a list": ("/predict", b"[]", "application/json", 400, "must be a mapping"),
    "a URL": (
        *("/predict", b'{"image": "http://127.0.0.1/a.png"}', "application/json"),
        *(400, "image 0 is no base64; give base64 alone, no URL"),
    ),
    "a number": ("/predict", b'{"images": [5]}', "application/json", 400, "image 0 is 5; give"),
    "bytes": ("/predict", b"\xff\xfe", "application/json", 400, "the JSON cannot be read"),
    "feedback": ("/feedback", *form([("a.png", IMAGE)]), 404, "this server collects nothing"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_refused_in_a_sentence(server: Server, name: str) -> None:
    path, body, kind, expected, message = BAD[name]
    status, answer = server.ask(path, body, kind)
    assert (status, list(answer)) == (expected, ["error"]), answer
    assert message in answer["error"] and "\n" not in answer["error"]
    assert server.good("/healthz")["status"] == "ok"


def test_a_body_without_a_length_is_bounded_too(server: Server) -> None:
    connection = server.connect()
    pieces = iter([b"0" * 50_000] * 5)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/predict", pieces, headers, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 413 and b"more than 200000 bytes" in response.read()
    connection.close()


def test_other_sites_and_other_names_are_refused(server: Server) -> None:
    status, answer = server.ask("/predict", as_json(IMAGE), headers={"Origin": "http://a.example"})
    assert status == 403 and "pages of other sites" in answer["error"]
    status, answer = server.ask("/predict", as_json(IMAGE), headers={"Origin": "http://["})
    assert status == 403 and "pages of other sites" in answer["error"]
    for host in ("rebound.example", "[", "[::1", "127.0.0.1]"):
        assert server.ask("/info", headers={"Host": host})[0] == 421, host
    own = {"Origin": f"http://localhost:{server.port}", "Host": f"localhost:{server.port}"}
    assert server.ask("/predict", as_json(IMAGE), headers=own)[0] == 200
    assert server.ask("/predict", method="GET")[0] == 405
    assert server.ask("/../../etc/passwd")[0] == 404


def test_too_many_at_once_are_told_to_come_again(step: Path, tmp_path: Path) -> None:
    """And one that never ends its request holds its place for no longer than it may."""
    arguments = ("--max-requests", "1", "--timeout", "5")
    with Server(tmp_path / "log", str(step), *arguments) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            slow.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            deadline = time.monotonic() + 10
            status = 200
            while status == 200 and time.monotonic() < deadline:
                connection = server.connect()
                connection.request(
                    "POST", "/predict", as_json(IMAGE), {"Content-Type": "application/json"}
                )
                response = connection.getresponse()
                status, retry = response.status, response.headers["retry-after"]
                connection.close()
            assert status == 503 and retry == "1"
            assert server.ask("/healthz")[0] == 200, "its state can be asked all the same"
            slow.settimeout(20)
            assert b"504" in slow.recv(100)
        assert server.predict(IMAGE)[0] == 200
        assert 'kaizen_requests_total{path="/predict",status="503"}' in server.good("/metrics")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_when_what_is_under_way_is_answered(
    number: signal.Signals, step: Path, tmp_path: Path
) -> None:
    with Server(tmp_path / "log", str(step)) as server:
        connection = server.connect()
        body = as_json(IMAGE)
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:10])
        # It counts as under way once its first bytes are read.
        while "kaizen_requests_under_way 1.0" not in server.good("/metrics"):
            time.sleep(0.02)
        server.process.send_signal(number)
        time.sleep(0.3)
        connection.send(body[10:])
        response = connection.getresponse()
        assert response.status == 200 and json.loads(response.read())["answers"]
        connection.close()
        assert server.process.wait(20) == 0
        assert "all that was under way is answered" in server.said()
        assert "Traceback" not in server.said()


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "no model": (("nowhere",), "nowhere does not exist; name a run's folder"),
    "no folder of a model": ((".",), "has neither config.json nor steps"),
    "one model": (("STEP", "--follow"), "is one model; name the folder where its steps appear"),
    "port": (("STEP", "--port", "70000"), "--port: 70000 must be from 0"),
    "a port in use": (("STEP", "--port", "TAKEN"), "cannot be used (Address already in use)"),
    "host": (("STEP", "--host", "not.a.host.example"), "--host: not.a.host.example is no address"),
    "a blank host": (("STEP", "--host", ".."), "--host: .. is no address here (it is no name"),
    "a long host": (("STEP", "--host", 70 * "a"), "is no address here (it is no name of a host)"),
    "batch": (("STEP", "--batch-size", "0"), "--batch-size: 0 must be from 1 to 4096"),
    "pixels": (("STEP", "--max-pixels", "-1"), "--max-pixels: -1 must be from 1"),
    "NaN": (("STEP", "--timeout", "nan"), "--timeout: nan must be from 0.1"),
    "drop": (("STEP", "--max-drop", "101"), "--max-drop: 101 must be from 0 to 100"),
    "check": (("STEP", "--check", "nowhere"), "--check: nowhere does not exist"),
    "collect": (("STEP", "--collect", "STEP"), "holds other things"),
    "bound": (("STEP", "--collect-images", "0"), "--collect-images: 0 is too few"),
    "no feedback": (("STEP", "--collect-bytes", "9"), "--collect-bytes has no effect without"),
    "no newer steps": (("STEP", "--poll", "1"), "--poll has no effect without --follow; add that"),
    "a check alone": (("STEP", "--check", "."), "--check has no effect without --follow; add that"),
    "check no shard": (("RUN", "--follow", "--check", "FILE"), "neither a shard (.parquet) nor a"),
    "check no image": (("RUN", "--follow", "--check", "BAD"), "cannot be read as an image"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_are_refused_before_anything_is_served(
    name: str, step: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = WRONG[name]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = {"STEP": str(step), "TAKEN": str(taken.getsockname()[1])}
        bad = tmp_path / "held-out" / NAMES[0] / "0.png"
        bad.parent.mkdir(parents=True)
        bad.write_bytes(b"no image")
        given |= {"RUN": str(step.parent), "FILE": str(bad), "BAD": str(bad.parents[1])}
        before = Path.cwd()
        os.chdir(tmp_path)
        try:
            assert cli.main(["serve", *(given.get(word, word) for word in arguments)]) == 2
        finally:
            os.chdir(before)
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A published run of two tasks."""
    project = make_project(
        tmp_path_factory.mktemp("serving") / "project", {"grid.variants": ["kaizen"]}
    )
    project.kaizen("run").good()
    return project


def test_held_out_images_are_those_of_the_earlier_tasks(project: Project) -> None:
    """As the evaluation counted them right."""
    (run,) = project.root.glob("results/models/*kaizen*")
    first, last = (kaizen.load(run / f"step-0{number}") for number in (0, 1))
    shards = shards_of_project(run / "step-00", 0)
    assert shards == [project.root / "data/shards/task-00.test.parquet"]
    images = held_out(shards, first.classes, 100)
    assert {one.true_class for one in images} == set(first.classes) and len(images) == 12
    (file,) = project.root.glob("results/evaluations/*kaizen*/accuracy.json")
    measured = read_json(file)["matrices"]["classifier"]
    assert answers(last, images).accuracy == pytest.approx(measured[1][0])
    assert len(shards_of_project(run / "step-01", 1)) == len(shards_of_project(run, None)) == 2
    assert len(held_out(shards_of_project(run, None), last.classes, 10)) == 10
    assert shards_of_project(project.root.parent / "elsewhere", None) == []
    with pytest.raises(KaizenError, match="neither a shard"):
        held_out([file], last.classes, 10)


def test_steps_of_a_folder_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("step-10", "step-9", "step-1.onnx", "step-x", "steps-02", "step-3"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-02.onnx").touch()
    (tmp_path / "step-04").touch()
    assert steps_in(tmp_path) == [
        (number, tmp_path / name)
        for number, name in ((2, "step-02.onnx"), (3, "step-3"), (9, "step-9"), (10, "step-10"))
    ]
    assert [number for number, _ in steps_in(tmp_path, exported=False)] == [3, 9, 10]
    assert steps_in(tmp_path / "gone") == steps_in(tmp_path / "step-04") == []


def test_info_says_what_explain_says(project: Project, tmp_path: Path) -> None:
    (run,) = project.root.glob("results/models/*kaizen*")
    place = run.relative_to(project.root).as_posix()
    variables = {"KAIZEN_STORE": str(project.store.root)}
    log = tmp_path / "log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAIZEN_STORE", variables["KAIZEN_STORE"])
        with Server(log, place, cwd=project.root) as server:
            info = server.good("/info")
    shown: dict[str, Any] = json.loads(said(project, f"{place}/step-01"))
    assert info["answers"]["name"] == "step-01"
    for name in ("key", "title", "what", "parameters", "parents", "again", "data"):
        assert info["explained"][name] == shown[name], name


def said(project: Project, place: str) -> str:
    return project.kaizen("explain", place, "--json").good()


# -- batches -----------------------------------------------------------------------------------


class Slow:
    """A model that answers with the number that it has, and says how large its batches were."""

    classes, key = ("a",), "k"

    def __init__(self, number: float, go: threading.Event) -> None:
        self.number, self.go = number, go
        self.batches: list[int] = []

    def answer(self, prepared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.go.wait(10)
        self.batches.append(len(prepared))
        if np.isnan(prepared).any():
            raise ValueError("no number")
        return prepared * 0 + self.number, prepared


def images(count: int, value: float = 1) -> np.ndarray:
    return np.full((count, 1), value, np.float32)


def test_who_comes_while_a_batch_is_computed_is_in_the_next() -> None:
    go = threading.Event()
    old, new = Slow(1, go), Slow(2, go)
    batcher = Batcher(4, 0, 100)
    asked: list[tuple[float, int, Future[Any]]] = []

    def submit(model: Any, count: int) -> None:
        asked.append((model.number, count, batcher.submit(model, images(count))))

    submit(old, 1)
    time.sleep(0.1)
    for model, count in ((old, 2), (old, 1), (new, 1), (old, 9), (new, 3)):
        submit(model, count)
    go.set()
    for number, count, future in asked:
        probabilities, features = future.result(10)
        assert probabilities.tolist() == [[number]] * count and len(features) == count
    assert old.batches == [1, 3, 4, 4, 1] and new.batches == [4]
    batcher.close()
    with pytest.raises(Full, match="the server ends"):
        batcher.submit(old, images(1))  # type: ignore[arg-type]


def test_room_is_bounded_and_a_failure_is_of_its_batch_alone() -> None:
    go = threading.Event()
    model: Any = Slow(1, go)
    batcher = Batcher(2, 0, 3)
    first = batcher.submit(model, images(1))
    time.sleep(0.1)
    second = batcher.submit(model, images(2, float("nan")))
    given_up = batcher.submit(model, images(1))
    with pytest.raises(Full, match="too many images wait"):
        batcher.submit(model, images(1))
    assert given_up.cancel()
    go.set()
    assert len(first.result(10)[0]) == 1
    with pytest.raises(ValueError, match="no number"):
        second.result(10)
    assert len(batcher.submit(model, images(2)).result(10)[0]) == 2
    batcher.close()


def test_a_batch_waits_for_those_that_are_being_decoded() -> None:
    go = threading.Event()
    go.set()
    model: Any = Slow(1, go)
    batcher = Batcher(8, 5_000, 100)
    batcher.expect(2)
    with ThreadPoolExecutor(1) as pool:
        first = batcher.submit(model, images(1))
        batcher.expect(-1)
        time.sleep(0.1)
        assert not first.done()
        second = pool.submit(batcher.submit, model, images(1)).result()
        batcher.expect(-1)
        assert len(first.result(4)[0]) == len(second.result(4)[0]) == 1
    assert model.batches == [2]
    batcher.close()


def test_without_fastapi_it_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys\nsys.modules['fastapi'] = None\nfrom kaizen import cli\nsys.exit(cli.main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 2 and "pip install 'kaizen-ssl[serve]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert issubclass(Full, KaizenError)
