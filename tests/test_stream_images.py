"""A stream of real photographs: classes of Tiny ImageNet, of which some come back, some are not
labelled, and some have three labels.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from project import REPOSITORY, Project
from stream_project import RAW, append, make_stream

from kaizen.data.arrivals import read_stream
from kaizen.files import read_json

ARCHIVE = REPOSITORY.parent / "shared" / "data" / "tiny-imagenet-100.tar.xz"
# Classes, by their place in the archive, and images of each.
CLASSES, IMAGES = 8, 24


@pytest.fixture(scope="module")
def photographs() -> dict[str, list[bytes]]:
    """JPEG files of the first classes of the archive, by class."""
    if not ARCHIVE.is_file():
        pytest.skip(f"no {ARCHIVE}: the real images are not here")
    found: dict[str, list[bytes]] = {}
    with tarfile.open(ARCHIVE, "r|xz") as archive:
        for member in archive:
            parts = member.name.split("/")
            if not member.isfile() or parts[1] != "train":
                continue
            images = found.setdefault(parts[2], [])
            if len(found) > CLASSES:
                break
            file = archive.extractfile(member)
            if file is not None and len(images) < IMAGES:
                images.append(file.read())
    return {name: found[name] for name in list(found)[:CLASSES]}


def write(folder: Path, images: list[bytes]) -> list[str]:
    """Write images as 00.jpg, 01.jpg, …; returns their names."""
    folder.mkdir(parents=True)
    names = [f"{number:02d}.jpg" for number in range(len(images))]
    for name, image in zip(names, images, strict=True):
        (folder / name).write_bytes(image)
    return names


def test_photographs_arrive(photographs: dict[str, list[bytes]], tmp_path: Path) -> None:
    names = sorted(photographs)
    late, early = names[4:6], names[0:2]
    image = {
        "image.size": 16,
        "image.load_size": 16,
        "image.mean": [0.48, 0.45, 0.4],
        "image.std": [0.28, 0.27, 0.28],
        "replay.proportion": None,
        "replay.memory": [12],
        "replay.policy": "reservoir",
    }
    project: Project = make_stream(tmp_path / "project", image, arrivals=())
    raw = project.root / RAW
    for name in late:
        write(raw / "day-0" / name, photographs[name][:12])
    for name in early:
        write(raw / "day-1" / "train" / name, photographs[name][:16])
        write(raw / "day-1" / "test" / name, photographs[name][16:])
    write(raw / "day-2" / late[0], photographs[late[0]][12:])
    write(raw / "day-2" / names[2], photographs[names[2]])
    write(raw / "day-3" / "unlabelled" / "camera" / "1", photographs[names[6]])
    files = write(raw / "day-4", photographs[names[7]])
    labels = dict.fromkeys(files, "") | dict.fromkeys(files[:3], names[7])
    lines = ["path,label", *(f"{file},{label}" for file, label in labels.items())]
    (raw / "day-4" / "labels.csv").write_text("\n".join(lines) + "\n")
    steps: list[str] = []
    for number in range(5):
        append(project, number)
        project.start_counting()
        project.kaizen("run").good()
        made = {"shards": 1, "replay": 1, "step": 2, "evaluation": 2, "summary": 1}
        first = {"shards": 1, "step": 1, "evaluation": 1, "summary": 1}
        assert project.jobs() == (made if number else first)
        assert set(steps) <= set(project.keys("step"))
        steps = project.keys("step")
    stream = read_stream(project.root)
    assert stream is not None
    assert list(stream.classes) == [*late, *early, names[2], names[7]]
    assert [each.labels for each in stream.arrivals] == [[0, 1], [2, 3], [0, 4], [], [5]]
    assert stream.arrivals[4].unlabelled == IMAGES - 3
    shard = pq.read_table(project.root / "data/shards/task-04/task-04.train.parquet")
    assert sorted(shard["label"].to_pylist()) == [-1] * (IMAGES - 3) + [5, 5]
    for replay in sorted(project.root.glob("data/replay/*/step-*/replay.parquet")):
        assert 0 < pq.read_metadata(replay).num_rows <= 12, "the memory bounds the total for ever"
    run = next(project.root.glob("results/evaluations/simclr-kaizen-*"))
    row = read_json(run / "step-04" / "accuracy.json")["row"]
    assert [value is None for value in row["classifier"]] == [False, False, False, True, False]
