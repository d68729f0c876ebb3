"""One key, one content: what a node's key does not hold changes no byte of the node."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import Project, make_project, write_image

from kaizen.store.records import RUN_RECORD

# `ant` comes first in the dataset and last in the stream.
TASKS = [["cat", "dog"], ["bee"], ["ant"]]


def files(project: Project, kind: str) -> dict[str, dict[str, bytes]]:
    """The files of the nodes of a kind, but for how they were made: key -> name -> content."""
    folders = {key: project.store.root / kind / key for key in project.keys(kind)}
    return {
        key: {path.name: path.read_bytes() for path in folder.iterdir() if path.name != RUN_RECORD}
        for key, folder in folders.items()
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[Project]:
    """The same experiment on two datasets that differ in the images of one class alone."""
    folder: Path = tmp_path_factory.mktemp("one key")
    changes = {
        "split": {"classes": TASKS},
        "grid.variants": ["kaizen"],
        "grid.specialists": True,
        "labels.fraction": 0.5,
        "replay.proportion": [0.25],
    }
    projects = [make_project(folder / name, changes) for name in ("one", "other")]
    for part, name in (("train", "00a.png"), ("train", "zz.png"), ("test", "000.png")):
        write_image(projects[1].images / part / "ant" / name, len(name))
    for project in projects:
        project.kaizen("run").good()
    return projects


def test_shards_of_other_classes_are_the_same_bytes(both: list[Project]) -> None:
    (one,), (other,) = (files(project, "shards").values() for project in both)
    shards = {name for name in one if name.endswith(".parquet")}
    assert {name for name in shards if one[name] == other[name]} == {
        f"task-0{task}.{part}.parquet" for task in (0, 1) for part in ("train", "test")
    }


@pytest.mark.parametrize(("kind", "same", "all_of_one"), [("replay", 2, 2), ("step", 3, 5)])
def test_nodes_of_one_key_are_the_same_bytes(
    both: list[Project], kind: str, same: int, all_of_one: int
) -> None:
    """Replay shards of tasks 0 and 1; steps 0 and 1, and the specialist of task 1."""
    one, other = (files(project, kind) for project in both)
    keys = one.keys() & other.keys()
    assert (len(keys), len(one), len(other)) == (same, all_of_one, all_of_one)
    for key in keys:
        assert {"node.json"} < one[key].keys() == other[key].keys()
        assert one[key] == other[key]


def test_how_a_node_was_made_tells_which_shards_it_read(both: list[Project]) -> None:
    for project in both:
        (shards,) = project.keys("shards")
        records = [project.store.read_run_record(node) or {} for node in project.nodes()]
        assert len(records) == 1 + 2 + 5 + 2 + 1
        read = {"shards": shards}
        assert [record["shards"] for record in records if "shards" in record] == [read] * 10
