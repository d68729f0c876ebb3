from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kaizen.compute.seeds import derive_seed
from kaizen.data.schema import ShardRow
from kaizen.data.shards import ShardWriter
from kaizen.params import ImageParams
from kaizen.views.batches import Batch, ResidentRows, Rows, StreamedRows, cycle, open_rows
from kaizen.views.decode import load_shard, row_group_rows

SIZE = 4
IMAGE = ImageParams(size=SIZE, channels=1)
ROWS = 103
CPU = torch.device("cpu")


def image_of(index: int) -> np.ndarray:
    """An image that tells its index: its first two pixels; noise behind them."""
    pixels = np.random.default_rng(index).integers(0, 256, (SIZE, SIZE, 1), dtype=np.uint8)
    pixels[0, :2, 0] = divmod(index, 256)
    return pixels


def label_of(index: int) -> int:
    return index * 7 % 11 - 1


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of 103 rows in row groups of 10 rows."""
    path = tmp_path_factory.mktemp("shard") / "task-00.train.parquet"
    settings: dict[str, Any] = {
        "dataset": "d",
        "part": "train",
        "task": 0,
        "classes": [0],
        "class_names": ["a"],
    }
    with ShardWriter(path, row_group_mb=10 * SIZE * SIZE / 1e6, **settings) as writer:
        for index in range(ROWS):
            writer.write(
                ShardRow(
                    image_of(index).tobytes(),
                    "raw",
                    SIZE,
                    SIZE,
                    1,
                    label_of(index),
                    index,
                    f"{index}.png",
                )
            )
    assert row_group_rows(path) == [10] * 10 + [3]
    return path


def resident(path: Path, fraction: float = 1.0) -> ResidentRows:
    images, labels = load_shard(path, IMAGE, fraction)
    return ResidentRows(torch.from_numpy(images), torch.from_numpy(labels))


def streamed(path: Path, pool_rows: int = 1, fraction: float = 1.0) -> StreamedRows:
    """Pools of at most so many rows, but of one row group at least."""
    return StreamedRows([path], IMAGE, fraction, pool_rows * SIZE * SIZE, CPU)


# One row group per pool; two or three; nearly half; all in one.
MAKERS: dict[str, Callable[[Path], Rows]] = {
    "resident": resident,
    **{f"pools of {rows}": partial(streamed, pool_rows=rows) for rows in (1, 25, 50, 1000)},
}


@pytest.fixture(params=MAKERS)
def rows(request: pytest.FixtureRequest, shard: Path) -> Rows:
    return MAKERS[request.param](shard)


def indices(batches: Iterable[Batch]) -> list[int]:
    """The row of every image, after checking that image and label are that row's."""
    found = []
    for images, labels in batches:
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert images.shape == (len(labels), 1, SIZE, SIZE)
        for image, label in zip(images, labels.tolist(), strict=True):
            index = int(image[0, 0, 0]) * 256 + int(image[0, 0, 1])
            assert np.array_equal(image.numpy()[0], image_of(index)[:, :, 0])
            assert label == label_of(index)
            found.append(index)
    return found


