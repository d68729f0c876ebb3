"""`kaizen serve --follow`: newer steps take over under load, poisoned ones do not, and no request
notices.
"""

from __future__ import annotations

import http.client
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from served import NAMES, Server, form, picture, png, write_classes, write_step

import kaizen
from kaizen.data.names import CHECKPOINT, CONFIG_FILE
from kaizen.errors import KaizenError
from kaizen.inference.answering import Answering
from kaizen.serving.check import Rules, check
from kaizen.serving.published import find_model
from kaizen.serving.served import Served

CLIENTS = 32


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("held-out") / "images")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with its first step, of three classes."""
    write_step(tmp_path / "run", 0, NAMES[:3])
    return tmp_path / "run"


def start(run: Path, held_out: Path, *arguments: str) -> Server:
    more = ("--follow", "--poll", "0.1", "--check", str(held_out), *arguments)
    return Server(run.parent / "log", str(run), *more)


def not_a_number(weights: dict[str, torch.Tensor]) -> None:
    weights["encoder.conv1.weight" if "encoder.conv1.weight" in weights else min(weights)].fill_(
        float("nan")
    )


def mixed_up(weights: dict[str, torch.Tensor]) -> None:
    """Each class has another's weights."""
    for name, tensor in weights.items():
        if name.startswith("classifier."):
            tensor.copy_(tensor.roll(1, dims=0))


class Clients:
    """Threads that ask and ask; what they were answered, by key, and what failed."""

    def __init__(self, server: Server, images: list[bytes]) -> None:
        self.server, self.images = server, images
        self.answers: list[tuple[str, list[int], Any]] = []
        self.failures: list[str] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=[n]) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, client: int) -> None:
        rng = np.random.default_rng(client)
        connection = self.server.connect()
        while not self._end.is_set():
            chosen = rng.integers(0, len(self.images), 1 + client % 3).tolist()
            body, kind = form([(str(n), self.images[n]) for n in chosen], top="100")
            try:
                connection.request("POST", "/predict", body, {"Content-Type": kind})
                response = connection.getresponse()
                data = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection = self.server.connect()
                continue
            if response.status != 200:
                self.failures.append(data.decode())
            else:
                answer = json.loads(data)
                self.answers.append((answer["model"]["key"], chosen, answer["answers"]))
        connection.close()


def shares(model: Answering, images: list[bytes]) -> list[dict[str, float]]:
    """What a model answers to each image, asked alone."""
    found = []
    for image in images:
        prepared = model.prepare_numpy(image)[None]
        found.append(dict(zip(model.classes, model.answer(prepared)[0][0].tolist(), strict=True)))
    return found


