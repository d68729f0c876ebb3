"""The sources that come as one archive, on small archives of the same format with their checksums
put in the table.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import pickle
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kaizen.data.ingest import ingest
from kaizen.data.shards import read_table
from kaizen.data.sources import cifar, open_source, stl10
from kaizen.data.sources.archive import Archive
from kaizen.data.sources.base import Source
from kaizen.errors import KaizenError
from kaizen.params import DatasetParams, LabelsParams, SplitParams

CLASSES = {"cifar10": 10, "cifar100": 100}


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def batches(source: str) -> dict[str, dict[bytes, Any]]:
    """Batches as published: bytes as keys, rows of 3,072 bytes, labels as lists; each class once
    per batch or more.
    """
    generator = np.random.default_rng(0)
    members = cifar.ARCHIVES[source].members
    key = b"labels" if source == "cifar10" else b"fine_labels"
    found = {}
    for name in members["train"] + members["test"]:
        labels = [
            int(label)
            for label in generator.permutation(np.arange(2 * CLASSES[source]) % CLASSES[source])
        ]
        data = generator.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        found[name] = {
            b"data": data,
            key: labels,
            b"coarse_labels": [0] * len(labels),
            b"filenames": [b"x.png"],
        }
    return found


def publish(
    monkeypatch: pytest.MonkeyPatch, source: str, path: Path, url: str = "http://127.0.0.1:9/absent"
) -> None:
    """Put the archive at ``path`` into the table in the place of the published one."""
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    if source == "stl10":
        monkeypatch.setattr(stl10, "ARCHIVE", Archive(stl10.ARCHIVE.file, url, md5, 1))
    else:
        packed = cifar.ARCHIVES[source]
        archive = Archive(packed.archive.file, url, md5, 1)
        monkeypatch.setitem(cifar.ARCHIVES, source, packed._replace(archive=archive))


def python2_pickle(value: Any, end: bytes = b".") -> bytes:
    """A pickle as Python 2 wrote it, and the published archives hold it: bytes for texts, NumPy by
    its old name.
    """
    if isinstance(value, bytes):
        return b"T" + struct.pack("<i", len(value)) + value + end
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value) + end
    if isinstance(value, list):
        return b"](" + b"".join(python2_pickle(item, b"") for item in value) + b"e" + end
    if isinstance(value, dict):
        return (
            b"}("
            + b"".join(python2_pickle(item, b"") for pair in value.items() for item in pair)
            + b"u"
            + end
        )
    shape = b"(" + b"".join(python2_pickle(side, b"") for side in value.shape) + b"t"
    kind = b"cnumpy\ndtype\n" + python2_pickle(b"u1", b"") + b"K\x00K\x01\x87R"
    kind += b"(K\x03" + python2_pickle(b"|", b"") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n(K\x00t"
        + python2_pickle(b"b", b"")
        + b"\x87R"
    )
    return (
        empty
        + b"(K\x01"
        + shape
        + kind
        + b"I00\n"
        + python2_pickle(value.tobytes(), b"")
        + b"tb"
        + end
    )


def write_cifar(
    folder: Path, source: str, content: dict[str, Any] | None = None, python: int = 3
) -> Path:
    path = folder / cifar.ARCHIVES[source].archive.file
    folder.mkdir(parents=True, exist_ok=True)
    pickled: Callable[[Any], bytes] = (
        python2_pickle if python == 2 else lambda batch: pickle.dumps(batch, 2)
    )
    with tarfile.open(path, "w:gz") as tar:
        for name, batch in (content or batches(source)).items():
            add(tar, name, batch if isinstance(batch, bytes) else pickled(batch))
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads go to the current checkout: none of them to this one."""
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")


def opened(source: str, path: Path | None, **options: Any) -> Source:
    return open_source(DatasetParams(source=source, path=str(path) if path else None, **options))


@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
@pytest.mark.parametrize("python", [2, 3])
def test_cifar_rows_are_the_archives_images(
    source: str, python: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = batches(source)
    path = write_cifar(tmp_path / "data", source, content, python)
    publish(monkeypatch, source, path)
    found = opened(source, path)
    assert len(found.classes) == CLASSES[source] == len(set(found.classes))
    for part, names in cifar.ARCHIVES[source].members.items():
        key = b"labels" if source == "cifar10" else b"fine_labels"
        data = np.concatenate([content[name][b"data"] for name in names])
        labels = np.concatenate([content[name][key] for name in names])
        rows = found.rows(part)
        assert sorted(row.index for row in rows) == list(range(len(labels)))
        assert [(row.label, row.index) for row in rows] == sorted(
            (row.label, row.index) for row in rows
        )
        for row in rows[:7] + rows[-7:]:
            assert row.label == labels[row.index]
            pixels = found.read(row)
            assert isinstance(pixels, np.ndarray) and pixels.shape == (32, 32, 3)
            # Red, green and blue one after the other, each row by row.
            for y, x, channel in ((0, 0, 0), (3, 30, 1), (31, 5, 2)):
                assert pixels[y, x, channel] == data[row.index, 1024 * channel + 32 * y + x]


def test_the_folder_of_the_archive_serves_as_well_and_workers_read_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_cifar(tmp_path / "data", "cifar10")
    publish(monkeypatch, "cifar10", path)
    source = opened("cifar10", path.parent)
    row = source.rows("test")[3]
    message = pickle.dumps(source)
    assert len(message) < 2000
    np.testing.assert_array_equal(pickle.loads(message).read(row), source.read(row))
    assert source.checksums(None) == opened("cifar10", path).checksums(tmp_path / "cache")
    assert len(source.checksums(None)["train"]) == 10


def test_another_archive_is_refused_before_anything_in_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_cifar(tmp_path / "data", "cifar10")
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("the archive was opened"))
    monkeypatch.setattr(cifar.PlainUnpickler, "load", lambda _: pytest.fail("a pickle was read"))
    uses: tuple[Callable[[Source], object], ...] = (
        lambda source: source.checksums(None),
        lambda source: source.rows("train"),
    )
    for use in uses:
        with pytest.raises(
            KaizenError,
            match=r"is not as published: its MD5 is \w+, not c58f30108f718f92721af3b95e74349a",
        ):
            use(opened("cifar10", path))


