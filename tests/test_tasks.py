"""What the three splits put into the shards, and whole small experiments with each through `kaizen
run`.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import pytest
from project import Project, make_project, write_image

from kaizen.data.ingest import ingest
from kaizen.data.shards import shard_info
from kaizen.data.sources import open_source
from kaizen.data.sources.base import Part
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams, LabelsParams, SplitParams, SyntheticParams
from kaizen.store.node_id import NodeId

CLASSES = ("bee", "cat", "dog", "fox")
DOMAINS = ("clipart", "real", "sketch")
SYNTHETIC = DatasetParams(
    source="synthetic", synthetic=SyntheticParams(classes=6, train=14, test=5, size=8)
)


def write_domains(root: Path, train: int = 6, test: int = 3) -> Path:
    """<domain>/{train,test}/<class>/*; sketch has no foxes."""
    for number, domain in enumerate(DOMAINS):
        for label, name in enumerate(CLASSES):
            if (domain, name) != ("sketch", "fox"):
                for part, count in (("train", train), ("test", test)):
                    for image in range(count):
                        seed = 1000 * number + 100 * label + image + 50 * (part == "test")
                        write_image(root / domain / part / name / f"{image}.png", seed)
    return root


def rows(out: Path, tasks: int, part: str) -> list[list[dict[str, Any]]]:
    columns = ["label", "index", "path"]
    return [
        pq.read_table(out / f"task-{task:02d}.{part}.parquet", columns=columns).to_pylist()
        for task in range(tasks)
    ]


def test_a_split_by_data_deals_every_class_out_to_all_tasks(tmp_path: Path) -> None:
    summary = ingest(SYNTHETIC, SplitParams(4, 3, by="data"), LabelsParams(), 1, tmp_path)
    assert summary == json.loads((tmp_path / "tasks.json").read_text())
    assert summary["split"] == "data"
    assert [task["classes"] for task in summary["tasks"]] == [list(range(6))] * 4
    source = open_source(SYNTHETIC)
    counts: tuple[tuple[Part, int], ...] = (("train", 14), ("test", 5))
    for part, count in counts:
        found = rows(tmp_path, 4, part)
        assert sorted(row["path"] for task in found for row in task) == sorted(
            row.path for row in source.rows(part)
        )
        for task, of_task in enumerate(found):
            sizes = Counter(row["label"] for row in of_task)
            assert set(sizes) == set(range(6)) and set(sizes.values()) <= {
                count // 4,
                count // 4 + 1,
            }
            places = [(row["label"], row["index"]) for row in of_task]
            assert places == sorted(places)
            # The position among all of its class, whichever task has them; paths end in it.
            assert all(int(row["path"].rpartition("/")[2]) == row["index"] for row in of_task)
            assert shard_info(tmp_path / f"task-{task:02d}.{part}.parquet").classes == tuple(
                range(6)
            )
    ingest(SYNTHETIC, SplitParams(4, 4, by="data"), LabelsParams(), 1, tmp_path / "other")
    assert rows(tmp_path / "other", 4, "train") != rows(tmp_path, 4, "train")


def test_a_class_with_fewer_images_than_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        KaizenError, match=r"split\.tasks: class '0000' has 5 test images, too few .* 6 parts"
    ):
        ingest(SYNTHETIC, SplitParams(6, by="data"), LabelsParams(), 1, tmp_path)


def test_a_split_by_domain_gives_each_task_one_domain(tmp_path: Path) -> None:
    dataset = DatasetParams(source="domain_folder", path=str(write_domains(tmp_path / "data")))
    split = SplitParams(by="domain", domains=["sketch", "clipart"])
    summary = ingest(dataset, split, LabelsParams(), 1, tmp_path / "out")
    assert [task["domain"] for task in summary["tasks"]] == ["sketch", "clipart"]
    assert [task["classes"] for task in summary["tasks"]] == [[0, 1, 2, 3]] * 2
    for part, count in (("train", 6), ("test", 3)):
        for task, (domain, classes) in enumerate((("sketch", CLASSES[:3]), ("clipart", CLASSES))):
            expected = [
                (label, f"{domain}/{part}/{name}/{image}.png")
                for label, name in enumerate(classes)
                for image in range(count)
            ]
            assert [
                (row["label"], row["path"]) for row in rows(tmp_path / "out", 2, part)[task]
            ] == expected
    with pytest.raises(KaizenError, match=r"task 0 has no train images; leave its domain out"):
        ingest(
            DatasetParams(source="domain_folder", path=dataset.path, classes=["fox"]),
            split,
            LabelsParams(),
            1,
            tmp_path / "foxes",
        )


def test_classes_that_no_task_names_are_left_out(tmp_path: Path) -> None:
    split = SplitParams(classes=[["0005", "0001"], ["0002"]])
    summary = ingest(SYNTHETIC, split, LabelsParams(), 1, tmp_path)
    assert [task["classes"] for task in summary["tasks"]] == [[5, 1], [2]]
    assert summary["num_classes"] == 6
    assert [sorted({row["label"] for row in task}) for task in rows(tmp_path, 2, "test")] == [
        [1, 5],
        [2],
    ]
    assert [task["train"]["rows"] for task in summary["tasks"]] == [28, 14]


@pytest.mark.parametrize("by", ["class", "data", "domain"])
def test_kept_labels_are_stratified_and_nested_in_every_split(
    by: Literal["class", "data", "domain"], tmp_path: Path
) -> None:
    dataset = SYNTHETIC
    if by == "domain":
        dataset = DatasetParams(source="domain_folder", path=str(write_domains(tmp_path / "data")))
    split = SplitParams(3, by=by)
    kept: list[list[set[str]]] = []
    for fraction in (1.0, 0.5, 0.2):
        ingest(dataset, split, LabelsParams(fraction), 1, tmp_path / str(fraction))
        found = rows(tmp_path / str(fraction), 3, "train")
        kept.append([{row["path"] for row in task if row["label"] >= 0} for task in found])
        for task, all_rows in zip(found, rows(tmp_path / "1.0", 3, "train"), strict=True):
            sizes = Counter(row["label"] for row in all_rows)
            expected = {label: math.ceil(fraction * count - 1e-9) for label, count in sizes.items()}
            assert Counter(row["label"] for row in task if row["label"] >= 0) == expected
    for more, less in itertools.pairwise(kept):
        assert all(fewer < larger for larger, fewer in zip(more, less, strict=True))


class WithUnlabelled:
    """The synthetic source with ten more training images that have no class."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def rows(self, part: str) -> list[Any]:
        found: list[Any] = self.source.rows(part)
        extra = [
            type(found[0])(len(found) + number, -1, f"unlabelled/{number}") for number in range(10)
        ]
        return found + extra if part == "train" else found


@pytest.mark.parametrize("by", ["class", "data"])
def test_images_without_a_class_are_spread_over_the_tasks(
    by: Literal["class", "data"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kaizen.data.ingest.open_source", lambda dataset: WithUnlabelled(open_source(dataset))
    )
    for seed in (1, 2):
        split = SplitParams(3, seed, by=by, order="given")
        summary = ingest(SYNTHETIC, split, LabelsParams(), 1, tmp_path / str(seed))
    one, two = (
        [
            {row["path"] for row in task if row["label"] == -1}
            for task in rows(tmp_path / str(seed), 3, "train")
        ]
        for seed in (1, 2)
    )
    assert sorted(map(len, one)) == [3, 3, 4] and len(set().union(*one)) == 10
    assert one != two
    for entry in summary["tasks"]:
        assert entry["train"]["rows"] - entry["train"]["labelled"] in (3, 4)
        assert entry["test"]["labelled"] == entry["test"]["rows"]


def run(project: Project) -> dict[str, Any]:
    """Run the whole experiment, twice; returns tasks.json. Nothing is left to do the second
    time.
    """
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    nodes = project.nodes()
    assert project.leftovers() == []
    assert project.kaizen("run").code == 0 and project.nodes() == nodes
    tasks: dict[str, Any] = json.loads(
        (project.root / "data" / "shards" / "tasks.json").read_text()
    )
    return tasks


def accuracies(project: Project) -> list[np.ndarray]:
    """The classifier's matrix of every run."""
    files = [
        project.store.open_file(NodeId.of("evaluation", key), "accuracy.json")
        for key in project.keys("evaluation")
    ]
    return [
        np.array(json.loads(file.read_text())["matrices"]["classifier"], dtype=float)
        for file in files
    ]


def replayed(project: Project) -> list[dict[str, Any]]:
    (key,) = project.keys("replay")
    path = project.store.open_file(NodeId.of("replay", key), "replay.parquet")
    found: list[dict[str, Any]] = pq.read_table(path, columns=["label", "path"]).to_pylist()
    return found


def test_an_experiment_over_parts_of_the_data(tmp_path: Path) -> None:
    project = make_project(tmp_path, {"split.by": "data", "replay.proportion": [0.5]})
    tasks = run(project)
    assert [task["train"]["rows"] for task in tasks["tasks"]] == [24, 24]
    shard = pq.read_table(
        project.root / "data" / "shards" / "task-00.train.parquet", columns=["path"]
    ).to_pylist()
    again = replayed(project)
    # Half of the 6 images that the first part has of each class, and none of the second part.
    assert Counter(row["label"] for row in again) == {0: 3, 1: 3, 2: 3, 3: 3}
    assert {row["path"] for row in again} <= {row["path"] for row in shard}
    assert [matrix.shape for matrix in accuracies(project)] == [(2, 2)] * 2
    assert all(np.isfinite(matrix).all() for matrix in accuracies(project))


def test_an_experiment_over_domains_and_one_appended(tmp_path: Path) -> None:
    project = make_project(tmp_path, {"dataset.source": "domain_folder", "split.by": "domain"})
    write_domains(tmp_path / "pictures")
    project.set({"dataset.path": "pictures", "split.domains": ["sketch", "real"]})
    tasks = run(project)
    assert [(task["domain"], task["train"]["rows"]) for task in tasks["tasks"]] == [
        ("sketch", 18),
        ("real", 24),
    ]
    # A quarter of 6 images of each class that sketch has.
    assert Counter(row["label"] for row in replayed(project)) == {0: 1, 1: 1, 2: 1}
    steps = set(project.keys("step"))
    project.set({"split.domains": ["sketch", "real", "clipart"]})
    assert len(run(project)["tasks"]) == 3
    assert len(set(project.keys("step")) - steps) == 2 and steps <= set(project.keys("step"))
    assert accuracies(project)[-1].shape == (3, 3)


def test_an_experiment_over_unequal_tasks_of_named_classes(tmp_path: Path) -> None:
    project = make_project(tmp_path, {"split.classes": [["dog", "ant", "bee"], ["cat"]]})
    tasks = run(project)
    assert [task["class_names"] for task in tasks["tasks"]] == [["dog", "ant", "bee"], ["cat"]]
    assert Counter(row["label"] for row in replayed(project)) == {0: 3, 1: 3, 3: 3}
    assert [matrix.shape for matrix in accuracies(project)] == [(2, 2)] * 2
    steps = set(project.keys("step"))
    project.set({"split.classes": [["dog", "ant", "bee"]]})
    run(project)
    assert set(project.keys("step")) == steps


def test_an_experiment_on_synthetic_images(tmp_path: Path) -> None:
    changes = {
        "dataset": {
            "source": "synthetic",
            "synthetic": {"classes": 5, "train": 6, "test": 3, "size": 8},
        },
        "split": {"sizes": [3, 2]},
        "labels.fraction": 0.5,
    }
    project = make_project(tmp_path, changes)
    tasks = run(project)
    assert [task["train"] | {"content_sha256": ""} for task in tasks["tasks"]] == [
        {"rows": rows, "labelled": rows // 2, "skipped": 0, "colour": rows, "content_sha256": ""}
        | {"height": [8, 8], "width": [8, 8]}
        for rows in (18, 12)
    ]
