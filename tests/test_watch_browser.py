"""`kaizen watch --browser`: who may ask its server, what it says, and what a browser shows."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import Browser
from conftest import REPOSITORY
from project import make_project
from test_watch import JOBS, STEPS, finish, report

from kaizen.errors import KaizenError
from kaizen.jobs.grid import Grid
from kaizen.jobs.grid_server import GridServer
from kaizen.jobs.grid_state import MOST_POINTS, States, curves
from kaizen.jobs.times import Sample, Times, workload_of
from kaizen.store.store import Store
from kaizen.training.terms import TERMS
from kaizen.training.traces import Row

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def server() -> Iterator[GridServer]:
    """A server of a state that stays the same."""
    with GridServer(lambda: {"name": "x"}, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: GridServer, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=30)  # type: ignore[arg-type]
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


# -- who may ask --------------------------------------------------------------------------------


def test_it_answers_at_the_address_that_it_says_and_nowhere_else(server: GridServer) -> None:
    assert server.url.startswith("http://127.0.0.1:") and len(server.token) >= 24
    home = f"/{server.token}/"
    status, headers, body = ask(server, home)
    assert status == 200 and body.startswith(b"<!doctype html>")
    for name in ("page.css", "watch.css", "watch.js", "state", "state?x"):
        assert ask(server, home + name)[0] == 200, name
    assert json.loads(ask(server, f"{home}state")[2]) == {"name": "x"}
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"
    for path in ("/", "/state", "//state", f"/{server.token[:-1]}x/", f"{home}../x", f"{home}x"):
        status, headers, body = ask(server, path)
        assert status == 404 and b"error" in body, path
        assert "Access-Control-Allow-Origin" not in headers
    assert ask(server, "*")[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(server, f"{home}state", method)[0] == 501


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:8001", 200),
        ("[::1]:80", 200),
        ("evil.example", 421),
        ("evil.example:80", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1@evil.example", 421),
        ("[", 421),
        ("", 421),
    ],
)
def test_another_name_that_leads_here_is_refused(
    server: GridServer, host: str, status: int
) -> None:
    assert ask(server, f"/{server.token}/state", Host=host)[0] == status


def test_others_of_the_network_cannot_reach_it(server: GridServer) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_what_is_no_request_does_not_end_it(server: GridServer) -> None:
    with socket.create_connection(server.server_address[:2]) as other:  # type: ignore[arg-type]
        other.sendall(b"\x00\xff\r\n\r\n")
    assert ask(server, f"/{server.token}/state")[0] == 200


def test_what_goes_wrong_in_looking_is_said_to_the_page() -> None:
    def look() -> dict[str, Any]:
        raise KaizenError("the store is gone")

    with GridServer(look, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        status, _, body = ask(server, f"/{server.token}/state")
        server.shutdown()
        thread.join()
    assert status == 500 and json.loads(body) == {"error": "the store is gone"}


def test_a_port_that_is_taken_is_named(server: GridServer, tmp_path: Path) -> None:
    port = str(server.server_address[1])
    project = make_project(tmp_path / "p")
    said = project.kaizen("watch", "--browser", "--port", port)
    assert said.code == 2 and f"--port {port}: Address already in use" in said.output
    for options, what in (
        (("--port", "1"), "--port goes with --browser"),
        (("--open",), "--open goes with --browser"),
        (("--browser", "--port", "70000"), "is not a port"),
        (("--browser", "--once"), "not allowed with"),
    ):
        said = project.kaizen("watch", *options)
        assert said.code == 2 and what in said.output


# -- what it says -------------------------------------------------------------------------------


def test_the_state_has_what_runs_waits_failed_and_ended(tmp_path: Path) -> None:
    store = Store(tmp_path)
    states = States(Grid(JOBS, store, at_once=1), "a\x1bname")
    finish(store, JOBS[0])
    with store.lock(STEPS[0].id, title=STEPS[0].title):
        report(store, STEPS[0], 4)
        first = states.look()
    assert first["name"] == "a\N{REPLACEMENT CHARACTER}name"
    (running,) = first["running"]
    assert running["title"] == STEPS[0].title and "process" in running["where"]
    assert (running["done"], running["total"], running["what"]) == (4, 30, "epoch")
    assert running["left"].endswith("left") or running["left"] == "ends soon"
    assert running["curves"]["epoch"] == [1, 2, 3, 4]
    assert running["curves"]["values"]["L"] == [4.0, 3.0, 2.0, 1.0]
    assert first["waiting_count"] == len(first["waiting"]) == len(JOBS) - 2
    assert {"ready", "needs 1 other"} <= {one["state"] for one in first["waiting"]}
    # By the one under way other steps are estimated; its own epochs say more than a range.
    assert any(one["takes"] for one in first["waiting"]) and running["range"] == ""
    kinds = {one["kind"]: one for one in first["kinds"]}
    assert kinds["step"]["running"] == 1 and kinds["shards"]["done"] == 1
    finish(store, STEPS[0])
    report(store, STEPS[1], 2).failed(RuntimeError("no\x1b[2J"))
    second = states.look()
    (ended,) = second["ended"]
    assert ended["title"] == STEPS[0].title and ended["curves"]["epoch"] == [1, 2, 3, 4]
    (failed,) = second["failed"]
    assert (
        failed["reason"] == "no\N{REPLACEMENT CHARACTER}[2J" and failed["title"] == STEPS[1].title
    )
    counted = sum(number for one in second["kinds"] for number in map(one.get, WORDS) if number)
    assert counted == second["total"] == len(JOBS)
    json.dumps(second, allow_nan=False)


def test_nodes_that_wait_and_are_ready_come_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finish(store, JOBS[0])
    # In this order too a node stands behind those that it needs.
    ready = [job for job in JOBS[1:] if {*job.inputs.values()} <= {JOBS[0].id}]
    chain = [job for job in JOBS[1:] if job not in ready[1:]]
    waiting = States(Grid([JOBS[0], *chain, *ready[1:]], store), "x").look()["waiting"]
    titles = [one["title"] for one in waiting]
    assert titles[: len(ready)] == [job.title for job in ready] and len(ready) > 1
    assert titles[len(ready) :] == [job.title for job in chain[1:]]
    assert [one["state"] == "ready" for one in waiting] == [True] * len(ready) + [False] * (
        len(chain) - 1
    )


WORDS = ("done", "running", "waiting", "failed", "blocked")


def test_what_ended_between_two_looks_is_there_with_its_history(tmp_path: Path) -> None:
    store = Store(tmp_path)
    states = States(Grid(JOBS, store), "x")
    assert states.look()["ended"] == []
    finish(store, JOBS[0], STEPS[0])
    terms = {name: [0.5, 0.25] for name in ("L", *TERMS)}
    table = pa.table({"epoch": [0, 1], "lr": [0.1, 0.2], **terms})
    path = store.folder(STEPS[0].id) / "history.parquet"
    path.unlink(missing_ok=True)
    pq.write_table(table, path)
    first, second = states.look()["ended"]
    assert (second["title"], second["curves"]) == (JOBS[0].title, {})
    assert first["curves"]["epoch"] == [1, 2] and first["curves"]["epochs"] == 2
    assert first["curves"]["values"]["L"] == [0.5, 0.25]
    # What is no history of ours is none.
    finish(store, STEPS[1])
    (store.folder(STEPS[1].id) / "history.parquet").write_bytes(b"PAR1")
    assert states.look()["ended"][0]["curves"] == {}


def test_a_node_without_epochs_has_the_range_of_its_estimate(tmp_path: Path) -> None:
    store = Store(tmp_path)
    grid = Grid(JOBS, store, at_once=1)
    states, work = States(grid, "x"), workload_of(STEPS[0], None)

    def step() -> tuple[Any, Any]:
        """How far estimates of steps are off, and what is said of one that waits."""
        state = states.look()
        error = next(one["error"] for one in state["kinds"] if one["kind"] == "step")
        return error, next(w["takes"] for w in state["waiting"] if w["title"] == STEPS[0].title)

    # One whose estimate was off by 160 times says nothing of the next.
    grid.times.add(Sample(work, 0.0, 600.0, 0.0))
    grid.times.add(Sample(work, 0.0, 600.0 * 160, 600.0))
    assert grid.times.error(STEPS[0].id.kind) == pytest.approx(159.0)
    assert step() == (None, "13.4 h")
    grid.times = Times()
    for began, seconds in ((0.0, 600.0), (600.0, 600.0), (1200.0, 600.0)):
        grid.times.add(Sample(work, 0.0, seconds, began))
    assert step() == (None, "10 min")
    grid.times.add(Sample(work, 0.0, 1200.0, 1800.0))
    assert grid.times.error(STEPS[0].id.kind) == pytest.approx(1.0)
    with store.lock(STEPS[0].id, title=STEPS[0].title):
        (running,) = states.look()["running"]
    assert running["left"] == "10:00 left" and running["range"] == " (5 min to 20 min)"
    steps = [one["takes"] for one in states.look()["waiting"] if one["title"] == STEPS[0].title]
    assert steps == ["10 min (5 min to 20 min)"]
    assert step() == (pytest.approx(1.0), steps[0])


def test_a_curve_of_many_epochs_has_few_points_and_the_last() -> None:
    rows = [Row(n, 5000, 0, 0, 1e9, 0.1, {"L": n}, accuracy=0.5) for n in range(1, 5000)]
    found = curves(rows)
    assert len(found["epoch"]) <= MOST_POINTS + 1 and found["epoch"][-1] == 4999
    assert found["epoch"][:2] == [1, 14] and found["epochs"] == 5000
    assert list(found["values"]) == ["L", "accuracy", "images/s", "learning rate"]
    assert curves([]) == {}


# -- what a browser shows -----------------------------------------------------------------------


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C reaches what is started, also where these tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_browser_shows_a_step_as_it_trains(tmp_path: Path, heard: None) -> None:
    """A real experiment, made by a process that knows nothing of the page."""
    changes = {
        "grid.variants": ["no_distill"],
        "train.epochs": 300,
        "runtime.live_accuracy": 20,
    }
    project = make_project(tmp_path / "<b>flowers", changes)
    environment = project.environment() | {"PYTHONPATH": str(REPOSITORY)}

    def started(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "kaizen", *arguments],
            cwd=project.root,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    with Browser(tmp_path / "browser") as page, started("watch", "--browser") as watch:
        assert watch.stdout is not None
        try:
            url = watch.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            page.open(url)
            page.wait("document.documentElement.dataset.ready !== undefined")
            assert page.js("document.getElementById('counts').textContent") == (
                "0 of 6 nodes done, 0 running, 6 waiting"
            )
            assert page.js("document.querySelector('h1').textContent") == "<b>flowers"
            with started("run") as run:
                look_at_a_step(page)
                # It goes through to the end, though nobody reloads it.
                page.wait("document.title.startsWith('done')", 240)
                assert run.stdout is not None and "results/report.html" in run.stdout.read()
                assert run.wait(60) == 0
            assert "Nothing is left" in page.js("document.getElementById('left').textContent")
            # Of a step that has ended the curve has all epochs.
            ended = page.js(
                "[...document.querySelectorAll('#ended .curve:not([hidden])')].map((one) => "
                "one.getAttribute('aria-valuetext'))"
            )
            assert len(ended) == 2 and all("epoch 300 of 300" in one for one in ended)
            assert page.errors == []
            assert {one.rpartition("/")[0] + "/" for one in page.requests} == {url}
            watch.send_signal(signal.SIGINT)
            assert watch.wait(30) == 0 and "Traceback" not in watch.stdout.read()
            page.wait("!document.getElementById('gone').hidden", 30)
            assert "The server has ended" in page.js("document.getElementById('gone').textContent")
        finally:
            watch.kill()


def look_at_a_step(page: Browser) -> None:
    """A curve before its step has ended: what it says, by the keyboard, in both themes."""
    page.wait(
        "Number(document.querySelector('#cards .curve path')?.closest('.curve').ariaValueNow) > 4",
        120,
    )
    # The page stands still for the rest.
    page.press("p", "KeyP", 80, "p")
    page.wait("document.getElementById('pause').textContent === 'Go on'")
    facts = page.js("document.querySelector('#cards .card').innerText")
    assert "of 300" in facts and "images/s" in facts and "process" in facts
    assert page.js("document.querySelectorAll('#cards .curve').length") >= 1
    options = page.js("[...document.getElementById('curve').options].map((one) => one.value)")
    assert options[0] == "L" and {"L_FE_CT", "accuracy", "images/s", "learning rate"} <= set(
        options
    )
    page.js("document.querySelector('#cards .curve').focus()")
    page.press("Home", "Home", 36)
    page.press("ArrowRight", "ArrowRight", 39)
    value = "document.activeElement.getAttribute('aria-valuetext')"
    assert page.js(value).startswith("epoch 2 of 300: L ")
    assert ("slider", page.js("document.activeElement.ariaLabel")) in page.accessible()
    choose(page, "accuracy")
    assert page.js(value).startswith("epoch 2 of 300: accuracy ") and "%" in page.js(value)
    colour = "getComputedStyle(document.body).backgroundColor"
    page.send(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    assert page.js(colour) == "rgb(20, 23, 27)"
    page.js("document.getElementById('theme').click()")
    assert page.js(colour) == "rgb(255, 255, 255)"
    choose(page, "L")
    page.js("document.activeElement.blur()")
    page.press("p", "KeyP", 80, "p")
    page.wait("document.getElementById('pause').textContent === 'Pause'")
    assert page.js("document.documentElement.scrollWidth <= innerWidth")


def choose(page: Browser, curve: str) -> None:
    page.js(
        f"document.getElementById('curve').value = '{curve}';"
        "document.getElementById('curve').dispatchEvent(new Event('change'))"
    )
