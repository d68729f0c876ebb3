from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kaizen.data.replay import POLICIES, make_replay
from kaizen.data.schema import SCHEMA, Record
from kaizen.data.shards import ShardWriter, shard_info, verify_shard
from kaizen.errors import KaizenError

TASKS = [[4, 0], [1, 5], [2, 3]]
COUNTS = {0: 30, 1: 100, 2: 10, 3: 7, 4: 21, 5: 100}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three tasks of two classes; the image's bytes are its label and number."""
    write_shards(tmp_path / "shards", unlabelled=0)
    return tmp_path / "shards"


def write_shards(folder: Path, unlabelled: int) -> None:
    """Every ``unlabelled``-th row has no label."""
    for task, classes in enumerate(TASKS):
        index = 0
        with ShardWriter(
            folder / f"task-{task:02d}.train.parquet",
            dataset="d", part="train", task=task, classes=classes, class_names=[f"c{c}" for c in classes],
            row_group_mb=0.00005,
        ) as writer:  # fmt: skip
            for true in sorted(classes):
                for number in range(COUNTS[true]):
                    label = -1 if unlabelled and index % unlabelled == 0 else true
                    writer.write(Record(bytes([true, number]), "raw", 1, 2, 1, label, index, f"{true}/{number}"))
                    index += 1


def content(path: Path) -> list[tuple[int, int]]:
    return [tuple(image) for image in pq.read_table(path).column("image").to_pylist()]


