"""Files are written as a whole or not at all, links keep their source, and reading is bounded."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import commit_fake, tree
from nodes import FILES, NODE, OTHER

from kaizen.errors import KaizenError
from kaizen.files import atomic_path, printable, read_json, sha256_file, write_json, write_text
from kaizen.store.links import link_or_copy
from kaizen.store.records import FileEntry
from kaizen.store.store import Store

# -- links -------------------------------------------------------------------------------------


def test_a_read_only_file_is_linked_and_a_writable_one_copied(tmp_path: Path) -> None:
    for mode, shared in ((0o444, True), (0o644, False), (0o464, False), (0o446, False)):
        source, target = tmp_path / f"source{mode:o}", tmp_path / f"new/folder/target{mode:o}"
        source.write_text("content")
        source.chmod(mode)
        link_or_copy(source, target)
        assert target.read_text() == "content"
        assert os.path.samefile(source, target) == shared
        assert stat.S_IMODE(target.stat().st_mode) == 0o444
        assert stat.S_IMODE(source.stat().st_mode) == mode


def test_an_edit_of_a_writable_source_does_not_reach_the_copy(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("content")
    link_or_copy(source, target)
    source.write_text("edited")
    assert target.read_text() == "content"


def test_a_link_replaces_what_stood_there_and_leaves_no_traces(tmp_path: Path) -> None:
    source, target, symbolic = tmp_path / "source", tmp_path / "target", tmp_path / "symbolic"
    source.write_text("content")
    source.chmod(0o444)
    target.write_text("old")
    symbolic.symlink_to(source)
    link_or_copy(symbolic, target)
    link_or_copy(source, target)
    assert os.path.samefile(source, target)
    assert not target.is_symlink()
    assert tree(tmp_path) == ["source", "symbolic", "target"]


# -- writing -----------------------------------------------------------------------------------


def test_a_write_removes_what_killed_writers_left(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    host = socket.gethostname()
    names = {
        f".file.{host}.{gone.pid}.abcd.tmp": False,
        f".file.{host}.{os.getpid()}.abcd.tmp": True,  # may be a thread of ours
        f".file.elsewhere.{gone.pid}.abcd.tmp": True,  # not ours to judge
        f".file.txt.{host}.{gone.pid}.abcd.tmp": True,  # of another file
        f".file.{host}.mine": True,
    }
    for name in names:
        (tmp_path / name).write_text("half")
    write_text(tmp_path / "file", "whole")
    assert set(tree(tmp_path)) == {"file", *(name for name, kept in names.items() if kept)}


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    write_json(path, {"b": 1, "a": [1.5]})
    assert path.read_text() == '{\n  "a": [\n    1.5\n  ],\n  "b": 1\n}\n'
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="nan"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": [1.5], "b": 1}
    assert tree(tmp_path) == ["new/file.json"]


def test_hashes_are_those_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "large"
    content = bytes(range(256)) * 10000
    path.write_bytes(content)
    entry = FileEntry(hashlib.sha256(content).hexdigest(), len(content))
    assert sha256_file(path) == entry.sha256
    assert entry.mismatch(path) == ""


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writes: tuple[Callable[[], object], ...] = (
        lambda: write_text(tmp_path / "file" / "a" / "b", "x"),
        lambda: commit_fake(Store(tmp_path / "file"), NODE),
    )
    for write in writes:
        with pytest.raises(
            KaizenError, match=r"cannot write .*/file/.*(Not a directory|File exists)"
        ):
            write()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "kaizen-test", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root may mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_reported_and_loses_nothing(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    commit_fake(store, NODE, FILES)
    write_text(small_disk / "file", "old")
    with pytest.raises(
        KaizenError, match=r"cannot write .*/disk/file: No space left on device; free some space"
    ):
        write_text(small_disk / "file", "x" * 100_000)
    assert (small_disk / "file").read_text() == "old"
    before = tree(small_disk)
    with store.building(OTHER.id) as building:
        size = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        (building / "model.safetensors").write_bytes(b"x" * size)
        with pytest.raises(
            KaizenError,
            match=r"cannot write .*: No space left on device; free some space.*KAIZEN_STORE",
        ):
            store.commit(OTHER.job().to_json(), building, {}, {})
    assert tree(small_disk) == before
    assert not store.has(OTHER.id)
    assert store.open_file(NODE.id, "model.safetensors").read_text() == "weights"
    outside = small_disk.parent / "large"
    outside.write_bytes(b"x" * 100_000)
    with pytest.raises(KaizenError, match="No space left on device"):
        store.put_link(OTHER.id, {"large": outside})
    assert tree(small_disk / "store" / "step") == [
        name.removeprefix("store/step/") for name in before if name.startswith("store/step/")
    ]


def test_a_read_only_disk_is_reported(small_disk: Path) -> None:
    write_text(small_disk / "file", "old")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(
        KaizenError, match=r"cannot write .*/file: Read-only file system; .*KAIZEN_STORE"
    ):
        write_text(small_disk / "file", "new")
    with pytest.raises(KaizenError, match=r"cannot write .*: Read-only file system"):
        commit_fake(Store(small_disk / "store"), NODE)
    assert (small_disk / "file").read_text() == "old"


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_without_permission_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    with pytest.raises(
        KaizenError, match=r"cannot write .*: Permission denied; make the folder writable"
    ):
        commit_fake(Store(folder / "store"), NODE)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": -Infinity}', "-Infinity is not a number"),
        (b'{"a": 1e999}', "1e999 is too large"),
        (b'{"a": 1, "a": 2}', "'a' is given twice"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        (b"[" * 101 + b"]" * 101, "nested too deep"),
        (b"[" * 100_000, "nested too deep"),
        (b'"\xff"', "can't decode byte 0xff"),
        (b"{", "Expecting property name"),
    ],
)
def test_json_that_is_none_of_ours_is_refused(text: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    path.write_bytes(text)
    with pytest.raises(KaizenError, match=rf"value\.json is not readable JSON \(.*{why}"):
        read_json(path)


def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "long").write_text('"' + "a" * 100 + '"')
    for name, why in (("pipe", "regular"), ("endless", "regular"), (".", "regular")):
        with pytest.raises(KaizenError, match=f"not a {why} file"):
            read_json(tmp_path / name)
    assert read_json(tmp_path / "long") == "a" * 100
    with pytest.raises(KaizenError, match="longer than 50 bytes"):
        read_json(tmp_path / "long", 50)


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    assert printable("step 1 \u00b7 \u96ea \N{SNOWMAN}") == "step 1 \u00b7 \u96ea \N{SNOWMAN}"
    assert set(printable("\x1b\x07\r\n\x7f\x9b\u202e\u2066\ud800\u2028")) == {"\ufffd"}