@pytest.mark.parametrize("size", [1, 8, 10, 34, 103])
def test_every_row_comes_once_but_for_the_tail(rows: Rows, size: int) -> None:
    assert rows.count == ROWS
    batches = list(rows.batches(size, 5, 0))
    assert [len(labels) for _, labels in batches] == [size] * (ROWS // size)
    found = indices(batches)
    assert len(set(found)) == len(found) == ROWS // size * size
    assert set(found) <= set(range(ROWS))


def test_the_tail_is_another_one_each_time(rows: Rows) -> None:
    left_out = [
        frozenset(range(ROWS)) - set(indices(rows.batches(20, seed, 0))) for seed in range(10)
    ]
    assert {len(tail) for tail in left_out} == {3}
    assert len(set(left_out)) == 10


def test_the_order_is_the_seeds(rows: Rows, shard: Path) -> None:
    orders = [indices(rows.batches(10, seed, 0)) for seed in range(5)]
    assert len({tuple(order) for order in orders}) == 5
    assert all(order != sorted(order) for order in orders)
    assert [indices(rows.batches(10, seed, 0)) for seed in range(5)] == orders


@pytest.mark.parametrize("size", [7, 10, 30])
def test_starting_later_gives_the_tail_of_the_same_sequence(rows: Rows, size: int) -> None:
    whole = list(rows.batches(size, 3, 0))
    for start in range(len(whole) + 3):
        tail = list(rows.batches(size, 3, start))
        assert len(tail) == len(whole[start:])
        for (images, labels), (expected_images, expected_labels) in zip(
            tail, whole[start:], strict=True
        ):
            assert torch.equal(images, expected_images)
            assert torch.equal(labels, expected_labels)


@pytest.mark.parametrize("pool_rows", [1, 25, 1000])
def test_streamed_rows_are_the_resident_rows_in_another_order(shard: Path, pool_rows: int) -> None:
    one, two = (
        indices(rows.batches(1, 9, 0)) for rows in (resident(shard), streamed(shard, pool_rows))
    )
    assert Counter(one) == Counter(two) == Counter(range(ROWS))
    assert one != two


@pytest.mark.parametrize("fraction", [0.5, 0.25, 0.07, 0.01])
def test_a_fraction_of_the_rows_streams_as_it_resides(shard: Path, fraction: float) -> None:
    one, two = resident(shard, fraction), streamed(shard, 1, fraction)
    # Of each of the 10 classes and of the unlabelled rows its share, rounded up.
    labels = [label_of(index) for index in range(ROWS)]
    shares = [math.ceil(labels.count(label) * fraction - 1e-9) for label in range(-1, 10)]
    assert min(shares) >= 1 and one.count == two.count == sum(shares) < ROWS * fraction + 11
    expected = indices(one.batches(1, 0, 0))
    assert sorted(expected) == sorted(indices(two.batches(1, 4, 0)))
    assert len(expected) == one.count


def test_a_streams_pools_mix_their_row_groups(shard: Path) -> None:
    def groups_of_first_batch(pool_rows: int, seed: int) -> int:
        return len(
            {
                index // 10
                for index in indices(
                    itertools.islice(streamed(shard, pool_rows).batches(10, seed, 0), 1)
                )
            }
        )

    # One group a pool, and a second one where the short group comes first.
    assert all(groups_of_first_batch(1, seed) <= 2 for seed in range(5))
    assert all(groups_of_first_batch(50, seed) >= 3 for seed in range(5))


def test_a_stream_holds_no_more_than_its_pools(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = streamed(shard, 25)
    sizes = []
    load = rows._load

    def counted(pool: tuple[int, list[int]], seed: int) -> Batch:
        sizes.append(sum(rows.rows[group] for group in pool[1]))
        return load(pool, seed)

    monkeypatch.setattr(rows, "_load", counted)
    batches = rows.batches(10, 1, 0)
    next(batches)
    assert len(sizes) <= 2
    assert isinstance(batches, Generator)
    batches.close()
    list(rows.batches(10, 1, 9))
    assert max(sizes) <= 25
    # Starting at row 90 of 103 in pools of at most 25 rows needs the last one or two.
    assert len(sizes) <= 4


def test_a_stream_that_is_left_early_ends(shard: Path) -> None:
    for count in (1, 3):
        assert len(list(itertools.islice(streamed(shard).batches(10, 0, 0), count))) == count


def test_open_rows_streams_what_is_too_large(shard: Path) -> None:
    whole = ROWS * SIZE * SIZE / 1e6
    assert isinstance(open_rows([shard], IMAGE, 1.0, whole, CPU), ResidentRows)
    large = open_rows([shard], IMAGE, 1.0, whole * 0.9, CPU)
    assert isinstance(large, StreamedRows)
    # Two pools are in memory at a time, and both together stay below the limit.
    assert large.pool_rows <= ROWS * 0.45
    assert isinstance(open_rows([shard], IMAGE, 0.5, whole * 0.9, CPU), ResidentRows)
    assert sorted(indices(large.batches(1, 0, 0))) == list(range(ROWS))


def test_cycling_goes_through_the_rows_again_each_round(rows: Rows) -> None:
    per_round = ROWS // 20
    batches = list(cycle(rows, 20, 11, 0, 3 * per_round + 2))
    assert len(batches) == 3 * per_round + 2
    rounds = [indices(batches[turn * per_round : (turn + 1) * per_round]) for turn in range(4)]
    assert all(len(set(found)) == len(found) for found in rounds)
    assert len({tuple(found[:40]) for found in rounds}) == 4
    for turn, found in enumerate(rounds):
        expected = indices(rows.batches(20, derive_seed(11, "round", turn), 0))
        assert found == expected[: len(found)]


@pytest.mark.parametrize("start", [0, 1, 4, 5, 6, 9, 10, 16, 17])
def test_cycling_from_later_on_gives_the_tail_of_the_same_sequence(rows: Rows, start: int) -> None:
    whole = indices(cycle(rows, 20, 11, 0, 17))
    assert indices(cycle(rows, 20, 11, start, 17)) == whole[start * 20 :]


def test_labels_stay_with_images_of_any_kind(shard: Path) -> None:
    images = torch.arange(12, dtype=torch.uint8).view(6, 2, 1, 1)
    labels = torch.tensor([0, -1, 2, -1, 4, 5])
    for taken, their in ResidentRows(images, labels).batches(2, 0, 0):
        picked: list[Tensor] = [image[0, 0, 0] // 2 for image in taken]
        assert [labels[int(row)] for row in picked] == their.tolist()
