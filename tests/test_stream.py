"""A stream that grows: its file, its labels, and what its plan depends on."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import fake_fingerprint, make_params
from project import Project, write_image
from stream_project import ARRIVALS, RAW, append, make_stream, write_arrival

from kaizen.data.arrivals import (
    STREAM_FILE,
    Arrival,
    ArrivalStream,
    ArrivedClass,
    class_names,
    labels_of,
    read_stream,
    write_stream,
)
from kaizen.errors import KaizenError
from kaizen.jobs.stream_lock import changing_stream
from kaizen.plan.build import build_plan
from kaizen.plan.nodes import DatasetFacts, Plan

SHA = "0123456789abcdef" * 4


def arrival(number: int, classes: dict[str, int], known: tuple[str, ...], **more: Any) -> Arrival:
    """A made-up arrival of 40 training and 10 test images a class."""
    labels = labels_of(known, list(classes))
    return Arrival(
        name=f"day-{number}",
        path=f"{RAW}/day-{number}",
        date="2026-01-31",
        classes=tuple(
            ArrivedClass(name, labels[name], 40, f"{number:032x}{place:032x}", 10, SHA)
            for place, name in enumerate(sorted(classes))
        ),
        test_fraction=0.2,
        seed=0,
        **more,
    )


def made_up(count: int, per_arrival: int = 2) -> tuple[Arrival, ...]:
    """Arrivals that each bring new classes, whose names sort before the earlier ones'."""
    found: tuple[Arrival, ...] = ()
    for number in range(count):
        names = {f"class {1000 - per_arrival * number - i}": 40 for i in range(per_arrival)}
        found = (*found, arrival(number, names, class_names(found)))
    return found


def plan_of(arrivals: tuple[Arrival, ...], changes: dict[str, Any] | None = None) -> Plan:
    """The plan of a stream, for made-up code."""
    params = make_params({"dataset.source": "stream", "dataset.path": RAW, **(changes or {})})
    facts = DatasetFacts(class_names(arrivals), (), (), arrivals=arrivals)
    return build_plan(params, facts, fake_fingerprint)


def kinds(plan: Plan, other: Plan) -> dict[str, int]:
    """The nodes of ``plan`` that ``other`` does not have, by kind."""
    return dict(Counter(str(n.kind) for key, n in plan.nodes.items() if key not in other.nodes))


# -- data/stream.yaml --------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    odd = {name: 40 for name in ('"quoted"', "no", "1e5", "010", "null", "é: #x", "~")}
    first = arrival(0, odd, ())
    second = dataclasses.replace(
        arrival(1, {"no": 40, "new": 40}, class_names((first,))),
        unlabelled=7,
        unlabelled_sha256=SHA,
        test_fraction=None,
        seed=None,
        retired=2,
    )
    stream = ArrivalStream(RAW, (first, second))
    write_stream(tmp_path, stream)
    assert read_stream(tmp_path) == stream
    assert yaml.safe_load((tmp_path / STREAM_FILE).read_text())["arrivals"][0]["name"] == "day-0"
    assert read_stream(tmp_path / "elsewhere") is None


def test_a_label_is_the_place_in_the_order_of_arrival() -> None:
    arrivals = made_up(2)
    assert class_names(arrivals) == ("class 1000", "class 999", "class 997", "class 998")
    assert [[c.name for c in a.classes] for a in arrivals] == [
        ["class 1000", "class 999"],
        ["class 997", "class 998"],
    ]
    assert [[c.label for c in a.classes] for a in arrivals] == [[0, 1], [2, 3]]
    back = labels_of(class_names(arrivals), ["class 998", "abc", "class 999", "xyz"])
    assert back == {"class 998": 3, "abc": 4, "class 999": 1, "xyz": 5}


def removed_from_the_middle(values: dict[str, Any]) -> None:
    del values["arrivals"][1]


def swapped(values: dict[str, Any]) -> None:
    values["arrivals"][1:3] = reversed(values["arrivals"][1:3])


def named_twice(values: dict[str, Any]) -> None:
    values["arrivals"][2]["name"] = "day-0"


