"""The loop: images given to the server with feedback become the stream's next arrival."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from project import Project
from served import NAMES, Server, form, picture, png, write_step
from stream_project import RAW, append, make_stream

from kaizen.data.sources.labels_file import read_labels
from kaizen.errors import KaizenError
from kaizen.serving.collection import Bounds, Collected, Collection, CollectionFull, class_name

# Nothing arrived of these images: noise of 8 x 8, as the stream's.
ARRIVALS = ({"cat": 10, "dog": 10},)


def noise(seed: int) -> bytes:
    return png(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8))


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection(tmp_path / "kept", Bounds(images=5, bytes=5000))


def stream(root: Path) -> Project:
    project = make_stream(root, {"grid.variants": ["kaizen"]}, ARRIVALS)
    append(project, 0)
    return project


def test_feedback_becomes_the_next_arrival(tmp_path: Path) -> None:
    """From requests to the plan: by image and by id, corrected twice, without a class; a class that
    is new, and one that came back.
    """
    project = stream(tmp_path / "project")
    kept = project.root / "kept"
    run = write_step(tmp_path / "run", 0, NAMES[:2])
    with Server(tmp_path / "log", str(run), "--collect", str(kept)) as server:
        assert 'data-collects="true"' in server.good("/")
        for seed in range(4):
            label = "cat" if seed % 2 else "yak"
            server.good("/feedback", *form([(f"{seed}.png", noise(seed))], label=label))
        answers = server.predict(*[noise(seed) for seed in range(4, 8)])[1]["answers"]
        for answer in answers:
            server.good("/feedback", json.dumps({"id": answer["id"], "label": "dog"}).encode())
        # A correction: the image is there once, with the class named last.
        server.good("/feedback", json.dumps({"id": answers[0]["id"], "label": " yak "}).encode())
        # Its class stays when it comes again without one.
        server.good("/feedback", *form([("again.png", noise(0))]))
        for seed in (20, 21, 22):
            found = server.good("/feedback", *form([("x.png", noise(seed))]))
            assert found["label"] is None
        info = server.good("/info")["collected"]
        assert info["classes"] == {"cat": 2, "dog": 3, "yak": 3} and info["unlabelled"] == 3
        assert "kaizen_feedback_total 13.0" in server.good("/metrics")
        shown = project.kaizen("feedback", "kept").good()
        assert "       2  cat\n       3  dog\n       3  yak\n       3  without a class\n" in shown
        assert "11 images, " in shown and "--to NAME" in shown
        output = project.kaizen("feedback", "kept", "--to", "given").good()
        assert "task 1, given: new classes: 'yak'; classes that came back: 'cat', 'dog'" in output
        assert "3 unlabelled ones" in output and "to run: " in output
        labels = read_labels(project.root / RAW / "given" / "labels.csv")
        assert len(labels) == 11 and sorted(set(labels.values())) == ["", "cat", "dog", "yak"]
        # The server goes on collecting, for the arrival after this one.
        server.good("/feedback", *form([("y.png", noise(30))], label="emu"))
        assert server.good("/info")["collected"]["classes"] == {"emu": 1}
    arrivals = yaml.safe_load((project.root / "data/stream.yaml").read_text())["arrivals"]
    assert [one["name"] for one in arrivals] == ["day-0", "given"]
    assert {one["name"]: one["train"] + one["test"] for one in arrivals[1]["classes"]} == {
        "cat": 2,
        "dog": 3,
        "yak": 3,
    }
    shards = [node for node in project.plan() if node["kind"] == "shards"]
    assert len(shards) == 2, "the plan has a task more"
    project.kaizen("run").good()
    config = project.root.glob("results/models/*/step-01/config.json")
    (names,) = [[one["name"] for one in json.loads(p.read_text())["classes"]] for p in config]
    assert names == ["cat", "dog", "yak"]


def test_an_arrival_that_is_refused_stays_collected(tmp_path: Path) -> None:
    project = stream(tmp_path / "project")
    collection = Collection(project.root / "kept", Bounds())
    before = (project.root / "data/stream.yaml").read_bytes()
    assert "holds no image yet" in project.kaizen("feedback", "kept", "--to", "a").bad()
    collection.add(noise(1), ".png", "cat", ())
    outcome = project.kaizen("feedback", "kept", "--to", "given")
    assert outcome.code == 2 and "has 1 training image" in outcome.output
    assert collection.collected() == Collected({"cat": 1}, 0, len(noise(1)))
    assert not (project.root / RAW / "given").exists()
    assert (project.root / "data/stream.yaml").read_bytes() == before
    for name in ("day-0", "../out", "", ".", "a/b", "unlabelled"):
        assert project.kaizen("feedback", "kept", "--to", name).code == 2, name
    assert project.kaizen("feedback", "nowhere").code == 2
    assert not (project.root / "nowhere").exists()
    assert collection.collected().images == 1
    project.set({"dataset.source": "image_folder", "dataset.path": "images"})
    assert "no stream that grows" in project.kaizen("feedback", "kept", "--to", "b").bad()


def test_an_arrival_of_which_nothing_can_be_planned_is_not_taken_back(tmp_path: Path) -> None:
    """A tenth of the earlier images is none: what the stream names lies where it says."""
    project = make_stream(
        tmp_path / "project",
        {"grid.variants": ["kaizen"], "replay.proportion": [0.01]},
        ARRIVALS,
    )
    append(project, 0)
    collection = Collection(project.root / "kept", Bounds())
    for seed in range(4):
        collection.add(noise(seed), ".png", "yak", ())
    outcome = project.kaizen("feedback", "kept", "--to", "given")
    assert outcome.code == 2 and "comes to no image at step 1" in outcome.output
    assert "given is in the stream all the same" in outcome.output
    assert collection.collected().images == 0
    assert len(read_labels(project.root / RAW / "given" / "labels.csv")) == 4
    project.set({"replay.proportion": [0.5]})
    assert len([node for node in project.plan() if node["kind"] == "shards"]) == 2


# Of these no class may have one.
BAD_NAMES = {
    "": "must have from 1",
    "x" * 201: "must have from 1",
    "ä" * 128: "must have from 1",
    "../etc": "no slashes",
    "a/b": "no slashes",
    "a\\b": "no slashes",
    "..": "no `.`",
    ".hidden": "no `.`",
    "=1+1": "no `.`, `=`",
    "a\nb": "no control",
    "a\u202eb": "invisible characters",
    "a\u200bb": "invisible characters",
    "unlabelled": "cannot be a class",
    "Unlabeled": "cannot be a class",
    "test": "part of a dataset",
    "CAT": "looks like 'cat'",
    "ｃａｔ": "looks like 'cat'",
}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_class_is_called_so(name: str, collection: Collection) -> None:
    with pytest.raises(KaizenError) as found:
        collection.add(noise(1), ".png", name, ["cat"])
    assert BAD_NAMES[name] in str(found.value)
    assert collection.collected().images == 0 and not (collection.folder / "next").exists()
    assert class_name(" New York ", ["cat"]) == "New York"


def test_names_that_others_gave_count_too(collection: Collection) -> None:
    collection.add(noise(1), ".png", "emu", ())
    with pytest.raises(KaizenError, match="looks like 'emu'"):
        collection.add(noise(2), ".png", "Emu", ())


def test_the_bounds_hold(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(5):
        collection.add(noise(seed), ".png", None, ())
    with pytest.raises(CollectionFull, match="5 images are collected, and no more are taken"):
        collection.add(noise(9), ".png", None, ())
    collection.add(noise(1), ".png", "cat", ())  # no more images than before
    small = Collection(collection.folder.with_name("small"), Bounds(bytes=600))
    for seed in (1, 2):
        small.add(noise(seed), ".png", None, ())
    with pytest.raises(CollectionFull, match="bytes are collected"):
        small.add(noise(3), ".png", None, ())
    monkeypatch.setattr("kaizen.serving.collection._MOST_NAMES", 1)
    with pytest.raises(CollectionFull, match="more than 1 classes"):
        collection.add(noise(2), ".png", "dog", ())


def test_a_full_collection_is_507_and_no_image_422(tmp_path: Path) -> None:
    run = write_step(tmp_path / "run", 0, NAMES[:2])
    kept = tmp_path / "kept"
    arguments = ("--collect", str(kept), "--collect-images", "1")
    with Server(tmp_path / "log", str(run), *arguments) as server:
        good = form([("a.png", png(picture("red")))], label="red")
        wrong = {
            422: [form([("a.png", b"no image")]), form([("a.png", noise(1))], label="..")],
            400: [
                form([]),
                form([("a.png", noise(1)), ("b.png", noise(2))]),
                form([("a.png", noise(1))], id="x"),
                (b'{"image": "", "label": 5}', "application/json"),
            ],
            404: [(b'{"id": "unknown"}', "application/json")],
        }
        for status, bodies in wrong.items():
            for body in bodies:
                found = server.ask("/feedback", *body)
                assert found[0] == status and list(found[1]) == ["error"], (body, found)
        assert not (kept / "next").exists()
        assert server.ask("/feedback", *good)[0] == 200
        status, answer = server.ask("/feedback", *form([("b.png", noise(3))]))
        assert status == 507 and "`kaizen feedback` hands them on" in answer["error"]
        assert "Traceback" not in server.said()


def test_what_a_killed_server_left_is_whole(collection: Collection) -> None:
    """An image that was written and not listed, and a listed one that is gone."""
    collection.add(noise(1), ".png", "cat", ())
    gone = collection.add(noise(2), ".png", "dog", ())
    (collection.next / gone).unlink()
    Image.open(collection.next / next(iter(read_labels(collection.next / "labels.csv")))).close()
    (collection.next / f"{'0' * 32}.png").write_bytes(noise(3))
    again = Collection(collection.folder, Bounds())
    assert again.collected() == Collected({"cat": 1}, 1, len(noise(1)) + len(noise(3)))


def test_several_processes_collect_at_once(tmp_path: Path) -> None:
    """Two collections of one folder, as of a server and a command, lose nothing."""
    ours = [Collection(tmp_path / "kept", Bounds()) for _ in range(2)]

    def add(seed: int) -> None:
        ours[seed % 2].add(noise(seed), ".png", "cat" if seed % 3 else None, ())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    size = sum(len(noise(seed)) for seed in range(40))
    for one in ours:
        assert one.collected() == Collected({"cat": 26}, 14, size)
    ours[0].hand_over(tmp_path / "arrived")
    assert ours[1].collected() == Collected({}, 0, 0)
    assert len(os.listdir(tmp_path / "arrived")) == 41
    ours[1].add(noise(1), ".png", None, ())
    assert not ours[0].take_back(tmp_path / "arrived"), "others were collected meanwhile"
    with pytest.raises(KaizenError, match="exists already"):
        ours[0].hand_over(tmp_path / "arrived")
