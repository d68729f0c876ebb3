"""Taking finished nodes back into a store: from the published tree, and from DVC's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY, make_plan
from published import (
    PLAN,
    STEP_1,
    STEP_1_FOLDER,
    edit_json,
    finished_store,
    flip,
    published_copies,
    rewrite,
)

from kaizen.plan.layout import layout_of
from kaizen.plan.nodes import Node
from kaizen.store.layout import CRATE, REPORT_PAGE
from kaizen.store.store import Store
from kaizen.store.take_back import take_back


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that holds all of the plan."""
    return finished_store(tmp_path / "store")


@pytest.fixture
def root(tmp_path: Path, store: Store) -> Path:
    """A checkout with the plan published."""
    return published_copies(store, tmp_path / "checkout")


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    """A store that holds nothing."""
    return Store(tmp_path / "empty")


# -- taking back -------------------------------------------------------------------------------


def assert_same_nodes(one: Store, two: Store, but: tuple[Node[Any], ...] = ()) -> None:
    """Two stores hold the same nodes of the plan, every file right, without ``but`` in the
    second.
    """
    for node in PLAN.nodes.values():
        assert two.has(node.id) == (node not in but), node.title
        if node not in but:
            record = one.read_record(node.id)
            assert two.read_record(node.id) == record
            assert two.read_run_record(node.id) == one.read_run_record(node.id) is not None
            for name in record.files:
                assert (
                    two.open_file(node.id, name).read_bytes()
                    == one.open_file(node.id, name).read_bytes()
                )


def test_an_empty_store_takes_all_back_from_the_published_tree(
    store: Store, root: Path, empty: Store
) -> None:
    taken = take_back(layout_of(PLAN).nodes, empty, root)
    assert {node.key for node in taken} == set(PLAN.nodes)
    assert_same_nodes(store, empty)
    assert take_back(layout_of(PLAN).nodes, empty, root) == []
    # Writable copies in the checkout share nothing with the store.
    (root / STEP_1_FOLDER / "data.txt").write_text("edited")
    assert_same_nodes(store, empty)


def test_only_what_is_missing_is_taken(store: Store, root: Path) -> None:
    shutil.rmtree(store.folder(STEP_1.id))
    before = store.record_path(PLAN.shards[0].id).stat()
    assert take_back(layout_of(PLAN).nodes, store, root) == [STEP_1.id]
    assert store.record_path(PLAN.shards[0].id).stat() == before
    other = make_plan({"split.tasks": 2, "split.seed": 1})
    assert take_back(layout_of(other).nodes, store, root) == []


def test_nothing_is_taken_where_nothing_is_published(tmp_path: Path, empty: Store) -> None:
    assert take_back(layout_of(PLAN).nodes, empty, tmp_path) == []
    assert list(empty.entries()) == []


def correct_manifest(root: Path, *paths: str) -> None:
    """Make the manifest agree with the files, as somebody might who tampers with both."""

    def change(manifest: Any) -> None:
        for path in paths:
            content = (root / path).read_bytes()
            manifest["files"][path] |= {
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }

    edit_json(root / "results/manifest.json", change)


def edited_file(root: Path) -> None:
    flip(root / STEP_1_FOLDER / "data.txt")


def edited_file_and_manifest(root: Path) -> None:
    flip(root / STEP_1_FOLDER / "data.txt")
    correct_manifest(root, f"{STEP_1_FOLDER}/data.txt")


def missing_file(root: Path) -> None:
    (root / STEP_1_FOLDER / "data.txt").unlink()


def file_out_of_manifest(root: Path) -> None:
    edit_json(
        root / "results/manifest.json",
        lambda manifest: manifest["files"].pop(f"{STEP_1_FOLDER}/data.txt"),
    )


def record_out_of_manifest(root: Path) -> None:
    edit_json(
        root / "results/manifest.json",
        lambda manifest: manifest["files"].pop(f"{STEP_1_FOLDER}/node.json"),
    )


