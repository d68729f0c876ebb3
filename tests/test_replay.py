from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kaizen.data.names import shard_file
from kaizen.data.replay.base import Features, ReplayStream, Size, Task, choose_by_group, no_features
from kaizen.data.replay.shard import make_replay
from kaizen.data.schema import SCHEMA, ShardRow
from kaizen.data.shards import ShardWriter, shard_info, verify_shard
from kaizen.data.split import seeded_keys
from kaizen.errors import KaizenError
from kaizen.params import registry

TASKS = [[4, 0], [1, 5], [2, 3]]
COUNTS = {0: 30, 1: 100, 2: 10, 3: 7, 4: 21, 5: 100}
POLICIES = [name for name, policy in registry.REPLAY_POLICIES.items() if policy.images]
SIZES = [Size("proportion", 0.3), Size("per_class", 8), Size("memory", 60)]


def features(task: int) -> np.ndarray:
    """Made-up features of a task's rows: float32 [N, 6]."""
    rows = sum(COUNTS[label] for label in TASKS[task])
    return np.random.default_rng(task).normal(size=(rows, 6)).astype(np.float32) + 1


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three tasks of two classes; the image's bytes are its label and number."""
    write_shards(tmp_path / "shards", unlabelled=0)
    return tmp_path / "shards"


def write_shards(folder: Path, unlabelled: int) -> None:
    """Every ``unlabelled``-th row has no label; rows are ordered by class."""
    for task, classes in enumerate(TASKS):
        index = 0
        with ShardWriter(
            folder / f"task-{task:02d}.train.parquet",
            dataset="d",
            part="train",
            task=task,
            classes=classes,
            class_names=[f"c{c}" for c in classes],
            row_group_mb=0.00005,
        ) as writer:
            for true in sorted(classes):
                for number in range(COUNTS[true]):
                    label = -1 if unlabelled and index % unlabelled == 0 else true
                    writer.write(
                        ShardRow(
                            bytes([true, number]), "raw", 1, 2, 1, label, index, f"{true}/{number}"
                        )
                    )
                    index += 1


def content(path: Path) -> list[tuple[int, int]]:
    return [tuple(image) for image in pq.read_table(path).column("image").to_pylist()]


def replay_shard(
    shards: Path,
    task: int,
    policy: str,
    size: Size,
    seed: int,
    out: Path,
    features: Features = no_features,
) -> None:
    """`make_replay` from the shards of a folder."""
    sources = [shards / shard_file(earlier, "train") for earlier in range(task)]
    make_replay(sources, task, policy, size, seed=seed, out=out, features=features)


def labels(path: Path) -> list[int]:
    found: list[int] = pq.read_table(path).column("label").to_pylist()
    return found


def chosen(policy: str, stream: ReplayStream, size: Size) -> list[set[int]]:
    """Per task, the rows that a policy keeps."""
    choose = registry.load(registry.REPLAY_POLICIES[policy].target)
    rows = choose(stream, size)
    assert all(len(one) == len(set(one.tolist())) for one in rows)
    return [set(one.tolist()) for one in rows]


def stream_of(tasks: Sequence[Sequence[int]], seed: int = 0) -> ReplayStream:
    """Tasks with the given labels row by row, and made-up features."""

    def made_up(task: int) -> np.ndarray:
        return (
            np.random.default_rng(100 + task).normal(size=(len(tasks[task]), 5)).astype(np.float32)
        )

    return ReplayStream(
        tuple(
            Task(i, tuple(sorted({x for x in row if x >= 0})), np.array(row))
            for i, row in enumerate(tasks)
        ),
        seed,
        made_up,
    )


# -- the shard ---------------------------------------------------------------------------------