def test_steps_take_over_under_load_and_poisoned_ones_do_not(run: Path, held_out: Path) -> None:
    """32 clients, three swaps, four poisoned steps: no request fails, and each answer is that of
    exactly the model that it names.
    """
    images = [png(picture(name, seed)) for name in NAMES for seed in range(3)]
    models = {}

    def remember(place: Path) -> None:
        model = kaizen.load(place)
        models[model.key] = shares(model, images)

    remember(run / "step-00")
    with start(run, held_out) as server:
        clients = Clients(server, images)
        try:
            remember(write_step(run, 1, NAMES[:5]))
            server.wait_for("swaps", 1)
            write_step(run, 2, NAMES[:6], not_a_number)
            server.wait_for("refused", 1)
            # Half copied: the record is there, the weights are not all.
            whole = write_step(run.parent / "elsewhere", 2, NAMES[:6])
            remember(whole)
            shutil.rmtree(run / "step-02")
            shutil.copytree(whole, run / "step-02")
            weights = (whole / CHECKPOINT).read_bytes()
            (run / "step-02" / CHECKPOINT).write_bytes(weights[: len(weights) // 2])
            server.wait_for("refused", 2)
            (run / "step-02" / CHECKPOINT).write_bytes(weights)
            server.wait_for("swaps", 2)
            write_step(run, 3, NAMES[1:])
            server.wait_for("refused", 3)
            write_step(run, 3, NAMES, mixed_up)
            server.wait_for("refused", 4)
            remember(write_step(run, 3, NAMES))
            info = server.wait_for("swaps", 3)
        finally:
            clients.end()
        assert not clients.failures, clients.failures[:3]
        metrics = server.good("/metrics")
        said = server.said()
        assert server.end() == 0
    reasons = [refusal["why"] for refusal in info["refused"]]
    assert "not finite" in reasons[0]
    assert "bytes, not the recorded" in reasons[1]
    assert "does not know 'red' any more, which step-02 knows" in reasons[2]
    assert "held-out images of the classes that step-02 knows it is right in 0.0 %" in reasons[3]
    assert info["answers"]["name"] == "step-03" and info["earlier"]["name"] == "step-02"
    assert said.count(" is not taken, ") == 4 and said.count(" answers now in the place of ") == 3
    assert "Traceback" not in said
    for name, count in (("swaps", 3), ("refusals", 4)):
        assert f"kaizen_model_{name} {count}.0" in metrics
    assert f'kaizen_model_info{{key="{info["answers"]["key"]}",name="step-03"}} 1.0' in metrics
    assert len(clients.answers) > 200
    assert {key for key, _, _ in clients.answers} == set(models), "each of the four answered some"
    for key, chosen, answers in clients.answers:
        for number, answer in zip(chosen, answers, strict=True):
            found = {one["class"]: one["probability"] for one in answer["top"]}
            expected = models[key][number]
            assert found.keys() == expected.keys()
            assert found == pytest.approx(expected, abs=1e-4)
    # The test can tell the models apart by their numbers.
    numbers = [np.array([max(one.values()) for one in answered]) for answered in models.values()]
    for place, one in enumerate(numbers):
        for other in numbers[place + 1 :]:
            assert np.abs(one - other).max() > 1e-3


def test_started_again_beside_a_poisoned_step_it_answers_by_the_one_before(
    run: Path, held_out: Path
) -> None:
    write_step(run, 1, NAMES[:5], not_a_number)
    with start(run, held_out) as server:
        assert server.good("/healthz")["model"]["name"] == "step-00"
        info = server.wait_for("refused", 1)
        assert "not finite" in info["refused"][0]["why"]
        assert "step-01 cannot be served" in server.said()
        write_step(run, 2, NAMES[:5])
        assert server.wait_for("swaps", 1)["answers"]["name"] == "step-02"


def test_rolled_back_a_step_is_left_until_a_newer_one(run: Path, held_out: Path) -> None:
    first = kaizen.load(run / "step-00").key
    with start(run, held_out) as server:
        assert server.ask("/rollback", b"")[0] == 409
        write_step(run, 1, NAMES[:4])
        server.wait_for("swaps", 1)
        answer = server.good("/rollback", b"")
        assert answer["model"]["key"] == first and answer["rolled_back"] == "step-01"
        status, answer = server.ask("/rollback", b"")
        assert status == 409 and "no earlier model" in answer["error"]
        # Looked at several times, and left, though its card is written again.
        (run / "step-01" / "README.md").write_text("another card", encoding="utf-8")
        with pytest.raises(AssertionError, match="did not come to 2"):
            server.wait_for("swaps", 2, seconds=1)
        assert server.good("/healthz")["model"]["key"] == first
        assert "kaizen_model_rollbacks 1.0" in server.good("/metrics")
        write_step(run, 2, NAMES[:5])
        info = server.wait_for("swaps", 2)
        assert info["answers"]["name"] == "step-02" and info["rolled_back"] == ["step-01"]
        assert info["answers"]["check"] == {"images": 12, "before": 1.0, "after": 1.0}
        assert "rolled back: step-00 answers again in the place of step-01" in server.said()


def test_a_folder_that_is_copied_slowly_is_taken_when_it_is_whole(
    run: Path, held_out: Path
) -> None:
    whole = write_step(run.parent / "elsewhere", 1, NAMES[:4])
    with start(run, held_out) as server:
        copy = run / "step-01"
        copy.mkdir()
        for count, name in enumerate((CONFIG_FILE, CHECKPOINT, "preprocessor_config.json"), 1):
            shutil.copy(whole / name, copy / name)
            info = server.wait_for("refused", count)
            assert info["answers"]["name"] == "step-00"
        assert "node.json is not there, or not yet" in info["refused"][-1]["why"]
        shutil.copy(whole / "node.json", copy / "node.json")
        assert server.wait_for("swaps", 1)["answers"]["name"] == "step-01"


def test_the_same_model_published_again_is_no_other(run: Path, held_out: Path) -> None:
    """A publication links a step's files anew and writes its card again. Another model in its place
    is taken.
    """
    with start(run, held_out) as server:
        for name in (CHECKPOINT, CONFIG_FILE):
            copy = run / "step-00" / f".{name}"
            shutil.copy(run / "step-00" / name, copy)
            copy.replace(run / "step-00" / name)
        (run / "step-00" / "README.md").write_text("another card", encoding="utf-8")
        with pytest.raises(AssertionError, match="did not come to 1"):
            server.wait_for("swaps", 1, seconds=1)
        assert server.ask("/rollback", b"")[0] == 409
        other = kaizen.load(write_step(run, 0, NAMES[:4])).key
        assert server.wait_for("swaps", 1)["answers"]["key"] == other
        assert server.end() == 0


def test_it_ends_well_in_the_middle_of_a_load(run: Path, held_out: Path) -> None:
    """Whatever moment the signal comes at."""
    for number in (1, 2):
        with start(run, held_out) as server:
            write_step(run, number, NAMES[: 3 + number])
            time.sleep(0.2)
            assert server.end() == 0, server.said()
            assert "Traceback" not in server.said() and "terminate" not in server.said()


def test_a_lower_accuracy_is_a_matter_of_the_bound(run: Path, held_out: Path) -> None:
    new = kaizen.load(write_step(run, 1, NAMES[:4], mixed_up))
    old = Served(kaizen.load(run / "step-00"), find_model(run / "step-00"), "")
    with pytest.raises(KaizenError, match=r"right in 0.0 %, step-00 in 100.0 %: more than 40 poi"):
        check(new, old, Rules(places=(held_out,)), 4)
    facts = check(new, old, Rules(max_drop=1.0, places=(held_out,)), 4)
    assert facts == {"images": 12, "before": 1.0, "after": 0.0}
    # Without a project around it there is nothing to compare on, and it says so.
    assert "no held-out images" in check(new, old, Rules(), 4)["note"]


@pytest.mark.parametrize("fault", ["NaN", "shape", "sum"])
def test_what_answers_no_probabilities_is_refused(run: Path, fault: str) -> None:
    old = Served(kaizen.load(run / "step-00"), find_model(run / "step-00"), "")

    class Wrong:
        classes, key = old.model.classes, "k"
        prepare_numpy = old.model.prepare_numpy

        def answer(self, prepared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            probabilities, features = old.model.answer(prepared)
            changed = {
                "NaN": probabilities * np.float32("nan"),
                "shape": probabilities[:, :2],
                "sum": probabilities * np.float32(2),
            }
            return changed[fault], features

    wrong: Any = Wrong()
    said = {"NaN": "no number", "shape": "its 3 classes", "sum": "do not add up"}
    with pytest.raises(KaizenError, match=said[fault]):
        check(wrong, old, Rules(), 4)


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    """The clients and the server share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
