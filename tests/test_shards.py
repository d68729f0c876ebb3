from __future__ import annotations

import contextlib
import io
import json
import math
import os
import resource
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kaizen.compute.torchvision_compat import prepare_torchvision
from kaizen.data import shards
from kaizen.data.image_files import decode_file
from kaizen.data.schema import SCHEMA, ShardRow
from kaizen.data.shards import ShardWriter, iter_row_groups, read_table, shard_info, verify_shard
from kaizen.errors import KaizenError
from kaizen.params import ImageParams
from kaizen.views import decode
from kaizen.views.decode import (
    decoded_bytes,
    load_row_groups,
    load_rows,
    load_shard,
    row_group_rows,
    selected_labels,
    selected_rows,
    stratified_rows,
    whole_shard,
)
from kaizen.views.pixels import convert_channels, to_model_input

COLOUR = ImageParams(size=6, channels=3, mean=[0.5] * 3, std=[0.5] * 3)
GREY = ImageParams(size=6)


def record(pixels: np.ndarray, index: int, label: int = 0) -> ShardRow:
    height, width, channels = pixels.shape
    return ShardRow(
        pixels.tobytes(), "raw", height, width, channels, label, index, f"train/a/{index}.png"
    )


def encoded(pixels: np.ndarray, index: int, label: int = 0, suffix: str = "png") -> ShardRow:
    data = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(data, suffix)
    height, width, channels = pixels.shape
    return ShardRow(
        data.getvalue(), "file", height, width, channels, label, index, f"train/a/{index}.{suffix}"
    )


def random_pixels(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


def write(path: Path, records: list[ShardRow], **options: Any) -> ShardWriter:
    settings: dict[str, Any] = {
        "dataset": "d",
        "part": "train",
        "task": 1,
        "classes": [3, 0],
        "class_names": ["é", 'b"'],
        **options,
    }
    with ShardWriter(path, **settings) as writer:
        for row in records:
            writer.write(row)
    return writer


def test_rows_and_metadata_come_back(tmp_path: Path) -> None:
    pixels = random_pixels(7, 6, 5, 3)
    records = [record(pixels[i], i, label=i % 2 - 1) for i in range(7)]
    writer = write(tmp_path / "s.parquet", records)
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.schema.remove_metadata() == SCHEMA
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        (r.image, r.encoding, r.height, r.width, r.channels, r.label, r.index, r.path)
        for r in records
    ]
    metadata = pq.read_metadata(tmp_path / "s.parquet").metadata
    assert metadata[b"kaizen.content_sha256"].decode() == writer.content_sha256
    assert json.loads(metadata[b"kaizen.classes"]) == [
        {"label": 3, "name": "é"},
        {"label": 0, "name": 'b"'},
    ]
    info = verify_shard(tmp_path / "s.parquet")
    assert (info.dataset, info.part, info.task, info.rows) == ("d", "train", 1, 7)
    assert (info.classes, info.class_names, info.row_groups) == ((3, 0), ("é", 'b"'), (7,))
    assert read_table(tmp_path / "s.parquet", ["label"]).column("label").to_pylist() == [
        i % 2 - 1 for i in range(7)
    ]


