"""Which tasks and images a node depends on, however the stream is split."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from conftest import FACTS, make_plan
from plan_places import DOMAIN_FACTS, changed, matching, steps_of
from plan_table import BASE

from kaizen.errors import KaizenError


@pytest.mark.parametrize(
    ("before", "appended"),
    [
        ({"split.sizes": [3, 2]}, {"split.sizes": [3, 2, 4]}),
        (
            {"split.classes": [["class 4", "class 1"], ["class 7"]]},
            {"split.classes": [["class 4", "class 1"], ["class 7"], ["class 2"]]},
        ),
        (
            {"split.by": "domain", "split.domains": ["sketch", "clipart"]},
            {"split.by": "domain", "split.domains": ["sketch", "clipart", "real"]},
        ),
    ],
)
def test_an_appended_task_leaves_the_steps_before_it(
    before: dict[str, Any], appended: dict[str, Any]
) -> None:
    shorter, longer = (
        steps_of(make_plan(BASE | split, DOMAIN_FACTS)) for split in (before, appended)
    )
    assert [steps[:2] for steps in longer] == shorter
    assert {len(steps) for steps in longer} == {3}


def test_a_domain_added_to_the_dataset_leaves_the_listed_ones() -> None:
    split = BASE | {"split.by": "domain", "split.domains": ["sketch", "clipart"]}
    more = dataclasses.replace(
        FACTS,
        train=("new",) * 10,
        test=("new",) * 10,
        domains=("clipart", "quickdraw", "real", "sketch"),
        train_domains=("train c", "train q", "train r", "train s"),
        test_domains=("test c", "test q", "test r", "test s"),
    )
    assert make_plan(split, DOMAIN_FACTS).nodes.keys() == make_plan(split, more).nodes.keys()


def test_classes_beyond_the_stream_reach_nothing() -> None:
    split = BASE | {"split.classes": [["class 3"], ["class 8", "class 1"]]}
    train = tuple(
        text if label in (1, 3, 8) else "new images" for label, text in enumerate(FACTS.train)
    )
    assert (
        make_plan(split).nodes.keys()
        == make_plan(split, dataclasses.replace(FACTS, train=train)).nodes.keys()
    )


@pytest.mark.parametrize("part", ["train", "test"])
def test_other_images_of_one_domain_reach_its_task_and_what_comes_after(part: str) -> None:
    split = BASE | {"split.by": "domain", "split.domains": ["sketch", "clipart", "real"]}
    before = make_plan(split, DOMAIN_FACTS)
    checksums = (f"{part} c", "new images", f"{part} s")
    changes: dict[str, Any] = {f"{part}_domains": checksums}
    after = make_plan(split, dataclasses.replace(DOMAIN_FACTS, **changes))
    trained = ["step/*/2", "specialist/2"] if part == "train" else []
    expected = [*trained, "shards", "evaluation/*", "reference", "summary"]
    assert changed(before, after) == matching(before, expected)


def test_a_split_by_data_depends_on_all_images_and_on_how_they_are_dealt() -> None:
    split = BASE | {"split.by": "data", "split.tasks": 2}
    before = make_plan(split)
    assert before.runs[0].evaluations[0].job().to_json()["params"]["tasks"] == [list(range(10))] * 2
    assert before.runs[0].steps[0].job().to_json()["params"]["num_classes"] == 10
    assert changed(before, make_plan(split | {"split.seed": 1})) == matching(before, ["*"])
    train = ("new images", *FACTS.train[1:])
    assert changed(before, make_plan(split, dataclasses.replace(FACTS, train=train))) == matching(
        before, ["*"]
    )
    steps = steps_of(before)[0]
    assert len(set(steps)) == 2
    assert not set(steps) & set(steps_of(make_plan(split | {"split.tasks": 3}))[0])


def test_unlabelled_images_are_spread_by_the_seed_over_all_tasks() -> None:
    stl10 = BASE | {"dataset.source": "stl10", "dataset.unlabelled": True}
    listed = {"split.classes": [[f"class {label}"] for label in range(3)]}
    before = make_plan(stl10 | listed)
    assert changed(before, make_plan(stl10 | listed | {"split.seed": 1})) == matching(before, ["*"])
    more = {"split.classes": [*listed["split.classes"], ["class 9"]]}
    assert not set(steps_of(before)[0]) & set(steps_of(make_plan(stl10 | more))[0])


def test_the_same_tasks_have_the_same_steps_however_they_are_asked_for() -> None:
    order = make_plan(BASE).runs[0].evaluations[0].job().to_json()["params"]["tasks"]
    equal, sizes = make_plan(BASE), make_plan(BASE | {"split.sizes": [2] * 5})
    names = make_plan(
        BASE | {"split.classes": [[FACTS.classes[label] for label in task] for task in order]}
    )
    assert steps_of(equal) == steps_of(sizes) == steps_of(names)
    assert changed(equal, names) == {"shards"}


def test_the_plan_refuses_a_split_by_domain_of_a_source_without() -> None:
    with pytest.raises(KaizenError, match=r"split\.by: domain needs a source with domains"):
        make_plan({"split.by": "domain"})


@pytest.mark.parametrize("task", range(5))
def test_other_training_images_of_one_class_reach_its_task_and_what_comes_after(task: int) -> None:
    before = make_plan(BASE)
    label = before.runs[0].evaluations[0].job().to_json()["params"]["tasks"][task][1]
    train = tuple(
        "new images" if other == label else checksum for other, checksum in enumerate(FACTS.train)
    )
    later = [f"step/*/{step}" for step in range(task, 5)] + [
        f"replay/{step}" for step in range(task + 1, 5)
    ]
    expected = [*later, f"specialist/{task}", "shards", "evaluation/*", "reference", "summary"]
    assert changed(before, make_plan(BASE, dataclasses.replace(FACTS, train=train))) == matching(
        before, expected
    )


def test_other_test_images_reach_no_training() -> None:
    before = make_plan(BASE)
    after = make_plan(BASE, dataclasses.replace(FACTS, test=("new images", *FACTS.test[1:])))
    assert changed(before, after) == matching(
        before, ["shards", "evaluation/*", "reference", "summary"]
    )


def test_a_renamed_class_reaches_what_other_training_images_reach() -> None:
    before = make_plan(BASE)
    first = before.runs[0].evaluations[0].job().to_json()["params"]["tasks"][0][0]
    classes = tuple(
        "new name" if label == first else name for label, name in enumerate(FACTS.classes)
    )
    train = tuple(
        "new images" if label == first else checksum for label, checksum in enumerate(FACTS.train)
    )
    renamed = dataclasses.replace(FACTS, classes=classes)
    retaken = dataclasses.replace(FACTS, train=train)
    assert changed(before, make_plan(BASE, renamed)) == changed(before, make_plan(BASE, retaken))