def test_the_archives_checksum_is_remembered_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_cifar(tmp_path / "data", "cifar10")
    publish(monkeypatch, "cifar10", path)
    opened("cifar10", path).checksums(tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(
            "kaizen.data.sources.archive._md5", lambda _: pytest.fail("the archive was read again")
        )
        opened("cifar10", path).checksums(tmp_path / "cache")
    with open(path, "ab") as file:
        file.write(b"more")
    with pytest.raises(KaizenError, match="not as published"):
        opened("cifar10", path).checksums(tmp_path / "cache")


class Shout:
    """Unpickled plainly it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (lambda path: {b"data": Shout(path)}, "asks for .* which is not plain data"),
        (lambda _: b"cos\nsystem\n(S'true'\ntR.", r"asks for os\.system"),
        (lambda _: b"c_codecs\nencode\n(S'x'\nS'zlib'\ntR.", "asks for the codec"),
        (lambda _: b"cbuiltins\neval\n(S'1'\ntR.", r"asks for builtins\.eval"),
        (lambda _: b"garbage", "cannot be read"),
        (lambda _: {b"labels": [1]}, "cannot be read"),
        (lambda _: [1, 2], "cannot be read"),
        (
            lambda _: {b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]},
            "labels beyond 0 to 9",
        ),
        (
            lambda _: {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]},
            "does not hold 1 images",
        ),
    ],
)
def test_pickles_that_hold_more_than_plain_data_are_refused(
    batch: Callable[[Path], Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace"
    content = batches("cifar10") | {"cifar-10-batches-py/data_batch_3": batch(trace)}
    path = write_cifar(tmp_path / "data", "cifar10", content)
    publish(monkeypatch, "cifar10", path)
    with pytest.raises(KaizenError, match=message) as caught:
        opened("cifar10", path).rows("test")
    assert str(path) in str(caught.value)
    assert not trace.exists()


def test_an_archive_without_a_batch_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = batches("cifar100")
    content.pop("cifar-100-python/test")
    path = write_cifar(tmp_path / "data", "cifar100", content)
    publish(monkeypatch, "cifar100", path)
    with pytest.raises(KaizenError, match="cifar-100-python/test"):
        opened("cifar100", path).rows("train")


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The address of a web server on this machine that serves ``folder``."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, format: str, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_an_absent_archive_is_downloaded_once_and_the_plan_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_cifar(tmp_path / "server", "cifar10")
    downloaded = tmp_path / "checkout" / ".kaizen" / "downloads" / path.name
    with serve(path.parent) as address:
        publish(monkeypatch, "cifar10", path, f"{address}/{path.name}")
        source = opened("cifar10", None)
        checksums = source.checksums(None)
        assert not downloaded.exists()
        assert len(source.rows("test")) == 20
        assert downloaded.read_bytes() == path.read_bytes()
        assert f"downloading {address}" in capsys.readouterr().err
    # The server is gone: what was downloaded serves, also where another path holds no archive.
    for place in (None, tmp_path / "nowhere"):
        again = opened("cifar10", place)
        assert again.checksums(None) == checksums
        assert len(again.rows("train")) == 100
    assert capsys.readouterr().err == ""


def test_a_download_that_fails_says_how_to_do_it_by_hand_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_cifar(tmp_path / "server", "cifar100")
    folder = tmp_path / "checkout" / ".kaizen" / "downloads"
    by_hand = (
        r"fetch it by hand, as with `curl -L -o .*cifar-100-python.tar.gz http.*`, or set "
        r"dataset.path"
    )
    with serve(path.parent) as address:
        publish(monkeypatch, "cifar100", path, f"{address}/{path.name}")
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(KaizenError, match=f"not as published.*{by_hand}"):
            opened("cifar100", None).rows("train")
        path.unlink()
        with pytest.raises(KaizenError, match=f"cannot be downloaded .*{by_hand}"):
            opened("cifar100", None).rows("train")
    with pytest.raises(KaizenError, match=f"cannot be downloaded .*refused.*{by_hand}"):
        opened("cifar100", tmp_path).rows("train")
    assert list(folder.iterdir()) == []


STL10 = {"train": 20, "test": 30, "unlabeled": 7}


@pytest.fixture
def stl10_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The archive's files, in tmp_path/data/stl10_binary and tmp_path/archive; known to the
    table.
    """
    generator = np.random.default_rng(1)
    files = {}
    for name, count in STL10.items():
        files[f"{name}_X.bin"] = generator.bytes(count * 96 * 96 * 3)
        if name != "unlabeled":
            files[f"{name}_y.bin"] = bytes(
                generator.permutation(np.arange(count, dtype=np.uint8) % 10) + 1
            )
    folder = tmp_path / "data" / "stl10_binary"
    folder.mkdir(parents=True)
    (tmp_path / "archive").mkdir()
    with tarfile.open(tmp_path / "archive" / stl10.ARCHIVE.file, "w:gz") as tar:
        for name, data in files.items():
            (folder / name).write_bytes(data)
            add(tar, f"stl10_binary/{name}", data)
            monkeypatch.setitem(stl10.FILES, name, hashlib.md5(data).hexdigest())
    publish(monkeypatch, "stl10", tmp_path / "archive" / stl10.ARCHIVE.file)
    return files


@pytest.mark.parametrize(
    "place", ["archive", "archive/stl10_binary.tar.gz", "data", "data/stl10_binary"]
)
def test_stl10_rows_are_the_files_images(
    stl10_files: dict[str, bytes], tmp_path: Path, place: str
) -> None:
    source = opened("stl10", tmp_path / place)
    for part in ("train", "test"):
        rows = source.rows(part)
        labels = [value - 1 for value in stl10_files[f"{part}_y.bin"]]
        assert [(row.label, row.index) for row in rows] == sorted(
            (label, i) for i, label in enumerate(labels)
        )
        for row in (rows[0], rows[-1]):
            pixels = source.read(row)
            assert isinstance(pixels, np.ndarray) and pixels.shape == (96, 96, 3)
            # Channel by channel, each column by column.
            for y, x, channel in ((0, 0, 0), (3, 80, 1), (95, 5, 2)):
                position = row.index * 96 * 96 * 3 + channel * 96 * 96 + x * 96 + y
                assert pixels[y, x, channel] == stl10_files[f"{part}_X.bin"][position]
    assert source.checksums(None) == opened("stl10", None).checksums(None)


@pytest.mark.parametrize("place", ["archive", "data"])
def test_stl10s_unlabelled_images_come_last(
    stl10_files: dict[str, bytes], tmp_path: Path, place: str
) -> None:
    source = opened("stl10", tmp_path / place, unlabelled=True)
    rows = source.rows("train")
    assert [row.label for row in rows[20:]] == [-1] * 7 and all(row.label >= 0 for row in rows[:20])
    assert sorted(row.index for row in rows) == list(range(27))
    last = source.read(rows[-1])
    assert isinstance(last, np.ndarray) and last[95, 95, 2] == stl10_files["unlabeled_X.bin"][-1]
    assert {row.label for row in source.rows("test")} == set(range(10))


def test_damaged_stl10_files_are_refused(stl10_files: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "data" / "stl10_binary"
    (folder / "unlabeled_X.bin").unlink()
    opened("stl10", folder).checksums(None)
    with pytest.raises(
        KaizenError, match=r"unlabeled_X\.bin cannot be read .*unpack stl10_binary\.tar\.gz again"
    ):
        opened("stl10", folder, unlabelled=True).checksums(None)
    (folder / "test_y.bin").write_bytes(b"\x0b" * 30)
    with pytest.raises(KaizenError, match=r"test_y\.bin is not as published"):
        opened("stl10", folder).checksums(None)
    with pytest.raises(
        KaizenError, match=r"test_y\.bin does not hold one label from 1 to 10 per image"
    ):
        opened("stl10", folder).rows("train")


def test_an_archive_is_ingested_without_worker_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_cifar(tmp_path / "data", "cifar10")
    publish(monkeypatch, "cifar10", path)
    monkeypatch.setattr(
        "kaizen.data.reading.ProcessPoolExecutor", lambda *_: pytest.fail("a process was started")
    )
    dataset = DatasetParams(source="cifar10", path=str(path))
    summary = ingest(dataset, SplitParams(5), LabelsParams(), 4, tmp_path / "out")
    assert [task["train"]["rows"] for task in summary["tasks"]] == [20] * 5
    table = read_table(
        tmp_path / "out" / "task-00.train.parquet", ["image", "path", "label"]
    ).to_pylist()
    source = opened("cifar10", path)
    members = [row for row in source.rows("train") if row.label in summary["tasks"][0]["classes"]]
    for row, expected in zip(table, members, strict=True):
        pixels = source.read(expected)
        assert isinstance(pixels, np.ndarray)
        assert (row["image"], row["path"], row["label"]) == (
            pixels.tobytes(),
            expected.path,
            expected.label,
        )