def edited_record(change: Callable[[Any], object]) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        edit_json(root / STEP_1_FOLDER / "node.json", change)
        correct_manifest(root, f"{STEP_1_FOLDER}/node.json")

    return edit


def broken_record(text: str) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        rewrite(root / STEP_1_FOLDER / "node.json", text)
        correct_manifest(root, f"{STEP_1_FOLDER}/node.json")

    return edit


def another_nodes_files(root: Path) -> None:
    """The other size's step under this one's name: as after `git checkout` without `dvc
    checkout`.
    """
    other = STEP_1_FOLDER.replace("replay10pct", "replay50pct")
    for name in ("data.txt", "node.json", "figures/a.csv"):
        rewrite(root / STEP_1_FOLDER / name, (root / other / name).read_bytes())
    correct_manifest(
        root, *(f"{STEP_1_FOLDER}/{name}" for name in ("data.txt", "node.json", "figures/a.csv"))
    )


def file_outside(root: Path) -> None:
    """A record and manifest that name a file which would land outside the store."""
    content = b"outside"
    (root / "evil").write_bytes(content)
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    name = "../../../../../evil-was-here"
    edit_json(
        root / STEP_1_FOLDER / "node.json", lambda record: record["files"].update({name: entry})
    )
    named = {"kind": "step", "key": STEP_1.key, "file": name} | entry
    edit_json(
        root / "results/manifest.json", lambda manifest: manifest["files"].update({"evil": named})
    )
    correct_manifest(root, f"{STEP_1_FOLDER}/node.json")


@pytest.mark.parametrize(
    "tamper",
    [
        edited_file,
        edited_file_and_manifest,
        missing_file,
        file_out_of_manifest,
        record_out_of_manifest,
        another_nodes_files,
        file_outside,
        edited_record(lambda record: record["params"].update(seed=7)),
        edited_record(lambda record: record["params"]["train"].update(lr=float("nan"))),
        edited_record(lambda record: record.update(code="0")),
        edited_record(lambda record: record.update(kind="shards")),
        edited_record(lambda record: record["identities"].clear()),
        edited_record(lambda record: record["files"].pop("data.txt")),
        edited_record(lambda record: record.update(files=["data.txt", "figures/a.csv"])),
        edited_record(lambda record: record.update(params="x")),
        edited_record(lambda record: record.pop("files")),
        broken_record("{"),
        broken_record("[]"),
        broken_record("null"),
    ],
)
def test_a_node_that_was_tampered_with_is_left_alone(
    tamper: Callable[[Path], None], store: Store, root: Path, empty: Store, tmp_path: Path
) -> None:
    tamper(root)
    take_back(layout_of(PLAN).nodes, empty, root)
    assert_same_nodes(store, empty, but=(STEP_1,))
    outside = [path for path in tmp_path.rglob("evil-was-here*")]
    assert outside == []


def test_an_edited_result_is_not_the_nodes_result(store: Store, root: Path, empty: Store) -> None:
    rewrite(root / "results/summary/metrics.json", '{"a": 2}\n')
    taken = take_back(layout_of(PLAN).nodes, empty, root)
    # results/metrics.json is another copy of the same file, and right.
    assert PLAN.summary.id in taken
    assert_same_nodes(store, empty)