def test_first_n_by_proportion(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "replay.parquet"
    replay_shard(shards, 2, "first_n", Size("proportion", 0.29), 0, out)
    # int(n * 0.29): 8 of 30, 6 of 21, 29 of 100, in the order of the shards.
    expected = [(label, i) for label, n in ((0, 8), (4, 6), (1, 29), (5, 29)) for i in range(n)]
    assert content(out) == expected
    info = verify_shard(out)
    assert (info.part, info.task, info.dataset, info.classes) == ("replay", 2, "d", (4, 0, 1, 5))
    assert info.class_names == ("c4", "c0", "c1", "c5")


@pytest.mark.parametrize("policy", POLICIES)
def test_rows_are_copied_unchanged(shards: Path, tmp_path: Path, policy: str) -> None:
    out = tmp_path / "replay.parquet"
    replay_shard(shards, 3, policy, Size("proportion", 1.0), 1, out, features)
    table = pq.read_table(out)
    assert table.schema.remove_metadata() == SCHEMA
    originals = [
        row
        for task in range(3)
        for row in pq.read_table(shards / f"task-{task:02d}.train.parquet").to_pylist()
    ]
    assert table.to_pylist() == originals


@pytest.mark.parametrize("policy", POLICIES)
def test_the_shard_holds_what_the_policy_chooses(shards: Path, tmp_path: Path, policy: str) -> None:
    replay_shard(shards, 3, policy, Size("proportion", 0.2), 7, tmp_path / "r", features)
    numbered = [[(c, i) for c in sorted(classes) for i in range(COUNTS[c])] for classes in TASKS]
    stream = ReplayStream(
        tuple(
            Task(t, tuple(TASKS[t]), np.array([c for c, _ in rows]))
            for t, rows in enumerate(numbered)
        ),
        7,
        features,
    )
    rows = chosen(policy, stream, Size("proportion", 0.2))
    assert content(tmp_path / "r") == [
        numbered[t][row] for t in range(3) for row in sorted(rows[t])
    ]
    assert verify_shard(tmp_path / "r").rows == 53


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("unit", ["proportion", "per_class", "memory"])
def test_an_empty_replay_shard_is_valid(
    shards: Path, tmp_path: Path, policy: str, unit: str
) -> None:
    replay_shard(
        shards, 2, policy, Size(unit, 0), seed=0, out=tmp_path / "r"
    )  # without features: none are asked for
    assert shard_info(tmp_path / "r").row_groups == () and verify_shard(tmp_path / "r").rows == 0


@pytest.mark.parametrize(
    ("task", "policy", "message"),
    [
        (
            1,
            "newest",
            r"replay\.policy: 'newest' is unknown; choose one of .*\bfirst_n\b",
        ),
        (0, "first_n", "task 0 has none"),
        (4, "first_n", r"task-03\.train\.parquet does not exist"),
        (1, "herding", r"replay\.policy: this policy looks at features"),
    ],
)
def test_what_cannot_be_is_refused(
    shards: Path, tmp_path: Path, task: int, policy: str, message: str
) -> None:
    with pytest.raises(KaizenError, match=message):
        replay_shard(shards, task, policy, Size("proportion", 0.1), 0, tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("unit", "amount", "message"),
    [
        ("proportion", 1.5, r"replay\.proportion: 1\.5"),
        ("memory", -1, r"replay\.memory: -1"),
        ("per_class", 0.5, r"replay\.per_class: 0\.5"),
        ("images", 5, r"replay\.images is not a size"),
    ],
)
def test_sizes_that_cannot_be_are_refused(unit: str, amount: float, message: str) -> None:
    with pytest.raises(KaizenError, match=message):
        Size(unit, amount)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_damaged_source_is_named(shards: Path, tmp_path: Path, policy: str) -> None:
    path = shards / "task-00.train.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(KaizenError, match=r"task-00\.train\.parquet is not a readable shard"):
        replay_shard(shards, 2, policy, Size("proportion", 0.1), 0, tmp_path / "r", features)


def test_a_damaged_page_of_a_source_is_found(shards: Path, tmp_path: Path) -> None:
    path = shards / "task-00.train.parquet"
    data, images = bytearray(path.read_bytes()), pq.read_metadata(path).row_group(1).column(0)
    data[images.data_page_offset + images.total_compressed_size - 1] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(KaizenError, match=r"task-00\.train\.parquet is not a readable shard"):
        replay_shard(shards, 1, "first_n", Size("proportion", 1.0), 0, tmp_path / "r")
    assert not (tmp_path / "r").exists()


# -- sizes of groups ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "task", "each"), [(20, 1, 10), (20, 2, 5), (21, 3, 3), (5, 3, 0), (0, 2, 0)]
)
def test_memory_is_divided_over_tasks_and_classes(
    shards: Path, tmp_path: Path, memory: int, task: int, each: int
) -> None:
    replay_shard(shards, task, "first_n", Size("memory", memory), 0, tmp_path / "r")
    expected = [
        (label, i) for classes in TASKS[:task] for label in sorted(classes) for i in range(each)
    ]
    assert content(tmp_path / "r") == expected
    assert verify_shard(tmp_path / "r").rows <= memory