def set_in(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        *parents, last = place.split(".")
        found: Any = values
        for parent in parents:
            found = found[int(parent) if parent.isdecimal() else parent]
        found[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (removed_from_the_middle, "has label 4, but would be the stream's 2: an arrival before it"),
        (swapped, "has label 4, but would be the stream's 2"),
        (named_twice, r"arrivals.2 (day-0): an arrival of this name"),
        (set_in("version", 2), "version must be 1"),
        (set_in("arrivals.0.more", 1), "arrivals.0.more is unknown"),
        (set_in("arrivals.0.path", "a\x1b[2Jb"), "cannot be printed"),
        (set_in("arrivals.0.name", "../x"), "cannot be a folder's"),
        (set_in("arrivals.0.name", ".."), "cannot be a folder's"),
        (set_in("arrivals.0.date", "today"), "2026-01-31"),
        (set_in("arrivals.0.classes.0.train_sha256", "abc"), "no SHA-256"),
        (set_in("arrivals.0.classes.0.train", 0), "no training image"),
        (set_in("arrivals.0.classes.0.train", -1), "below 0"),
        (set_in("arrivals.0.classes.0.test", 0), "do not go together"),
        (set_in("arrivals.0.classes.0.label", "0"), "must be an integer"),
        (set_in("arrivals.0.unlabelled", 3), "do not go together"),
        (set_in("arrivals.0.seed", None), "do not go together"),
        (set_in("arrivals.0.test_fraction", 1.5), "below 1"),
        (set_in("arrivals.1.retired", 1), "number of arrivals at the time"),
        (set_in("arrivals.1.retired", 9), "number of arrivals at the time"),
        (set_in("arrivals.0.classes", []), "it holds no image"),
    ],
)
def test_a_file_that_was_altered_is_refused_by_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    write_stream(tmp_path, ArrivalStream(RAW, made_up(3)))
    values = yaml.safe_load((tmp_path / STREAM_FILE).read_text())
    change(values)
    (tmp_path / STREAM_FILE).write_text(yaml.safe_dump(values))
    with pytest.raises(KaizenError, match=re.escape(message)) as error:
        read_stream(tmp_path)
    assert STREAM_FILE in str(error.value) and "git checkout" in str(error.value)


# -- the plan ----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["first_n", "balanced_random", "reservoir", "herding"])
def test_an_arrival_adds_one_job_of_each_kind(policy: str) -> None:
    changes = {"replay.policy": policy, "grid.variants": ["kaizen", "cassle"]}
    arrivals = made_up(6)
    plans = [plan_of(arrivals[:count], changes) for count in range(1, 7)]
    for before, after in itertools.pairwise(plans):
        expected = {"shards": 1, "replay": 1, "step": 2, "evaluation": 2, "summary": 1}
        assert kinds(after, before) == expected
        assert kinds(before, after) == {"summary": 1}, "what was made stays"
        assert after.references == ()


def test_the_papers_head_trains_all_steps_again() -> None:
    arrivals = made_up(3)
    fixed = {"model.classifier_head": "fixed"}
    made = kinds(plan_of(arrivals, fixed), plan_of(arrivals[:2], fixed))
    assert made["step"] == 7 and made["shards"] == 1


def test_specialists_only_where_asked_for() -> None:
    arrivals = made_up(3)
    plan = plan_of(arrivals, {"grid.specialists": True})
    assert len(plan.references) == 1 and len(plan.references[0].steps) == 3


def test_nothing_knows_what_will_come() -> None:
    """A step's and a row's specification name the classes so far, and no others."""
    plan = plan_of(made_up(4))
    for run in plan.runs:
        for task, (step, row) in enumerate(zip(run.steps, run.evaluations, strict=True)):
            assert step.spec.num_classes == row.spec.num_classes == 2 * (task + 1)
            assert step.spec.logits is None, "logit i is that of label i"
            assert row.spec.tasks == [[2 * task, 2 * task + 1]]
            assert set(row.inputs) == {*(f"shards-{t:02d}" for t in range(task + 1))} | {
                f"step-{task:02d}"
            }
            assert row.spec.absent is None
            read = {f"{part}-{t:02d}" for t in range(task + 1) for part in ("train", "test")}
            assert {n for n in row.identities if not n.startswith("step")} == read
    for task, shards in enumerate(plan.shards):
        assert len(shards.spec.classes) == 2 * (task + 1) and shards.spec.task == task


