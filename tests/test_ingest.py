from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kaizen.data.ingest import ingest
from kaizen.data.labels import labelled
from kaizen.data.shards import verify_shard
from kaizen.data.split import class_tasks
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams, ImageParams, LabelsParams, SplitParams
from kaizen.views.decode import load_shard

CLASSES = ["a", "b c", "d'e", "ß"]
TRAIN, TEST = 11, 3


@pytest.fixture
def root(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("val", TEST)):
        for name in CLASSES:
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{number:02d}.png")
    return tmp_path / "data"


def run(
    root: Path, out: Path, workers: int = 1, fraction: float = 1.0, **options: Any
) -> dict[str, Any]:
    dataset = DatasetParams(source="image_folder", path=str(root), **options)
    return ingest(dataset, SplitParams(2, 5), LabelsParams(fraction), workers, out)


def test_shards_hold_the_images_of_their_tasks(root: Path, tmp_path: Path) -> None:
    summary = run(root, tmp_path / "out")
    assert summary == json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert (summary["dataset"], summary["classes"], summary["num_classes"]) == (
        "image_folder",
        CLASSES,
        4,
    )
    tasks = class_tasks(4, 2, 5)
    position = {"train": TRAIN, "test": TEST}
    for task, classes in enumerate(tasks):
        entry = summary["tasks"][task]
        assert entry["classes"] == classes and entry["class_names"] == [
            CLASSES[label] for label in classes
        ]
        for part, folder in (("train", "train"), ("test", "val")):
            path = tmp_path / "out" / f"task-{task:02d}.{part}.parquet"
            info = verify_shard(path)
            assert (info.part, info.task, info.classes) == (part, task, tuple(classes))
            count = position[part]
            assert entry[part] == {
                "rows": 2 * count,
                "labelled": 2 * count,
                "skipped": 0,
                "colour": 2 * count,
                "content_sha256": info.content_sha256,
                "height": [8, 8],
                "width": [8, 8],
            }
            expected = [(label, number) for label in sorted(classes) for number in range(count)]
            for row, (label, number) in zip(pq.read_table(path).to_pylist(), expected, strict=True):
                assert row["path"] == f"{folder}/{CLASSES[label]}/{number:02d}.png"
                assert (row["label"], row["index"], row["encoding"]) == (
                    label,
                    number,
                    "raw",
                )
                assert (row["height"], row["width"], row["channels"]) == (8, 8, 3)
                assert row["image"] == np.asarray(Image.open(root / row["path"])).tobytes()


def test_bytes_depend_neither_on_workers_nor_on_the_folder(root: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "one")
    run(root.rename(tmp_path / "moved"), tmp_path / "three", workers=3)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [
        *(f"task-0{t}.{part}.parquet" for t in (0, 1) for part in ("test", "train")),
        "tasks.json",
    ]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()


def test_encodings_hold_the_same_images(root: Path, tmp_path: Path) -> None:
    Image.new("L", (8, 8), 7).save(root / "train" / "a" / "00.png")
    image = ImageParams(size=8, channels=3, mean=[0.5] * 3, std=[0.5] * 3)
    loaded = {}
    for encoding, limit in (("raw", 1), ("file", 10**6), ("auto", 100), ("auto", 192)):
        run(root, tmp_path / "out", encoding=encoding, raw_limit=limit)
        stored = (
            pq.read_table(tmp_path / "out" / "task-00.train.parquet").column("encoding").to_pylist()
        )
        stored += (
            pq.read_table(tmp_path / "out" / "task-01.train.parquet").column("encoding").to_pylist()
        )
        # 8 x 8 pixels: 192 bytes in colour, 64 in grey.
        expected = {("raw", 1): 44, ("file", 10**6): 0, ("auto", 100): 1, ("auto", 192): 44}
        assert stored.count("raw") == expected[encoding, limit]
        loaded[encoding, limit] = [
            load_shard(tmp_path / "out" / f"task-0{t}.train.parquet", image)[0] for t in (0, 1)
        ]
    for images in loaded.values():
        for one, other in zip(images, loaded["raw", 1], strict=True):
            np.testing.assert_array_equal(one, other)