def test_a_class_smaller_than_its_share_gives_all_it_has(shards: Path, tmp_path: Path) -> None:
    for size in (Size("memory", 120), Size("per_class", 20)):
        replay_shard(shards, 3, "first_n", size, 0, tmp_path / "r")
        found = labels(tmp_path / "r")
        assert [found.count(label) for label in (4, 0, 1, 5, 2, 3)] == [20, 20, 20, 20, 10, 7]


def test_unlabelled_rows_form_a_group_of_their_own(tmp_path: Path) -> None:
    write_shards(tmp_path, unlabelled=3)
    replay_shard(tmp_path, 2, "first_n", Size("proportion", 0.5), 0, tmp_path / "r")
    rows = [row for row in pq.read_table(tmp_path / "r").to_pylist() if row["image"][0] in TASKS[0]]
    # Task 0 holds 51 rows, rows 0, 3, … unlabelled: 17, of 30 rows of class 0 ten and of 21 of
    # class 4 seven.
    assert [row["index"] for row in rows if row["label"] == -1] == list(range(0, 24, 3))
    assert [row["index"] for row in rows if row["label"] == 0] == [i for i in range(30) if i % 3][
        :10
    ]
    assert [row["index"] for row in rows if row["label"] == 4] == [
        i for i in range(30, 51) if i % 3
    ][:7]


@pytest.mark.parametrize("policy", ["first_n", "balanced_random", "herding"])
def test_unlabelled_rows_fill_the_memory_that_classes_leave(tmp_path: Path, policy: str) -> None:
    write_shards(tmp_path, unlabelled=3)
    for size in (Size("memory", 40), Size("per_class", 20)):
        replay_shard(tmp_path, 1, policy, size, 0, tmp_path / "r", features)
        found = labels(tmp_path / "r")
        assert [found.count(label) for label in (4, 0, -1)] == [14, 20, 6]
    write_shards(tmp_path, unlabelled=1)
    replay_shard(tmp_path, 1, policy, Size("memory", 41), 0, tmp_path / "r", features)
    assert labels(tmp_path / "r") == [-1] * 40


def test_a_class_of_several_tasks_is_chosen_in_each_of_them() -> None:
    stream = stream_of([[0, 1] * 20, [1, 2] * 20, [0, 1] * 20])

    def counts(size: Size) -> list[dict[int, int]]:
        rows = choose_by_group(stream, size, lambda group, count: group.rows[:count])
        found = [task.labels[kept].tolist() for task, kept in zip(stream.tasks, rows, strict=True)]
        return [{label: one.count(label) for label in set(one)} for one in found]

    assert counts(Size("proportion", 0.25)) == [{0: 5, 1: 5}, {1: 5, 2: 5}, {0: 5, 1: 5}]
    # Nine images of class 0, which two tasks have; of class 1, which three have; of class 2 of one
    # task.
    assert counts(Size("per_class", 9)) == [{0: 4, 1: 3}, {1: 3, 2: 9}, {0: 4, 1: 3}]
    assert counts(Size("memory", 27)) == [{0: 4, 1: 4}, {1: 4, 2: 4}, {0: 4, 1: 4}]
    first, _, third = (
        one.tolist()
        for one in registry.load("kaizen.data.replay.balanced_random:choose")(
            stream, Size("proportion", 0.5)
        )
    )
    assert first != third


def test_a_class_of_several_tasks_is_named_once(tmp_path: Path) -> None:
    for task, classes in enumerate([[3, 1], [1, 2]]):
        names = [f"c{label}" for label in classes]
        path = tmp_path / f"task-{task:02d}.train.parquet"
        with ShardWriter(
            path, dataset="d", part="train", task=task, classes=classes, class_names=names
        ) as writer:
            writer.write(ShardRow(b"xy", "raw", 1, 2, 1, 1, task, f"1/{task}"))
    replay_shard(tmp_path, 2, "first_n", Size("per_class", 2), 0, tmp_path / "r")
    info = verify_shard(tmp_path / "r")
    assert (info.classes, info.class_names, info.rows) == ((3, 1, 2), ("c3", "c1", "c2"), 2)


# -- all policies ------------------------------------------------------------------------------

MIXED = [
    [0, 1, 1, 0, -1, 1, 0, 0, 1, -1] * 6,
    [2, 3, -1, 2, 2] * 10,
    [1, 4, 4, 4] * 8,
    [5, -1] * 30,
]  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [*SIZES, Size("memory", 7), Size("per_class", 30)], ids=str)
def test_memories_are_nested_over_steps(policy: str, size: Size) -> None:
    stream = stream_of(MIXED, seed=3)
    held: list[set[int]] = []
    for count in range(1, len(MIXED) + 1):
        later = chosen(policy, dataclasses.replace(stream, tasks=stream.tasks[:count]), size)
        assert all(new <= old for new, old in zip(later, held, strict=False))
        held = later
    assert sum(map(len, held)) > 0


