"""Files of finished nodes, records and manifests that were altered: what is published is right or
missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from published import (
    PLAN,
    STEP_1,
    STEP_1_FOLDER,
    contents,
    edit_json,
    finish,
    finished_store,
    published_copies,
    rewrite,
)

from kaizen.errors import KaizenError
from kaizen.files import read_json
from kaizen.plan.layout import layout_of
from kaizen.store.manifest import expected_manifest
from kaizen.store.publish import is_published, publish
from kaizen.store.records import FileEntry, parse_record
from kaizen.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that holds all of the plan."""
    return finished_store(tmp_path / "store")


@pytest.fixture
def root(tmp_path: Path, store: Store) -> Path:
    """A checkout with the plan published."""
    return published_copies(store, tmp_path / "checkout")


def test_a_manifest_that_was_altered_is_not_this_plans(store: Store, root: Path) -> None:
    manifest = root / "results/manifest.json"
    good = manifest.read_text()
    path, entry = next(iter(read_json(manifest)["files"].items()))
    for old, new in (
        (entry["sha256"], "0" * 64),
        (path, f"{path}x"),
        (PLAN.summary.key, STEP_1.key),
    ):
        assert old in good
        rewrite(manifest, good.replace(old, new))
        assert not is_published(layout_of(PLAN), store, root)
    rewrite(manifest, good)
    assert is_published(layout_of(PLAN), store, root)


def test_publishing_repairs_what_was_edited(store: Store, root: Path) -> None:
    before = contents(root)
    rewrite(root / STEP_1_FOLDER / "data.txt", "edited")
    (root / "results/metrics.json").unlink()
    (root / "results/metrics.json").mkdir()
    (root / "results/metrics.json").rmdir()
    publish(layout_of(PLAN), store, root)
    assert contents(root) == before


def test_a_damaged_node_is_not_published_and_no_manifest_claims_it_is(
    store: Store, root: Path
) -> None:
    rewrite(store.folder(STEP_1.id) / "data.txt", "damaged")
    with pytest.raises(
        KaizenError, match=r"data\.txt has 7 bytes.*set aside.*run the same command"
    ):
        publish(layout_of(PLAN), store, root)
    assert not (root / "results/manifest.json").exists()
    assert not is_published(layout_of(PLAN), store, root)
    finish(PLAN, store)
    publish(layout_of(PLAN), store, root)
    assert is_published(layout_of(PLAN), store, root)


@pytest.mark.parametrize("way", ["not yet seen", "replaced", "in place", "time put back"])
def test_a_file_altered_at_equal_size_is_published_again(
    store: Store, tmp_path: Path, way: str
) -> None:
    layout, root = layout_of(PLAN), tmp_path / "linked"
    publish(layout, store, root)
    path = next(root / name for name in expected_manifest(layout, store) if name.endswith(".txt"))
    before, content = path.stat(), path.read_bytes()
    if way != "not yet seen":
        assert is_published(layout, store, root)
    if way == "in place":
        path.chmod(0o644)
    else:
        path.unlink()
    path.write_bytes(content[::-1])
    assert path.stat().st_size == before.st_size
    if way == "time put back":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not is_published(layout, store, root)
    assert not is_published(layout, store, root)
    if way == "in place":
        # The store's own file, of the same inode: it is found to be damaged.
        with pytest.raises(KaizenError, match="does not match its recorded hash"):
            publish(layout, store, root)
        return
    publish(layout, store, root)
    assert path.read_bytes() == content and is_published(layout, store, root)


def test_an_altered_file_of_how_the_nodes_were_made_is_published_again(
    store: Store, root: Path
) -> None:
    layout, path = layout_of(PLAN), root / "results/provenance.json"
    text = path.read_text()
    rewrite(path, text.replace("1.5", "2.5", 1))
    assert not is_published(layout, store, root)
    publish(layout, store, root)
    assert path.read_text() == text and is_published(layout, store, root)


def test_a_file_that_was_seen_is_not_read_again(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = layout_of(PLAN)
    assert is_published(layout, store, root)
    monkeypatch.setattr(FileEntry, "mismatch", lambda *arguments: pytest.fail("read again"))
    assert is_published(layout, store, root)
    (root / ".kaizen/published-files.json").write_text("[")
    monkeypatch.undo()
    assert is_published(layout, store, root)


@pytest.mark.parametrize(
    "name",
    [
        "x/../../../../outside",
        "../outside",
        "/tmp/outside",
        "a//b",
        "./a",
        "a/",
        "",
        "\x1b[31m",
        "run.json",
        "node.json",
        "a" * 2000,
        "..\\outside",
    ],
    ids=repr,
)
def test_a_record_names_files_of_its_own_folder_only(
    name: str, store: Store, tmp_path: Path
) -> None:
    """As a colleague's node in a shared store may."""
    root = tmp_path / "checkout"
    path = store.record_path(STEP_1.id)
    entry = FileEntry.of(store.folder(STEP_1.id) / "data.txt").to_json()
    assert parse_record(read_json(path), STEP_1.id) is not None
    edit_json(path, lambda record: record["files"].update({name: entry}))
    assert parse_record(read_json(path), STEP_1.id) is None
    with pytest.raises(KaizenError, match=r"is not the record of node .*; set aside as"):
        publish(layout_of(PLAN), store, root)
    assert not list(tmp_path.rglob("outside*")) and not Path("/tmp/outside").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["files"]["data.txt"].update(sha256="0" * 63),
        lambda record: record["files"]["data.txt"].update(sha256="G" * 64),
        lambda record: record["files"]["data.txt"].update(size=-1),
        lambda record: record["files"]["data.txt"].update(size=1 << 61),
        lambda record: record["files"]["data.txt"].update(size=True),
        lambda record: record["inputs"]["prior"].update(key="../../outside"),
        lambda record: record["inputs"]["prior"].update(key="0" * 32),
        lambda record: record["inputs"]["prior"].update(kind="../../results"),
        lambda record: record["inputs"].pop("prior"),
        lambda record: record.update(environment=["torch"]),
    ],
)
def test_a_record_is_typed_and_bounded(change: Callable[[Any], object], store: Store) -> None:
    record = read_json(store.record_path(STEP_1.id))
    change(record)
    assert parse_record(record, STEP_1.id) is None
