"""Made-up images, and images that are shrunk when they are ingested."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from project import write_image

from kaizen.data.image_files import decode_file, shrink
from kaizen.data.ingest import ingest
from kaizen.data.sources import open_source
from kaizen.data.sources.base import Source
from kaizen.params import DatasetParams, LabelsParams, SplitParams, SyntheticParams


def synthetic(**options: Any) -> Source:
    return open_source(DatasetParams(source="synthetic", synthetic=SyntheticParams(**options)))


def test_synthetic_images_depend_on_class_and_number_alone() -> None:
    small, large = (
        synthetic(classes=3, train=4, test=2, size=10),
        synthetic(classes=5, train=9, test=3, size=10),
    )
    by_path = {row.path: large.read(row) for part in ("train", "test") for row in large.rows(part)}
    assert (
        len(by_path) == 5 * 12
        and len({np.asarray(pixels).tobytes() for pixels in by_path.values()}) == 60
    )
    for part in ("train", "test"):
        for row in small.rows(part):
            pixels = small.read(row)
            assert (
                isinstance(pixels, np.ndarray)
                and pixels.shape == (10, 10, 3)
                and pixels.dtype == np.uint8
            )
            np.testing.assert_array_equal(pixels, by_path[row.path])
    assert small.classes == ["0000", "0001", "0002"]
    same, other = (
        small.checksums(None)["test"],
        synthetic(classes=3, train=9, test=2, size=10).checksums(None),
    )
    assert same == other["test"] and other["train"] != small.checksums(None)["train"]
    grey = synthetic(size=7, channels=1)
    pixels = grey.read(grey.rows("train")[0])
    assert isinstance(pixels, np.ndarray) and pixels.shape == (7, 7, 1)


def test_synthetic_classes_can_be_told_apart() -> None:
    source = synthetic(classes=8, train=20, test=10, size=16)
    train, test = (
        (
            np.array([np.asarray(source.read(row), float).ravel() for row in rows]),
            np.array([row.label for row in rows]),
        )
        for rows in (source.rows("train"), source.rows("test"))
    )
    means = np.array([train[0][train[1] == label].mean(axis=0) for label in range(8)])
    nearest = ((test[0][:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == test[1]).mean() > 0.95


@pytest.mark.parametrize("size", [(50, 90), (90, 50), (31, 64), (33, 33)])
@pytest.mark.parametrize("channels", [1, 3])
def test_shrinking_is_pytorchs_antialiased_resize(size: tuple[int, int], channels: int) -> None:
    # Far from black and white: Pillow would cut off there between its two passes, in which it also
    # rounds.
    pixels = np.random.default_rng(0).integers(80, 176, (*size, channels), dtype=np.uint8)
    found = shrink(pixels, 32)
    if min(size) <= 32:
        assert found is pixels
        return
    sides = [int(32 * side / min(size)) for side in size]
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(tensor, sides, mode="bicubic", antialias=True)
    expected = resized[0].permute(1, 2, 0).clamp(0, 255).round().numpy()
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_large_images_are_shrunk_when_ingested_and_small_ones_left_as_they_are(
    tmp_path: Path,
) -> None:
    root = tmp_path / "data"
    for seed, part in ((0, "train"), (10, "test")):
        write_image(root / part / "a" / "large.png", seed + 1, (60, 40))
        write_image(root / part / "a" / "small.png", seed + 2, (19, 30))
        write_image(root / part / "a" / "exact.png", seed + 3, (20, 20))
    large = Image.open(root / "train" / "a" / "large.png")
    expected = np.asarray(large.resize((20, 30), Image.Resampling.BICUBIC))
    split = SplitParams(1)
    cases: tuple[tuple[Literal["auto", "file"], int, list[str]], ...] = (
        ("auto", 16384, ["raw"] * 3),
        ("auto", 1500, ["raw", "file", "file"]),
        ("file", 1, ["file"] * 3),
    )
    for encoding, limit, encodings in cases:
        dataset = DatasetParams(
            source="image_folder",
            path=str(root),
            resize=20,
            encoding=encoding,
            raw_limit=limit,
        )
        ingest(dataset, split, LabelsParams(), 1, tmp_path / "out")
        rows = {
            Path(row["path"]).stem: row
            for row in pq.read_table(tmp_path / "out" / "task-00.train.parquet").to_pylist()
        }
        assert [rows[name]["encoding"] for name in ("exact", "large", "small")] == encodings
        assert (rows["large"]["height"], rows["large"]["width"]) == (30, 20)
        if rows["large"]["encoding"] == "raw":
            assert rows["large"]["image"] == expected.tobytes()
        else:
            assert Image.open(io.BytesIO(rows["large"]["image"])).format == "PNG"
            np.testing.assert_array_equal(decode_file(rows["large"]["image"]), expected)
            assert rows["small"]["image"] == (root / "train" / "a" / "small.png").read_bytes()
        assert (rows["small"]["height"], rows["small"]["width"]) == (19, 30)