@pytest.mark.parametrize("policy", POLICIES)
def test_the_seed_counts_where_the_registry_says_so(policy: str) -> None:
    one, two = (chosen(policy, stream_of(MIXED, seed), Size("proportion", 0.3)) for seed in (0, 1))
    assert (one != two) is registry.REPLAY_POLICIES[policy].seeded


# -- balanced_random ---------------------------------------------------------------------------


def test_random_choice_is_balanced_and_the_same_at_each_step(shards: Path, tmp_path: Path) -> None:
    def made(task: int, seed: int) -> list[tuple[int, int]]:
        replay_shard(shards, task, "balanced_random", Size("proportion", 0.3), seed, tmp_path / "r")
        return content(tmp_path / "r")

    first, second = made(1, 0), made(2, 0)
    assert second[: len(first)] == first
    assert [sum(label == c for label, _ in second) for c in (4, 0, 1, 5)] == [6, 9, 30, 30]
    numbers = [number for label, number in second if label == 1]
    assert numbers == sorted(set(numbers)) != list(range(30))
    assert numbers != [number for label, number in second if label == 5]


def hits(policy: str, tasks: list[list[int]], size: Size, draws: int) -> list[np.ndarray]:
    """How often each row is chosen with the seeds 0, 1, …"""
    found = [np.zeros(len(task)) for task in tasks]
    for seed in range(draws):
        for count, rows in zip(found, chosen(policy, stream_of(tasks, seed), size), strict=True):
            count[sorted(rows)] += 1
    return found


def test_random_choice_is_uniform() -> None:
    (found,) = hits("balanced_random", [[1] * 20], Size("memory", 5), 2000)
    # Each of 20 rows is drawn with probability 1/4: 500 times, standard deviation 19.4.
    assert abs(found - 500).max() < 5 * 19.4


# -- reservoir ---------------------------------------------------------------------------------


def test_a_fixed_reservoir_holds_the_rows_with_the_smallest_keys() -> None:
    tasks = [[0] * 30, [1] * 5 + [-1] * 20, [2] * 40]
    keys: dict[tuple[int, int], int] = {}
    for task, row_labels in enumerate(tasks):
        drawn = seeded_keys(len(row_labels), 4, "replay", "reservoir", task)
        keys |= {(task, row): int(key) for row, key in enumerate(drawn)}
        smallest = sorted(keys, key=lambda place: keys[place])[:17]
        found = chosen("reservoir", stream_of(tasks[: task + 1], 4), Size("memory", 17))
        assert {(t, row) for t, rows in enumerate(found) for row in rows} == set(smallest)


def test_a_reservoir_is_uniform_over_the_stream_whatever_the_classes() -> None:
    found = np.concatenate(
        hits("reservoir", [[0] * 9 + [1], [2] * 5 + [-1] * 5, [3] * 20], Size("memory", 10), 2000)
    )
    # Each of 40 rows with probability 1/4: 500 times, standard deviation 19.4.
    assert abs(found - 500).max() < 5 * 19.4


def test_a_reservoir_counts_all_rows_so_far() -> None:
    def held(tasks: list[list[int]], size: Size) -> int:
        return sum(map(len, chosen("reservoir", stream_of(tasks), size)))

    for count, rows, classes in ((1, 60, 2), (2, 110, 4), (3, 142, 5), (4, 202, 6)):
        assert held(MIXED[:count], Size("proportion", 0.29)) == int(rows * 0.29)
        assert held(MIXED[:count], Size("per_class", 8)) == 8 * classes
        assert held(MIXED[:count], Size("memory", 70)) == min(70, rows)


def test_a_growing_reservoir_is_filled_from_the_newest_task_where_the_sample_falls_short() -> None:
    tasks, size = [[0] * 40, [1] * 40], Size("proportion", 0.25)
    for seed in range(20):
        first, second = (
            chosen("reservoir", stream_of(tasks[:count], seed), size) for count in (1, 2)
        )
        keys = [seeded_keys(40, seed, "replay", "reservoir", task) for task in range(2)]
        candidates = [(int(keys[0][row]), 0, row) for row in first[0]] + [
            (int(keys[1][row]), 1, row) for row in range(40)
        ]
        expected = {(task, row) for _, task, row in sorted(candidates)[:20]}
        assert {(task, row) for task in range(2) for row in second[task]} == expected
