"""A replay memory that rounds to nothing is refused, by the plan where it knows the counts."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from conftest import FACTS, make_params
from project import make_project

from kaizen.data.replay.base import ReplayStream, Size, Task, choose_by_group
from kaizen.data.replay.counts import classes_without_replay, replay_count, task_counts
from kaizen.data.replay.reservoir import choose as reservoir
from kaizen.data.sources import open_source
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams, LabelsParams, SplitParams
from kaizen.plan.build import build_plan
from kaizen.plan.nodes import DatasetFacts

TEN = (10,) * 10


def facts(counts: tuple[int, ...] = TEN, unlabelled: int = 0) -> DatasetFacts:
    return DatasetFacts(
        FACTS.classes,
        FACTS.train,
        FACTS.test,
        unlabelled="checksum" * (unlabelled > 0),
        unlabelled_images=unlabelled,
        train_counts=counts,
    )


def test_images_without_a_class_count_in_the_tasks_that_hold_them() -> None:
    params = make_params({"replay.policy": "reservoir", "replay.proportion": [0.04]})
    for unlabelled in (0, 20):
        with pytest.raises(KaizenError, match="comes to no image at step 1"):
            build_plan(params, facts(TEN, unlabelled), lambda modules, packages: "code")
    # 20 images of classes and 5 others in the first of 5 tasks: one of 25 is 4 %.
    build_plan(params, facts(TEN, 25), lambda modules, packages: "code")


def plan(changes: dict[str, Any], counts: tuple[int, ...] = TEN) -> None:
    build_plan(make_params(changes), facts(counts), lambda modules, packages: "code")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replay.proportion": [0.05]}, ["replay.proportion: 5 %", "at step 1", "variant kaizen"]),
        ({"replay.proportion": [0.1, 0.05]}, ["replay.proportion: 5 %"]),
        ({"replay.proportion": None, "replay.memory": [1]}, ["replay.memory: 1 images", "step 1"]),
        # 8 of 2 classes a task: 8 // t // 2 is 1 up to step 4; 7 are none at step 4.
        ({"replay.proportion": None, "replay.memory": [7]}, ["replay.memory: 7", "at step 4"]),
        # Two parts of each class share one image.
        (
            {"split.by": "data", "replay.proportion": None, "replay.per_class": [1]},
            ["replay.per_class: 1", "at step 2"],
        ),
        ({"split.by": "data", "replay.proportion": [0.4]}, ["replay.proportion: 40 %"]),
        ({"replay.policy": "reservoir", "replay.proportion": [0.04]}, ["4 %", "at step 1"]),
    ],
)
def test_the_plan_refuses_a_size_that_comes_to_nothing(
    changes: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(KaizenError) as error:
        plan(changes)
    message = str(error.value)
    assert all(word in message for word in words) and "raise it" in message, message


@pytest.mark.parametrize(
    "changes",
    [
        {"replay.proportion": [0.1]},
        {"replay.proportion": [0.0]},
        {"replay.proportion": None, "replay.memory": [8]},
        {"replay.proportion": [0.05], "grid.variants": ["cassle", "kaizen_no_replay"]},
        {"split.by": "data", "replay.proportion": [0.5]},
        {"replay.policy": "reservoir", "replay.proportion": [0.05]},
        # Of the unlabelled half of 20 images a tenth is left, though of no class's five.
        {"labels.fraction": 0.5, "replay.proportion": [0.1]},
    ],
)
def test_the_plan_takes_a_size_that_is_something(changes: dict[str, Any]) -> None:
    plan(changes)
    # One large class is enough, and what is not known is left to the job.
    plan({"replay.proportion": [0.05]}, (20,) * 10)
    plan({"replay.proportion": [0.05]}, ())


def test_the_counts_are_those_that_the_policies_choose() -> None:
    rng = np.random.default_rng(0)
    sizes = [
        *(Size("proportion", share) for share in (0.0, 0.05, 0.29, 0.5, 1.0)),
        *(Size("per_class", count) for count in (0, 1, 3, 50)),
        *(Size("memory", count) for count in (0, 1, 5, 17, 1000)),
    ]
    splits: tuple[Literal["class", "data"], ...] = ("class", "data")
    for size, by in itertools.product(sizes, splits):
        images = rng.integers(4, 30, 6).tolist()
        classes = [[0, 3], [1, 5], [2, 4]] if by == "class" else [list(range(6))] * 3
        split, labels = SplitParams(tasks=3, by=by), LabelsParams(fraction=0.6)
        counts = task_counts(by, classes, images, split, labels)
        if by == "data":
            assert sum(sum(task.values()) for task in counts) == sum(images)
        tasks = tuple(
            Task(
                number,
                tuple(classes[number]),
                np.concatenate([np.full(n, label) for label, n in task.items()]),
            )
            for number, task in enumerate(counts)
        )
        by_group = choose_by_group(ReplayStream(tasks), size, lambda g, count: g.rows[:count])
        assert replay_count("first_n", size, counts) == sum(map(len, by_group)), (size, by)
        held = [task.labels[rows] for task, rows in zip(tasks, by_group, strict=True)]
        lost = set(range(6)) - set(np.concatenate(held).tolist())
        assert classes_without_replay("first_n", size, counts) == sorted(lost), (size, by)
        chosen = reservoir(ReplayStream(tasks), size)
        assert replay_count("reservoir", size, counts) == sum(map(len, chosen)), (size, by)


@pytest.mark.parametrize("source", ["digits", "synthetic"])
def test_sources_tell_their_counts_without_reading(source: str) -> None:
    opened = open_source(DatasetParams(source=source, test_fraction=0.3))
    labels = [row.label for row in opened.rows("train")]
    counts = {(label, 0): int(count) for label, count in enumerate(np.bincount(labels))}
    assert opened.train_counts() == counts


def test_check_and_run_refuse_before_anything_is_made(tmp_path: Path) -> None:
    """12 images of a class: 5 % is none."""
    project = make_project(tmp_path / "project", {"replay.proportion": [0.05]})
    for command in ("check", "plan", "run"):
        outcome = project.kaizen(command)
        assert outcome.code == 2, outcome.output
        assert "replay.proportion: 5 % of the earlier tasks comes to no image" in outcome.output
    assert not any(project.store.root.glob("shards/*"))


def test_where_the_plan_cannot_know_the_job_refuses_before_the_step(tmp_path: Path) -> None:
    """Skipped images leave fewer than were listed."""
    changes = {"replay.proportion": [0.09], "dataset.on_corrupt": "skip"}
    project = make_project(tmp_path / "project", changes)
    for path in sorted((tmp_path / "project" / "images" / "train").glob("*/0[0-2].png")):
        path.write_bytes(b"no image")
    outcome = project.kaizen("run")
    assert outcome.code == 2 and "replay.proportion: 9 %" in outcome.output, outcome.output
    assert "comes to no image at step 1" in outcome.output


def test_classes_that_lose_all_of_their_replay_are_named(tmp_path: Path) -> None:
    """By `kaizen check`, and by the log, card and report of what was trained."""
    changes = {
        "split": {"classes": [["ant", "bee"], ["cat"], ["dog"]]},
        "grid.variants": ["kaizen"],
        "replay.proportion": [0.1],
    }
    project = make_project(tmp_path / "project", changes)
    for path in sorted((project.images / "train" / "bee").iterdir())[9:]:
        path.unlink()
    lines = project.kaizen("check").good().splitlines()
    assert lines[1:] == [
        "replay.proportion: 10 % comes to no image of 'bee' from step 1 on (a share of each class "
        "is rounded down); raise it if they are to be replayed"
    ]
    output = project.kaizen("run").good()
    said = "no labelled image of 'bee' is replayed: the replay size comes to none of them"
    assert said in " ".join(output.split())
    (card,) = project.root.glob("results/summary/cards/*kaizen*.md")
    notes = [line for line in card.read_text().splitlines() if "'bee' is replayed" in line]
    assert [note.partition(",")[0] for note in notes] == ["- **Step 1", "- **Step 2"], notes
    project.set(
        {"replay.proportion": None, "replay.memory": [7], "replay.policy": "balanced_random"}
    )
    # 7 // 2 tasks // 2 classes.
    assert len(project.kaizen("check").good().splitlines()) == 1
    project.set({"replay.memory": [3]})
    assert project.kaizen("check").good().splitlines()[1:] == [
        "replay.memory: 3 images comes to no image of 'ant', 'bee' from step 2 on (it is divided "
        "over tasks and classes and rounded down); raise it if they are to be replayed"
    ]
    project.set({"labels.fraction": 0.5})
    assert "no labelled image of 'ant', 'bee'" in project.kaizen("check").good()