def test_content_hash_ignores_layout_and_knows_every_column(tmp_path: Path) -> None:
    pixels = random_pixels(20, 6, 6, 1)
    records = [record(pixels[i], i) for i in range(20)]
    one = write(tmp_path / "a", records)
    other = write(tmp_path / "b", records, compression="none", row_group_mb=0.0001)
    assert len(shard_info(tmp_path / "a").row_groups) == 1 and shard_info(
        tmp_path / "b"
    ).row_groups[:3] == (3, 3, 3)
    assert one.content_sha256 == other.content_sha256
    assert verify_shard(tmp_path / "b").content_sha256 == one.content_sha256
    # The same concatenated bytes cut differently, a changed value in each column, a changed order.
    changes: list[dict[str, object]] = [
        {"image": b"x"},
        {"encoding": "file"},
        {"height": 5},
        {"width": 5},
    ]
    changes += [{"channels": 3}, {"label": 1}, {"index": 9}, {"path": "p"}]
    hashes = {one.content_sha256, write(tmp_path / "c", records[::-1]).content_sha256}
    for change in changes:
        values = {name: getattr(records[4], name) for name in SCHEMA.names} | change
        hashes.add(
            write(tmp_path / "c", [*records[:4], ShardRow(**values), *records[5:]]).content_sha256
        )
    swapped = [ShardRow(a, "raw", 1, 1, 1, 0, 0, "") for a in (b"ab", b"c")]
    recut = [ShardRow(a, "raw", 1, 1, 1, 0, 0, "") for a in (b"a", b"bc")]
    hashes |= {
        write(tmp_path / "c", swapped).content_sha256,
        write(tmp_path / "c", recut).content_sha256,
    }
    assert len(hashes) == 2 + len(changes) + 2


def test_row_groups_stream_in_the_order_asked_for(tmp_path: Path) -> None:
    write(
        tmp_path / "s",
        [record(image, i) for i, image in enumerate(random_pixels(10, 6, 6, 1))],
        row_group_mb=1e-4,
    )
    got = [
        table.column("index").to_pylist()
        for table in iter_row_groups(tmp_path / "s", [2, 0], ["index"])
    ]
    assert got == [[6, 7, 8], [0, 1, 2]]