def test_another_copy_is_taken_where_the_first_is_bad(
    store: Store, root: Path, empty: Store
) -> None:
    step_0 = PLAN.runs[0].steps[0]
    copies = sorted(
        folder for folder, node in layout_of(PLAN).folders.items() if node.key == step_0.key
    )
    assert len(copies) == 4
    for folder in copies[:-1]:
        flip(root / folder / "data.txt")
    flip(root / copies[-1] / "node.json")
    take_back(layout_of(PLAN).nodes, empty, root)
    assert_same_nodes(store, empty)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00",
        "[]",
        "{}",
        '{"files": []}',
        '{"files": {"a": 1, "b": {}, "c": {"key": "KEY"}}}',
        '{"files": {"a": {"key": [1], "file": "data.txt", "size": 1, "sha256": "x"}}}',
        '{"files": {"a": {"key": "KEY", "file": ["x"], "size": 1, "sha256": "x"}}}',
        '{"files": {"a": {"key": "KEY", "file": "node.json", "size": null, "sha256": "x"}}}',
    ],
)
def test_a_broken_manifest_is_left_alone(text: str, root: Path, empty: Store) -> None:
    rewrite(root / "results/manifest.json", text.replace("KEY", STEP_1.key))
    assert take_back(layout_of(PLAN).nodes, empty, root) == []


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"nodes": []}', '{"nodes": {"KEY": 1}}', '{"nodes": {"KEY": NaN}}']
)
def test_nodes_come_back_where_how_they_were_made_is_not_known(
    text: str, root: Path, empty: Store
) -> None:
    rewrite(root / "results/provenance.json", text.replace("KEY", STEP_1.key))
    assert len(take_back(layout_of(PLAN).nodes, empty, root)) == len(PLAN.nodes)
    assert empty.read_run_record(STEP_1.id) is None


# -- DVC ---------------------------------------------------------------------------------------


def run(folder: Path, *command: str) -> None:
    environment = os.environ | {
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(folder / ".dvc-site"),
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_empty_store_takes_all_back_from_dvcs_cache(
    store: Store, root: Path, empty: Store, tmp_path: Path
) -> None:
    outputs = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]["experiment"]
    stage = {"cmd": "true", "outs": outputs["outs"], "metrics": outputs["metrics"]}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"experiment": stage}}))
    for name in (REPORT_PAGE, CRATE):  # `kaizen publish` writes them about what is published
        (root / name).write_text("about it")
    run(root, "git", "init", "--quiet")
    run(root, sys.executable, "-m", "dvc", "init", "--quiet")
    run(root, sys.executable, "-m", "dvc", "config", "core.analytics", "false")
    run(root, sys.executable, "-m", "dvc", "commit", "--force", "--quiet")
    shutil.rmtree(root / "data")
    shutil.rmtree(root / "results")
    assert len(take_back(layout_of(PLAN).nodes, empty, root)) == len(PLAN.nodes)
    assert_same_nodes(store, empty)

    # The same from a temporary workspace, which has dvc.lock only, and with a cache somewhere else.
    workspace = root / ".dvc/tmp/exps/tmp123"
    workspace.mkdir(parents=True)
    shutil.copy(root / "dvc.lock", workspace)
    second = Store(tmp_path / "second")
    assert len(take_back(layout_of(PLAN).nodes, second, workspace)) == len(PLAN.nodes)
    (root / ".dvc/cache").rename(tmp_path / "cache")
    assert take_back(layout_of(PLAN).nodes, Store(tmp_path / "third"), root) == []
    run(root, sys.executable, "-m", "dvc", "cache", "dir", str(tmp_path / "cache"))
    third = Store(tmp_path / "third")
    assert len(take_back(layout_of(PLAN).nodes, third, root)) == len(PLAN.nodes)
    assert_same_nodes(store, third)

    # A damaged object is refused; a damaged list of a folder's objects or dvc.lock is no error.
    md5 = hashlib.md5(
        (store.folder(STEP_1.id) / "data.txt").read_bytes(), usedforsecurity=False
    ).hexdigest()
    flip(tmp_path / "cache/files/md5" / md5[:2] / md5[2:])
    fourth = Store(tmp_path / "fourth")
    take_back(layout_of(PLAN).nodes, fourth, root)
    assert_same_nodes(store, fourth, but=(STEP_1,))
    for path in (tmp_path / "cache/files/md5").rglob("*.dir"):
        rewrite(path, "[{}]")
    assert take_back(layout_of(PLAN).nodes, Store(tmp_path / "fifth"), root) == []
    for text in ("stages: 3", "[", "stages: {a: 1}", "stages: {a: {outs: [1]}}"):
        (root / "dvc.lock").write_text(text)
        assert take_back(layout_of(PLAN).nodes, Store(tmp_path / "fifth"), root) == []