def test_labels_are_withheld_from_training_images_only(root: Path, tmp_path: Path) -> None:
    summary = run(root, tmp_path / "out", fraction=0.3)
    for task, classes in enumerate(class_tasks(4, 2, 5)):
        train, test = (
            pq.read_table(tmp_path / "out" / f"task-0{task}.{part}.parquet")
            for part in ("train", "test")
        )
        true = np.repeat(sorted(classes), TRAIN)
        expected = np.where(labelled(true, 0.3, 0), true, -1)
        assert train.column("label").to_pylist() == expected.tolist()
        assert summary["tasks"][task]["train"]["labelled"] == 2 * 4
        assert test.column("label").to_pylist() == np.repeat(sorted(classes), TEST).tolist()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_corrupt_image_stops_the_ingestion_by_name(
    root: Path, tmp_path: Path, workers: int
) -> None:
    victim = root / "train" / "b c" / "05.png"
    victim.write_bytes(victim.read_bytes()[:90])
    with pytest.raises(
        KaizenError, match=r"b c/05\.png cannot be read as an image .*on_corrupt: skip"
    ) as caught:
        run(root, tmp_path / "out", workers)
    assert str(victim) in str(caught.value)
    assert not (tmp_path / "out" / "tasks.json").exists()
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix == ".tmp"]


def test_corrupt_images_can_be_skipped_and_are_counted(root: Path, tmp_path: Path) -> None:
    (root / "train" / "b c" / "05.png").write_bytes(b"")
    (root / "val" / "b c" / "00.png").write_bytes(b"GIF89a")
    summary = run(root, tmp_path / "out", on_corrupt="skip")
    task = next(t for t, classes in enumerate(class_tasks(4, 2, 5)) if 1 in classes)
    entry = summary["tasks"][task]
    assert (entry["train"]["skipped"], entry["train"]["rows"]) == (1, 2 * TRAIN - 1)
    assert (entry["test"]["skipped"], entry["test"]["rows"]) == (1, 2 * TEST - 1)
    table = pq.read_table(tmp_path / "out" / f"task-0{task}.train.parquet")
    assert "train/b c/05.png" not in table.column("path").to_pylist()
    # The others keep the positions they have in their class.
    index = [row["index"] for row in table.to_pylist() if row["label"] == 1]
    assert index == [number for number in range(TRAIN) if number != 5]


def test_a_class_that_skipping_empties_is_an_error(root: Path, tmp_path: Path) -> None:
    for path in (root / "val" / "ß").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(
        KaizenError, match=r"class 'ß' has no readable image left in its test part.*00\.png"
    ):
        run(root, tmp_path / "out", on_corrupt="skip")


def test_progress_counts_every_image(root: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    dataset = DatasetParams(source="image_folder", path=str(root))
    ingest(
        dataset,
        SplitParams(2),
        LabelsParams(),
        1,
        tmp_path / "out",
        progress=lambda done, total: seen.append((done, total)),
    )
    total = 4 * (TRAIN + TEST)
    assert seen[-1] == (total, total) and seen == sorted(seen) and len(seen) >= 4


def test_an_impossible_split_is_refused(root: Path, tmp_path: Path) -> None:
    dataset = DatasetParams(source="image_folder", path=str(root))
    with pytest.raises(KaizenError, match=r"split\.tasks: 3 does not divide the 4 classes"):
        ingest(dataset, SplitParams(3), LabelsParams(), 1, tmp_path / "out")


def test_digits_become_five_tasks(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    summary = ingest(DatasetParams(), SplitParams(), LabelsParams(), 1, tmp_path)
    bunch = load_digits()
    seen = 0
    for task, entry in enumerate(summary["tasks"]):
        for part in ("train", "test"):
            images, labels = load_shard(
                tmp_path / f"task-{task:02d}.{part}.parquet", ImageParams(size=8)
            )
            paths = (
                pq.read_table(tmp_path / f"task-{task:02d}.{part}.parquet")
                .column("path")
                .to_pylist()
            )
            index = np.array([int(path.rpartition("/")[2]) for path in paths])
            np.testing.assert_array_equal(labels, bunch.target[index])
            np.testing.assert_array_equal(images[:, 0], np.rint(bunch.images[index] * 255 / 16))
            assert set(labels) == set(entry["classes"])
            seen += len(labels)
    assert seen == 1797


def test_workers_end_when_the_ingestion_is_killed(root: Path, tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)).save(
        data, "png"
    )
    for number in range(400):
        (root / "train" / "a" / f"big{number}.png").write_bytes(data.getvalue())
    script = tmp_path / "job.py"
    script.write_text(
        "from pathlib import Path\nfrom kaizen.data.ingest import ingest\nfrom kaizen.params "
        "import *\n"
        "if __name__ == '__main__':\n"
        f"    dataset = DatasetParams(source='image_folder', path={str(root)!r})\n"
        f"    out = Path({str(tmp_path / 'out')!r})\n"
        "    ingest(dataset, SplitParams(2), LabelsParams(), 2, out, lambda *_: "
        "print(flush=True))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, env=environment, start_new_session=True
    ) as job:
        assert job.stdout is not None
        job.stdout.readline()
        job.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(job.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        os.killpg(job.pid, signal.SIGKILL)
        pytest.fail("worker processes outlive their parent")
    assert not (tmp_path / "out" / "tasks.json").exists()