def test_a_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    before = write(tmp_path / "s", [record(random_pixels(1, 6, 6, 1)[0], 0)]).path.read_bytes()
    with (
        pytest.raises(RuntimeError),
        ShardWriter(
            tmp_path / "s", dataset="d", part="p", task=0, classes=[], class_names=[]
        ) as writer,
    ):
        writer.write(record(random_pixels(1, 6, 6, 1)[0], 1))
        raise RuntimeError
    assert (tmp_path / "s").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """Writing more than 20 kB to a file fails, as on a full disk.

    No fixture: the limit is the whole process's, and between tests pytest writes to its own, longer
    output.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    records = [record(image, i) for i, image in enumerate(random_pixels(1000, 6, 6, 3))]
    with small_files(), pytest.raises(KaizenError, match=r"cannot write .*full\.parquet"):
        write(tmp_path / "full.parquet", records, row_group_mb=0.01)
    assert not list(tmp_path.iterdir())


def test_damage_is_found_and_named(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write(path, [record(image, i) for i, image in enumerate(random_pixels(50, 6, 6, 3))])
    good = path.read_bytes()
    table = pq.read_table(path)
    for content in [b"", b"PAR1", good[:-1], good[: len(good) // 2], good[100:], b"\0" * 5000]:
        path.write_bytes(content)
        with pytest.raises(
            KaizenError, match=r"s\.parquet is not a readable shard .*delete it and run again"
        ):
            verify_shard(path)
    harmless = 0
    for place in range(0, len(good), 61):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :])
        try:
            verify_shard(path)
        except KaizenError as error:
            assert str(path) in str(error) and "delete it and run again" in str(error)
        else:
            # Some bytes, such as the first ones or those of statistics, say nothing about the rows.
            assert pq.read_table(path).equals(table)
            harmless += 1
    assert harmless < len(good) / 61 / 4


def test_what_is_no_shard_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    with pytest.raises(KaizenError, match=r"s\.parquet does not exist"):
        shard_info(path)
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(KaizenError, match=r"not a Kaizen shard: its columns are \['x'\]"):
        verify_shard(path)
    write(path, [record(random_pixels(1, 6, 6, 1)[0], 0)])
    metadata = pq.read_metadata(path).metadata
    table = pq.read_table(path)
    table = table.set_column(
        table.schema.get_field_index("label"), SCHEMA.field("label"), pa.array([7], pa.int32())
    )
    kept = {key: value for key, value in metadata.items() if key.startswith(b"kaizen.")}
    pq.write_table(table.cast(SCHEMA.with_metadata(kept)), path)
    with pytest.raises(KaizenError, match="content hash differs"):
        verify_shard(path)
    pq.write_table(table.cast(SCHEMA.with_metadata(kept | {b"kaizen.schema_version": b"0"})), path)
    with pytest.raises(KaizenError, match="schema 0, not 2"):
        shard_info(path)


@pytest.mark.parametrize(("stored", "image"), [(1, GREY), (3, COLOUR), (1, COLOUR), (3, GREY)])
def test_raw_and_file_encodings_load_to_the_same_pixels(
    tmp_path: Path, stored: int, image: ImageParams
) -> None:
    pixels = random_pixels(9, 6, 5, stored)
    write(tmp_path / "raw", [record(pixels[i], i, i - 1) for i in range(9)], row_group_mb=0.0001)
    write(tmp_path / "file", [encoded(pixels[i], i, i - 1) for i in range(9)])
    mode = "L" if image.channels == 1 else "RGB"
    expected = [Image.fromarray(p[:, :, 0] if stored == 1 else p).convert(mode) for p in pixels]
    wanted = np.stack([np.asarray(e).reshape(6, 5, -1).transpose(2, 0, 1) for e in expected])
    for name in ("raw", "file"):
        images, labels = load_shard(tmp_path / name, image)
        assert images.dtype == np.uint8 and labels.dtype == np.int64 and images.flags.writeable
        np.testing.assert_array_equal(images, wanted)
        assert labels.tolist() == list(range(-1, 8))
        assert decoded_bytes(tmp_path / name, image) == images.nbytes


def test_greyscale_formula_is_pillows() -> None:
    pixels = random_pixels(3, 300, 300, 3)
    for array in pixels:
        np.testing.assert_array_equal(
            convert_channels(array, 1)[:, :, 0], np.asarray(Image.fromarray(array).convert("L"))
        )


@pytest.mark.parametrize("shape", [(40, 60), (60, 41), (37, 37), (16, 16), (5, 9), (16, 20)])
@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_and_cropping_equal_torchvisions(
    shape: tuple[int, int], channels: Literal[1, 3]
) -> None:
    prepare_torchvision()
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    pixels = random_pixels(1, *shape, channels)[0]
    picture = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    expected = Compose([Resize(16, InterpolationMode.BICUBIC), CenterCrop(16)])(picture)
    image = ImageParams(
        size=8, load_size=16, channels=channels, mean=[0.5] * channels, std=[0.5] * channels
    )
    np.testing.assert_array_equal(
        to_model_input(pixels, image),
        np.asarray(expected).reshape(16, 16, channels).transpose(2, 0, 1),
    )


def test_selected_rows_are_evenly_spaced_and_exact() -> None:
    assert selected_rows(10, 1.0).tolist() == list(range(10))
    assert selected_rows(10, 0.5).tolist() == [0, 2, 4, 6, 8]
    assert selected_rows(10, 0.3).tolist() == [0, 3, 6]
    assert selected_rows(100, 0.29).tolist() == [i * 100 // 29 for i in range(29)]
    assert selected_rows(3, 0.01).tolist() == [0]
    assert selected_rows(0, 0.5).tolist() == []
    for rows in (1, 7, 1000):
        for percent in range(1, 101):
            picked = selected_rows(rows, percent / 100).tolist()
            assert picked == [i * 100 // percent for i in range(rows) if i * 100 // percent < rows]


def test_a_share_holds_every_class_and_every_group_of_labels() -> None:
    """99 rows of a common class and one of a rare one; a tenth of the labels, spread as by
    labels.fraction: evenly spaced rows would have met neither.
    """
    common = np.array([0] * 99 + [1])
    assert stratified_rows(common, 0.1).tolist() == [*range(0, 99, 10), 99]
    few = np.where(np.arange(100) % 10 == 5, 0, -1)
    rows = stratified_rows(few, 0.2)
    assert (few[rows] == 0).sum() == 2 and (few[rows] == -1).sum() == 18
    rng = np.random.default_rng(0)
    for fraction in (1.0, 0.5, 0.3, 0.01):
        labels = rng.integers(-1, 5, 200)
        rows = stratified_rows(labels, fraction)
        assert rows.tolist() == sorted(set(rows.tolist()))
        for label in range(-1, 5):
            members = [i for i in range(200) if labels[i] == label]
            count = math.ceil(len(members) * fraction - 1e-9)
            expected = [
                members[min(int(i / fraction + 1e-9), len(members) - 1)] for i in range(count)
            ]
            assert [i for i in rows if labels[i] == label] == expected
    assert stratified_rows(np.empty(0, dtype=np.int64), 0.5).tolist() == []


@pytest.mark.parametrize("fraction", [1.0, 0.7, 0.1, 0.02])
def test_row_groups_hold_the_rows_of_the_whole(tmp_path: Path, fraction: float) -> None:
    pixels = random_pixels(40, 6, 6, 1)
    # Ten classes, each of four rows in a line.
    write(tmp_path / "s", [record(pixels[i], i, i // 4) for i in range(40)], row_group_mb=0.0002)
    images, labels = load_shard(tmp_path / "s", GREY, fraction)
    chosen = np.concatenate([4 * label + selected_rows(4, fraction) for label in range(10)])
    np.testing.assert_array_equal(labels, chosen // 4)
    np.testing.assert_array_equal(images[:, 0], pixels[chosen, :, :, 0])
    np.testing.assert_array_equal(selected_labels(tmp_path / "s", fraction), labels)
    counts = row_group_rows(tmp_path / "s", fraction)
    assert sum(counts) == len(labels) and len(counts) > 3
    order = [3, 0, 2]
    some, their_labels = load_row_groups(tmp_path / "s", GREY, fraction, order)
    bounds = np.cumsum([0, *counts])
    rows = np.concatenate([np.arange(bounds[g], bounds[g + 1]) for g in order])
    np.testing.assert_array_equal(their_labels, labels[rows])
    np.testing.assert_array_equal(some, images[rows])
    assert decoded_bytes(tmp_path / "s", GREY, fraction) == images.nbytes


def test_images_of_different_sizes_need_a_load_size(tmp_path: Path) -> None:
    records = [
        encoded(random_pixels(1, 6, 6 + i % 2, 1 + 2 * (i % 3 == 0))[0], i) for i in range(6)
    ]
    write(tmp_path / "s", records)
    for load in (load_shard, decoded_bytes):
        with pytest.raises(
            KaizenError,
            match=r"image\.load_size: null, but .*\(6 x 6 and 6 x 7 pixels.*set image\.load_size",
        ):
            load(tmp_path / "s", GREY)
    images, _ = load_shard(tmp_path / "s", ImageParams(size=4, load_size=5))
    assert images.shape == (6, 1, 5, 5)
    write(tmp_path / "groups", records, row_group_mb=1e-6)
    with pytest.raises(KaizenError, match=r"image\.load_size: null"):
        load_shard(tmp_path / "groups", GREY)


def test_an_image_that_does_not_fit_its_columns_is_named(tmp_path: Path) -> None:
    pixels = random_pixels(1, 6, 6, 1)[0]
    for bad in (b"junk", encoded(random_pixels(1, 5, 6, 1)[0], 0).image):
        write(
            tmp_path / "s",
            [encoded(pixels, 0), ShardRow(bad, "file", 6, 6, 1, 0, 1, "train/a/bad.png")],
        )
        with pytest.raises(KaizenError, match=r"bad\.png"):
            load_shard(tmp_path / "s", GREY)
    write(tmp_path / "s", [record(pixels, 0), ShardRow(b"123", "raw", 6, 6, 1, 0, 1, "")])
    with pytest.raises(KaizenError, match="do not fit"):
        load_shard(tmp_path / "s", GREY)


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("fraction", [1.0, 0.3])
@pytest.mark.parametrize("row", [record, encoded])
def test_blocks_of_several_shards_fill_one_array_in_the_order_asked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    fraction: float,
    row: Callable[..., ShardRow],
) -> None:
    """Row groups of more rows than a block, whatever the number of threads."""
    monkeypatch.setattr(shards, "_BLOCK", 1)
    monkeypatch.setattr(shards, "_BLOCK_ROWS", 7)
    monkeypatch.setattr(decode, "decode_threads", lambda: threads)
    pixels = random_pixels(90, 6, 6, 1)
    write(tmp_path / "a", [row(pixels[i], i, i // 10) for i in range(50)])
    write(tmp_path / "b", [row(pixels[i], i, i // 10) for i in range(50, 90)], row_group_mb=0.0006)
    assert shard_info(tmp_path / "a").row_groups == (50,)
    assert len(shard_info(tmp_path / "b").row_groups) > 1
    blocks = list(shards.iter_blocks(tmp_path / "a", [0]))
    assert [(begin, table.num_rows) for _, begin, table in blocks] == [
        (begin, min(7, 50 - begin)) for begin in range(0, 50, 7)
    ]
    parts = [(path, whole_shard(path)) for path in (tmp_path / "b", tmp_path / "a")]
    images, labels = load_rows(parts, GREY, fraction)
    single = [load_shard(path, GREY, fraction) for path, _ in parts]
    chosen = np.concatenate([10 * tens + selected_rows(10, fraction) for tens in range(9)])
    chosen = np.concatenate([chosen[chosen >= 50], chosen[chosen < 50]])
    np.testing.assert_array_equal(images[:, 0], pixels[chosen, :, :, 0])
    np.testing.assert_array_equal(labels, chosen // 10)
    np.testing.assert_array_equal(images, np.concatenate([part for part, _ in single]))
    order = np.random.default_rng(0).permutation(len(labels))
    mixed, their_labels = load_rows(parts, GREY, fraction, order)
    np.testing.assert_array_equal(mixed, images[order])
    np.testing.assert_array_equal(their_labels, labels[order])


def test_the_first_bad_image_is_named_however_many_threads(tmp_path: Path) -> None:
    good = random_pixels(1, 6, 6, 1)[0]
    rows = [encoded(good, i) for i in range(200)]
    for i in (90, 130, 131):
        rows[i] = ShardRow(b"junk", "file", 6, 6, 1, 0, i, f"bad-{i}.png")
    write(tmp_path / "s", rows)
    for _ in range(5):
        with pytest.raises(KaizenError, match=r"bad-90\.png"):
            load_shard(tmp_path / "s", GREY)


def test_shards_whose_sizes_differ_need_a_load_size(tmp_path: Path) -> None:
    for name, side in (("a", 6), ("b", 7)):
        write(tmp_path / name, [record(random_pixels(1, side, side, 1)[0], 0)])
    parts = [(tmp_path / name, [0]) for name in ("a", "b")]
    with pytest.raises(KaizenError, match=r"null, but the images of .*b differ in size \(6 x 6 an"):
        load_rows(parts, GREY)


def test_one_image_is_decoded_for_each_core_of_the_process() -> None:
    program = (
        "import os; from kaizen.views.decode import decode_threads; print(decode_threads());"
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); print(decode_threads())"
    )
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity on this system")
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == [str(len(os.sched_getaffinity(0))), "1"]


_PEAK = """
import sys
from pathlib import Path
import torch
from kaizen.params import ImageParams
from kaizen.views.batches import open_rows

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM"))