def test_first_n_by_proportion(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "replay.parquet"
    summary = make_replay(shards, 2, "first_n", 0.29, None, 0, out)
    # int(n * 0.29): 6 of 21, 8 of 30, 29 of 100, in task order and then in the task's own order of classes.
    expected = [(label, i) for label, n in ((4, 6), (0, 8), (1, 29), (5, 29)) for i in range(n)]
    assert content(out) == expected
    info = verify_shard(out)
    assert (info.part, info.task, info.dataset, info.classes) == ("replay", 2, "d", (4, 0, 1, 5))
    assert info.class_names == ("c4", "c0", "c1", "c5")
    assert summary["rows"] == len(expected) and summary["content_sha256"] == info.content_sha256
    assert summary["from"][1] == {"task": 1, "classes": {"1": 29, "5": 29}, "unlabelled": 0}


def test_rows_are_copied_unchanged(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "replay.parquet"
    make_replay(shards, 3, "balanced_random", 1.0, None, 1, out)
    table = pq.read_table(out)
    assert table.schema.remove_metadata() == SCHEMA
    originals = [
        row for task in range(3) for row in pq.read_table(shards / f"task-{task:02d}.train.parquet").to_pylist()
    ]
    assert sorted(table.to_pylist(), key=lambda row: row["image"]) == sorted(originals, key=lambda row: row["image"])


@pytest.mark.parametrize(("memory", "task", "each"), [(20, 1, 10), (20, 2, 5), (21, 3, 3), (5, 3, 0), (0, 2, 0)])
def test_memory_is_divided_over_tasks_and_classes(
    shards: Path, tmp_path: Path, memory: int, task: int, each: int
) -> None:
    make_replay(shards, task, "first_n", None, memory, 0, tmp_path / "r")
    assert content(tmp_path / "r") == [(label, i) for classes in TASKS[:task] for label in classes for i in range(each)]
    assert verify_shard(tmp_path / "r").rows <= memory


def test_a_class_smaller_than_its_share_gives_all_it_has(shards: Path, tmp_path: Path) -> None:
    make_replay(shards, 3, "first_n", None, 120, 0, tmp_path / "r")
    labels = [label for label, _ in content(tmp_path / "r")]
    assert [labels.count(label) for label in (4, 0, 1, 5, 2, 3)] == [20, 20, 20, 20, 10, 7]


def test_both_sizes_give_the_smaller(shards: Path, tmp_path: Path) -> None:
    make_replay(shards, 1, "first_n", 0.5, 22, 0, tmp_path / "r")
    labels = [label for label, _ in content(tmp_path / "r")]
    assert (labels.count(4), labels.count(0)) == (10, 11)


def test_random_choice_is_balanced_seeded_and_the_same_at_each_step(shards: Path, tmp_path: Path) -> None:
    def chosen(
        task: int, seed: int, memory: int | None = None, proportion: float | None = None
    ) -> list[tuple[int, int]]:
        make_replay(shards, task, "balanced_random", proportion, memory, seed, tmp_path / "r")
        return content(tmp_path / "r")

    first, second = chosen(1, 0, proportion=0.3), chosen(2, 0, proportion=0.3)
    assert second[: len(first)] == first
    assert [sum(label == c for label, _ in second) for c in (4, 0, 1, 5)] == [6, 9, 30, 30]
    numbers = [number for label, number in second if label == 1]
    assert numbers == sorted(set(numbers)) != list(range(30))
    assert numbers != [number for label, number in second if label == 5]
    assert chosen(2, 1, proportion=0.3) != second
    # A memory that is shared by more tasks keeps part of what it held.
    assert set(chosen(3, 0, memory=60)) & set(chosen(2, 0, memory=60)) == {
        pair for pair in chosen(3, 0, memory=60) if pair[0] not in TASKS[2]
    }


def test_random_choice_is_uniform() -> None:
    hits = np.zeros(20)
    for seed in range(2000):
        hits[POLICIES["balanced_random"](20, 5, seed, ("class", 1))] += 1
    # Each of 20 rows is drawn with probability 1/4: 500 times, standard deviation 19.4.
    assert abs(hits - 500).max() < 5 * 19.4


def test_unlabelled_rows_form_a_group_of_their_own(tmp_path: Path) -> None:
    write_shards(tmp_path, unlabelled=3)
    summary = make_replay(tmp_path, 2, "first_n", 0.5, None, 0, tmp_path / "r")
    rows = pq.read_table(tmp_path / "r").to_pylist()
    labels = [row["label"] for row in rows]
    # Task 0 holds 51 rows, rows 0, 3, … unlabelled: 17, of 30 rows of class 0 ten and of 21 of class 4 seven.
    assert labels[: 7 + 10 + 8] == [4] * 7 + [0] * 10 + [-1] * 8
    assert [row["index"] for row in rows[17:25]] == list(range(0, 24, 3))
    assert summary["from"][0] == {"task": 0, "classes": {"4": 7, "0": 10}, "unlabelled": 8}


def test_unlabelled_rows_fill_the_memory_that_classes_leave(tmp_path: Path) -> None:
    write_shards(tmp_path, unlabelled=3)
    make_replay(tmp_path, 1, "balanced_random", None, 40, 0, tmp_path / "r")
    labels = pq.read_table(tmp_path / "r").column("label").to_pylist()
    assert [labels.count(label) for label in (4, 0, -1)] == [14, 20, 6]
    write_shards(tmp_path, unlabelled=1)
    make_replay(tmp_path, 1, "balanced_random", None, 41, 0, tmp_path / "r")
    assert pq.read_table(tmp_path / "r").column("label").to_pylist() == [-1] * 40


def test_an_empty_replay_shard_is_valid(shards: Path, tmp_path: Path) -> None:
    assert make_replay(shards, 2, "first_n", 0.0, None, 0, tmp_path / "r")["rows"] == 0
    assert shard_info(tmp_path / "r").row_groups == () and verify_shard(tmp_path / "r").rows == 0


@pytest.mark.parametrize(
    ("task", "policy", "proportion", "memory", "message"),
    [
        (1, "herding", 0.1, None, r"replay\.policy: 'herding' is unknown; choose one of first_n, balanced_random"),
        (0, "first_n", 0.1, None, "task 0 has none"),
        (1, "first_n", None, None, "both null"),
        (1, "first_n", 1.5, None, r"replay\.proportion: 1\.5"),
        (1, "first_n", None, -1, r"replay\.memory: -1"),
        (4, "first_n", 0.1, None, r"task-03\.train\.parquet does not exist"),
    ],
)
def test_what_cannot_be_is_refused(
    shards: Path, tmp_path: Path, task: int, policy: str, proportion: float | None, memory: int | None, message: str
) -> None:
    with pytest.raises(KaizenError, match=message):
        make_replay(shards, task, policy, proportion, memory, 0, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_damaged_source_is_named(shards: Path, tmp_path: Path) -> None:
    path = shards / "task-00.train.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(KaizenError, match=r"task-00\.train\.parquet is not a readable shard"):
        make_replay(shards, 2, "first_n", 0.1, None, 0, tmp_path / "r")
