"""An experiment on class folders without a test part, and with images without a class: its keys,
its shards, and what is told of it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import FACTS, make_params, make_plan
from project import CLASSES, Project, make_project, write_image

from kaizen.data.found import Found, Share
from kaizen.data.ingest import ingest
from kaizen.data.sources import open_source
from kaizen.data.split import turns
from kaizen.errors import KaizenError
from kaizen.jobs.foresight import refuse_early
from kaizen.jobs.raw_data import dataset_facts
from kaizen.params import DatasetParams, LabelsParams, SplitParams
from kaizen.plan.nodes import Plan

FOLDER = {"dataset.source": "image_folder", "dataset.path": "/a"}
HELD_OUT = dataclasses.replace(FACTS, found=Found(held_out=Share(0.2, 0)))


def keys(plan: Plan) -> list[str]:
    return sorted(plan.nodes)


def steps(plan: Plan) -> list[str]:
    return [step.key for step in plan.runs[0].steps]


@pytest.mark.parametrize("change", [{"dataset.seed": 1}, {"dataset.test_fraction": 0.3}])
def test_what_chooses_the_held_out_images_is_in_keys_where_some_are(change: dict[str, Any]) -> None:
    assert keys(make_plan(FOLDER)) == keys(make_plan(FOLDER | change))
    before, after = make_plan(FOLDER, HELD_OUT), make_plan(FOLDER | change, HELD_OUT)
    assert not set(steps(before)) & set(steps(after))
    assert before.shards[0].key != after.shards[0].key
    spec = after.shards[0].spec.dataset_params("/a", None)
    for name, value in change.items():
        assert getattr(spec, name.removeprefix("dataset.")) == value, "the job must know it"


def test_images_without_a_class_are_in_the_keys_of_the_tasks_that_hold_some() -> None:
    before = make_plan(FOLDER)
    assert "train/unlabelled" not in before.shards[0].identities
    some = dataclasses.replace(FACTS, unlabelled="sum", unlabelled_images=100)
    plan = make_plan(FOLDER, some)
    assert plan.shards[0].identities["train/unlabelled"] == "sum"
    assert not set(steps(before)) & set(steps(plan))
    other = make_plan(FOLDER, dataclasses.replace(some, unlabelled="other"))
    assert not set(steps(plan)) & set(steps(other))
    seeded = make_plan(FOLDER | {"split.order": "given", "split.seed": 1}, some)
    assert steps(seeded) != steps(make_plan(FOLDER | {"split.order": "given"}, some))
    # Test shards hold none. Of two images, three of five tasks have none.
    parts = {name: value for name, value in before.runs[0].evaluations[0].identities.items()}
    after = {name: value for name, value in plan.runs[0].evaluations[0].identities.items()}
    tests = [name for name in parts if name.startswith("test-")]
    assert tests and all(parts[name] == after[name] for name in tests)
    few = make_plan(FOLDER, dataclasses.replace(some, unlabelled_images=2))
    found = few.runs[0].evaluations[0].identities
    same = {name for name in parts if found[name] == parts[name]} - set(tests)
    assert same == {"train-01", "train-02", "train-03"}
    assert set(turns(2, 5, -1).tolist()) == {4, 0}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project on <class>/* and unlabelled/*, after `kaizen run`."""
    project = make_project(tmp_path_factory.mktemp("plain") / "project")
    images = project.images
    shutil.rmtree(images / "test")
    for name in CLASSES:
        (images / "train" / name).rename(images / name)
    (images / "train").rmdir()
    for number in range(7):
        write_image(images / "unlabelled" / "day 1" / f"{number}.png", 9000 + number)
    project.kaizen("run").good()
    return project


def test_check_tells_what_is_held_out(finished: Project) -> None:
    output = finished.kaizen("check").good()
    assert "held out for testing: 20 % of every class, seed 0\n" in output
    assert "55 images: RGB" in output


def test_the_shards_hold_the_classes_and_their_share_of_the_others(finished: Project) -> None:
    shards = finished.root / "data" / "shards"
    summary = json.loads((shards / "tasks.json").read_text())
    assert summary["held_out"] == {"fraction": 0.2, "seed": 0}
    train, test = (
        [pq.read_table(shards / f"task-{task:02d}.{part}.parquet").to_pylist() for task in range(2)]
        for part in ("train", "test")
    )
    unlabelled = [[row["path"] for row in rows if row["label"] == -1] for rows in train]
    assert [len(paths) for paths in unlabelled] == [3, 4]
    assert sorted(path for paths in unlabelled for path in paths) == [
        f"unlabelled/day 1/{number}.png" for number in range(7)
    ]
    # 12 images a class, of which round(0.2 * 12) are held out.
    assert [len(rows) for rows in train] == [2 * 10 + 3, 2 * 10 + 4]
    assert [len(rows) for rows in test] == [2 * 2, 2 * 2]
    named = {row["path"] for rows in (*train, *test) for row in rows}
    assert len(named) == 4 * 12 + 7
    card = (shards / "README.md").read_text()
    assert "Held out for testing: 20 % of every class, seed 0" in card.replace("**", "")


def test_more_images_without_a_class_make_again_what_holds_them(
    finished: Project, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "project")
    before = {node["title"]: node["key"] for node in project.plan()}
    write_image(project.images / "unlabelled" / "day 2.png", 9100)
    after = {node["title"]: node["key"] for node in project.plan()}
    changed = {title for title in before if before[title] != after[title]}
    assert changed == set(before), "both tasks hold some"


def test_a_folder_of_one_class_image_and_others_is_enough_for_a_step(tmp_path: Path) -> None:
    """One image is left to train on, but the images without a class are trained on too."""
    for label, name in enumerate(("cat", "dog")):
        for number in range(2):
            write_image(tmp_path / name / f"{number}.png", 10 * label + number)
    dataset = DatasetParams(source="image_folder", path=str(tmp_path))
    params = make_params({"split.tasks": 2, "image.load_size": 8, "model.backbone": "small_resnet"})
    with pytest.raises(KaizenError, match="split: task 0 has 1 training image"):
        refuse_early(params, dataset_facts(dataset, tmp_path), open_source(dataset))
    for number in range(2):
        write_image(tmp_path / "unlabelled" / f"{number}.png", 500 + number)
    refuse_early(params, dataset_facts(dataset, tmp_path), open_source(dataset))


@pytest.mark.parametrize("by", ["class", "data"])
def test_the_facts_are_those_of_the_shards(tmp_path: Path, by: Any) -> None:
    for label, name in enumerate(("cat", "dog")):
        for number in range(6):
            write_image(tmp_path / "a" / name / f"{number}.png", 10 * label + number)
    for number in range(3):
        write_image(tmp_path / "a" / "cat" / f"x{number}.png", 700 + number)
        write_image(tmp_path / "a" / "unlabelled" / f"{number}.png", 800 + number)
    dataset = DatasetParams(source="image_folder", path=str(tmp_path / "a"), test_fraction=0.4)
    facts = dataset_facts(dataset, tmp_path)
    assert facts.held_out and facts.unlabelled_images == 3
    assert facts.unlabelled == open_source(dataset).unlabelled_checksum(None)
    assert facts.train_counts == (5, 4)
    summary = ingest(
        dataset, SplitParams(2, by=by), LabelsParams(), 1, tmp_path / "out", found=facts.found
    )
    held = turns(facts.unlabelled_images, 2, -1).tolist()
    for task, entry in enumerate(summary["tasks"]):
        assert entry["train"]["rows"] - entry["train"]["labelled"] == held.count(task)