image = ImageParams(size=6, channels=3, mean=[0.5] * 3, std=[0.5] * 3)
small, *paths = map(Path, sys.argv[2:])
device = torch.device("cpu")
open_rows([small], image, 1.0, 1000.0, device)  # loads what code there is
before = peak()
rows = open_rows(paths, image, 1.0, float(sys.argv[1]), device)
for images, _ in rows.batches(64, 0, 0):
    pass
print(type(rows).__name__, peak() - before)
"""


@pytest.mark.parametrize(
    ("limit_mb", "kind", "most_mb"), [(1000, "ResidentRows", 92), (20, "StreamedRows", 60)]
)
def test_loading_takes_little_more_memory_than_the_pixels(
    tmp_path: Path, limit_mb: int, kind: str, most_mb: float
) -> None:
    """60 MB in three shards: 1.2 times as much, and what was allowed, plus 20 and 40 MB for what
    Arrow and the allocator hold whatever the data. It was 142 and 65 to 85 MB.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc on this system")
    pixels = random_pixels(10, 100, 100, 3)
    write(tmp_path / "small", [record(pixels[0], 0)] * 10)
    paths = [tmp_path / f"s{i}" for i in range(3)]
    for path in paths:
        write(path, [record(pixels[i % 10], i) for i in range(667)], row_group_mb=4)
    command = [
        sys.executable,
        "-c",
        _PEAK,
        str(limit_mb),
        str(tmp_path / "small"),
        *map(str, paths),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found, peak = done.stdout.split()
    assert found == kind
    assert float(peak) <= most_mb


def test_an_empty_shard_is_valid(tmp_path: Path) -> None:
    write(tmp_path / "s", [])
    assert verify_shard(tmp_path / "s").rows == 0
    images, labels = load_shard(tmp_path / "s", COLOUR)
    assert images.shape == (0, 3, 6, 6) and labels.shape == (0,)
    assert decoded_bytes(tmp_path / "s", COLOUR) == 0


def saved(image: Image.Image, suffix: str, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, suffix, **options)
    return data.getvalue()


def test_every_kind_of_image_decodes_sensibly() -> None:
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4) * 17
    assert decode_file(saved(Image.fromarray(grey), "png")).tolist() == grey[:, :, None].tolist()
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    for suffix in ("png", "tiff", "ppm"):
        assert decode_file(saved(wide, suffix)).tolist() == grey[:, :, None].tolist(), suffix
    two_tone = Image.fromarray(grey > 100)
    assert decode_file(saved(two_tone, "png"))[:, :, 0].tolist() == ((grey > 100) * 255).tolist()
    colour = np.stack([grey, grey.T, 255 - grey], axis=2)
    for suffix in ("png", "bmp", "tiff", "ppm"):
        np.testing.assert_array_equal(decode_file(saved(Image.fromarray(colour), suffix)), colour)
    palette = Image.fromarray(colour).quantize(16)
    np.testing.assert_array_equal(
        decode_file(saved(palette, "gif")), np.asarray(palette.convert("RGB"))
    )
    assert decode_file(saved(Image.fromarray(colour).convert("CMYK"), "jpeg")).shape == (4, 4, 3)
    clear = Image.new("RGBA", (2, 2), (9, 9, 9, 0))
    clear.putpixel((0, 0), (1, 2, 3, 255))
    assert decode_file(saved(clear, "png"))[0].tolist() == [[1, 2, 3], [255, 255, 255]]
    turned = Image.fromarray(colour[:, :3])
    exif = turned.getexif()
    exif[0x0112] = 6
    np.testing.assert_array_equal(
        decode_file(saved(turned, "png", exif=exif)), np.rot90(colour[:, :3], -1)
    )


def test_bad_images_are_refused_with_a_reason() -> None:
    good = saved(Image.fromarray(random_pixels(1, 30, 30, 3)[0]), "jpeg")
    for data in (b"", b"not an image", good[:100], good[:-50]):
        with pytest.raises(ValueError, match=r"."):
            decode_file(data)
    with pytest.raises(ValueError, match="convert it to 8 or 16 bits"):
        decode_file(saved(Image.new("F", (2, 2)), "tiff"))
    # A PNG header that claims 60,000 x 2,000 pixels: decoding it would take 360 MB.
    bomb = bytearray(saved(Image.new("RGB", (2, 2)), "png"))
    bomb[16:24] = (60_000).to_bytes(4, "big") + (2_000).to_bytes(4, "big")
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(ValueError, match="60000 x 2000 pixels"),
    ):
        decode_file(bytes(bomb))
