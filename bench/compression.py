"""Size, writing and reading time of a shard of natural images, by compression.

    python bench/compression.py FOLDER      # a folder with train/<class>/* and test/<class>/*

Writes 2,000 of its images as a shard and reads it back; the fastest of 15 interleaved repetitions
counts.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

from kaizen.data.reading import ReadImages
from kaizen.data.schema import ShardRow
from kaizen.data.shards import ShardWriter
from kaizen.data.sources import open_source
from kaizen.params import DatasetParams, ImageParams
from kaizen.views.decode import load_shard

Compression = Literal["none", "zstd"]
COMPRESSIONS: tuple[Compression, ...] = ("none", "zstd")


def main() -> None:
    """Print a line per compression."""
    dataset = DatasetParams(source="image_folder", path=sys.argv[1])
    source = open_source(dataset)
    rows = source.rows("train")[::25][:2000]
    records = [
        record for record in ReadImages(source, "raw", 1)(rows) if isinstance(record, ShardRow)
    ]
    image = ImageParams(size=32, load_size=32, channels=3)
    best: dict[Compression, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(15):
            for compression in COMPRESSIONS:
                path = Path(folder) / f"{compression}.parquet"
                times = best.setdefault(compression, [float("inf")] * 2)
                began = time.perf_counter()
                with ShardWriter(
                    path,
                    dataset="bench",
                    part="train",
                    task=0,
                    classes=[],
                    class_names=[],
                    compression=compression,
                ) as writer:
                    for record in records:
                        writer.write(record)
                written = time.perf_counter()
                load_shard(path, image)
                times[0] = min(times[0], written - began)
                times[1] = min(times[1], time.perf_counter() - written)
        for compression, (writing, reading) in best.items():
            size = (Path(folder) / f"{compression}.parquet").stat().st_size
            print(
                f"{compression}: {size / 1e6:.2f} MB, written in {1e3 * writing:.1f} ms, read in "
                f"{1e3 * reading:.1f} ms"
            )


if __name__ == "__main__":
    main()