def test_a_retired_task_changes_no_key_but_its_shards_and_the_summarys() -> None:
    arrivals = made_up(4)
    before = plan_of(arrivals)
    after = plan_of((arrivals[0], dataclasses.replace(arrivals[1], retired=4), *arrivals[2:]))
    assert kinds(after, before) == {"shards": 1, "summary": 1}
    grown = (*arrivals[:3], arrivals[3])
    grown = (grown[0], dataclasses.replace(grown[1], retired=3), *grown[2:])
    rows = [run.evaluations[3] for run in plan_of(grown).runs]
    assert all(row.spec.absent == [1] and "train-01" not in row.identities for row in rows)
    assert ["replay" in row.inputs for row in rows] == [True, False, False]


def test_two_hundred_arrivals_are_planned_in_linear_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: one node of each kind per arrival, whose shards are named once."""
    counted: Counter[int] = Counter()
    import kaizen.plan.data_nodes as data_nodes

    identity = data_nodes.DataNodes._identity
    size = 0

    def count(self: Any, task: int, part: Any) -> str:
        counted[size] += 1
        return identity(self, task, part)

    monkeypatch.setattr(data_nodes.DataNodes, "_identity", count)
    for size in (100, 200):
        plan = plan_of(made_up(size))
        per_kind = Counter(str(node.kind) for node in plan.nodes.values())
        assert per_kind == {
            "shards": size,
            "replay": size - 1,
            "step": 3 * size - 2,
            "evaluation": 3 * size - 2,
            "summary": 1,
        }
    assert counted[100] == 200 and counted[200] == 400


# -- appending ---------------------------------------------------------------------------------


def first(project: Project) -> Path:
    """The folder of the first arrival, which is appended already."""
    return project.root / RAW / "day-0"


def other_case(project: Project) -> str:
    write_arrival(project.root / RAW / "next", {"Cat": 4, "owl": 4}, 7)
    return "next"


def looks_alike(project: Project) -> str:
    write_arrival(project.root / RAW / "next", {"cat\u200b": 4, "owl": 4}, 7)
    return "next"


def empty(project: Project) -> str:
    (project.root / RAW / "next").mkdir()
    return "next"


def one_image(project: Project) -> str:
    write_arrival(project.root / RAW / "next", {"owl": 1}, 7)
    return "next"


def broken_images(project: Project) -> str:
    write_arrival(project.root / RAW / "next", {"owl": 4}, 7)
    for number in (1, 2):
        path = project.root / RAW / f"next/train/owl/{number:02d}.png"
        path.write_bytes(path.read_bytes()[:60])
    return "next"


def other_sizes(project: Project) -> str:
    write_arrival(project.root / RAW / "next", {"owl": 4}, 7)
    write_image(project.root / RAW / "next/train/owl/01.png", 3, (9, 9))
    return "next"


def same_again(project: Project) -> str:
    first(project).rename(project.root / RAW / "renamed")
    return "renamed"


def in_arrival(project: Project) -> str:
    write_arrival(first(project) / "more", {"owl": 4}, 7)
    return "day-0/more"


def around_arrival(project: Project) -> str:
    write_arrival(project.root / "elsewhere" / "far", {"owl": 4}, 7)
    project.kaizen("append", "elsewhere/far").good()
    return "elsewhere"


def link_to_arrival(project: Project) -> str:
    (project.root / RAW / "linked").symlink_to("day-0")
    return "linked"


def used_again(project: Project) -> list[str]:
    shutil.rmtree(first(project))
    write_arrival(first(project), {"owl": 4}, 7)
    return ["day-0", "--name", "next"]


def trained_on_test_images(project: Project) -> str:
    write_arrival(project.root / RAW / "next", {"owl": 4}, 7)
    shutil.copytree(project.root / RAW / "next/train", project.root / RAW / "next/test")
    return "next"


def edited_before(project: Project) -> str:
    write_arrival(project.root / RAW / "next", {"owl": 4}, 7)
    write_image(first(project) / "train/cat/00.png", 4711)
    return "next"


def other_stream(project: Project) -> str:
    write_arrival(project.root / "data/raw/birds/next", {"owl": 4}, 7)
    project.set({"dataset.path": "data/raw/birds"})
    return "next"


def same_name(project: Project) -> str:
    write_arrival(project.root / "elsewhere" / "Day-0", {"owl": 4}, 7)
    return "elsewhere/Day-0"


def in_results(project: Project) -> str:
    write_arrival(project.root / "results" / "models" / "next", {"owl": 4}, 7)
    return "results/models/next"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda project: "day-0", "arrival 0 already"),
        (lambda project: "nowhere", "is no folder"),
        (lambda project: ["day-0", "--name", ".."], "--name '..': a name"),
        (lambda project: ".", "lie in each other"),
        (lambda project: RAW, "animals holds"),
        (lambda project: "data/raw", "holds"),
        (in_arrival, "day-0/more and the folder of arrival 'day-0' (data/raw/animals/day-0) lie"),
        (around_arrival, "elsewhere and the folder of arrival 'far'"),
        (link_to_arrival, "linked is the folder of arrival 'day-0' already"),
        (used_again, "day-0 is the folder of arrival 'day-0' already"),
        (same_again, "holds the images of arrival 'day-0'"),
        (same_name, "'Day-0' is the name of arrival 0"),
        (other_case, "class 'Cat' differs from 'cat', which arrived before, in the case"),
        (looks_alike, "looks like 'cat'"),
        (empty, "next"),
        (one_image, "has 1 training image,"),
        (broken_images, "2 of 4 images cannot be read: train/owl/"),
        (trained_on_test_images, "are training images too"),
        (edited_before, "images of arrival 'day-0' (class 'cat') are not those"),
        (other_stream, "data/raw/birds is not the folder of the stream"),
        (other_sizes, "image.load_size: null, but images differ in size"),
        (in_results, "lie in each other"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_changes_nothing(
    tmp_path: Path, change: Callable[[Project], str | list[str]], message: str
) -> None:
    project = make_stream(tmp_path / "project", arrivals=ARRIVALS[:1])
    append(project, 0)
    given = change(project)
    before = (project.root / STREAM_FILE).read_bytes()
    outcome = project.kaizen("append", *([given] if isinstance(given, str) else given))
    assert outcome.code == 2 and message in outcome.output, outcome.output
    assert "Traceback" not in outcome.output
    assert (project.root / STREAM_FILE).read_bytes() == before
    assert not project.nodes()


def test_a_stream_begins_with_a_class(tmp_path: Path) -> None:
    project = make_stream(tmp_path / "project", arrivals=({"": 10},))
    outcome = project.kaizen("append", "day-0")
    assert outcome.code == 2 and "the first arrival needs a class" in outcome.output
    for command in ("plan", "check", "run"):
        outcome = project.kaizen(command)
        assert (
            outcome.code == 2 and "names no arrival yet; `kaizen append FOLDER`" in outcome.output
        )
    project.set({"dataset.source": "image_folder"})
    outcome = project.kaizen("append", "day-0")
    assert outcome.code == 2 and "is no stream that grows" in outcome.output
    outcome = project.kaizen("retire", "day-0")
    assert outcome.code == 2 and "image_folder is no stream that grows" in outcome.output


def test_of_two_appends_at_once_none_is_lost(tmp_path: Path) -> None:
    project = make_stream(tmp_path / "project", arrivals=ARRIVALS[:2])
    append(project, 0)
    with changing_stream(project.root):
        waiting = subprocess.Popen(
            [sys.executable, "-m", "kaizen", "append", "day-1"],
            cwd=project.root,
            env=project.environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert waiting.stderr is not None
        assert f"changing {STREAM_FILE}" in waiting.stderr.readline()
        stream = read_stream(project.root)
        assert stream is not None
        other = dataclasses.replace(made_up(3)[2], classes=(), unlabelled=3, unlabelled_sha256=SHA)
        write_stream(project.root, dataclasses.replace(stream, arrivals=(*stream.arrivals, other)))
    waiting.communicate(timeout=100)
    assert waiting.returncode == 0
    stream = read_stream(project.root)
    assert stream is not None and [each.name for each in stream.arrivals] == [
        "day-0",
        other.name,
        "day-1",
    ]


def test_append_tells_what_arrived_and_what_will_run(tmp_path: Path) -> None:
    project = make_stream(tmp_path / "project")
    told = append(project, 0)
    assert "task 0, day-0: new classes: 'cat', 'dog'; 16 labelled training images; 4 test" in told
    assert "held out: 20 % of each class, seed 0" in told and STREAM_FILE in told
    assert "20 images: RGB, 8 x 8 px" in told and "-> 8 x 8 RGB" in told
    assert "to run: 1 shards, 1 step, 1 evaluation, 1 summary" in told
    append(project, 1)
    assert "classes that came back: 'cat'" in append(project, 2)
    told = append(project, 3)
    assert "0 labelled training images; 16 unlabelled ones; 0 test" in told
    assert "held out" not in told
    stream = read_stream(project.root)
    assert stream is not None and stream.classes == ("cat", "dog", "ant", "bee", "ape")
    assert [each.labels for each in stream.arrivals] == [[0, 1], [2, 3], [0, 4], []]


def test_check_says_what_waits_to_be_appended(tmp_path: Path) -> None:
    project = make_stream(tmp_path / "project", arrivals=ARRIVALS[:3])
    append(project, 0)
    printed = project.kaizen("check").good()
    assert "the stream has 1 arrival; of the newest that is still there:\n20 images" in printed
    assert "held out for testing: 20 % of every class, seed 0\n" in printed
    for number in (1, 2):
        line = f"day-{number} is not in the stream yet: `kaizen append day-{number}`"
        assert line in printed
    append(project, 1)
    assert "day-1 is not" not in project.kaizen("check").good()


@pytest.mark.parametrize("left", ["an empty folder", "folders", "a list", "a link to nowhere"])
def test_a_folder_without_images_is_gone(tmp_path: Path, left: str) -> None:
    """Nothing is mounted there, or the images alone were deleted."""
    project = make_stream(tmp_path / "project", arrivals=ARRIVALS[:2])
    append(project, 0)
    append(project, 1)
    folder = project.root / RAW / "day-1"
    shutil.rmtree(folder)
    if left == "a link to nowhere":
        folder.symlink_to(tmp_path / "not mounted")
    else:
        (folder / "train" / "ant").mkdir(parents=True)
        if left == "a list":
            (folder / "labels.csv").write_text("path,label\ntrain/ant/00.png,ant\n")
        if left == "an empty folder":
            shutil.rmtree(folder / "train")
    project.kaizen("plan").good()
    assert "the stream has 2 arrivals; of the newest that" in project.kaizen("check").good()
    outcome = project.kaizen("run")
    assert outcome.code == 2 and "day-1 is gone, and its shards are neither" in outcome.output
    (project.root / RAW / "more").symlink_to(tmp_path / "not mounted")
    assert "not in the stream" not in project.kaizen("check").good()


def test_an_edited_arrival_is_found_and_named(tmp_path: Path) -> None:
    project = make_stream(tmp_path / "project", arrivals=ARRIVALS[:2])
    append(project, 0)
    append(project, 1)
    write_image(project.root / RAW / "day-1/train/bee/00.png", 4711)
    for command in ("plan", "check", "run"):
        outcome = project.kaizen(command)
        assert outcome.code == 2
        assert "images of arrival 'day-1' (class 'bee') are not those" in outcome.output
    for name in ("7", "owl"):
        write_image(project.root / RAW / f"day-0/train/{name}/00.png", 1)
        outcome = project.kaizen("plan")
        assert outcome.code == 2 and f"arrival 'day-0' (class '{name}') are not" in outcome.output
        shutil.rmtree(project.root / RAW / f"day-0/train/{name}")
    write_image(project.root / RAW / "day-0/unlabelled/00.png", 1)
    assert "'day-0' (unlabelled images) are not" in project.kaizen("plan").output
    shutil.rmtree(project.root / RAW / "day-0/unlabelled")
    (project.root / RAW / "day-1").rename(project.root / RAW / "moved")
    assert project.kaizen("plan").code == 0, "what is gone is no fault of the plan's"
    outcome = project.kaizen("run")
    assert outcome.code == 2 and "day-1 is gone, and its shards are neither" in outcome.output
    assert not project.nodes()
