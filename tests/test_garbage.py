"""Garbage collection: only what no checkout needs, as much as a quota asks for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import REPOSITORY, commit_fake, tree
from nodes import FILES, NODE, OTHER, PLAN, needed

from kaizen.errors import KaizenError
from kaizen.files import read_json, write_json, write_text
from kaizen.plan.nodes import Node
from kaizen.plan.specs import Spec
from kaizen.store.garbage import collect, delete, find_garbage, parse_size
from kaizen.store.node_id import NodeId
from kaizen.store.registrations import register
from kaizen.store.store import Store


def test_garbage_is_what_no_node_needs(store: Store) -> None:
    summary, evaluation = PLAN.summary, PLAN.runs[0].evaluations[0]
    for node in (NODE, OTHER, summary, evaluation):
        commit_fake(store, node, {"data": "12345"})
    write_text(
        store.work_folder(NodeId.of("step", OTHER.key)) / "resume.safetensors", "state"
    )  # its node is finished
    write_text(
        store.work_folder(NodeId.of("step", "0" * 32)) / "resume.safetensors", "state"
    )  # no node of the plan
    pending = PLAN.runs[0].steps[2]
    write_text(
        store.work_folder(NodeId.of("step", pending.key)) / "resume.safetensors", "state"
    )  # still to be made
    write_text(
        store.root / "step" / f".{NODE.key}.77.abcd.tmp" / "half", "half"
    )  # left by a killed job
    write_text(store.root / ".damaged" / f"step-{NODE.key}-ab" / "node.json", "{}")
    found = find_garbage(store, needed(NODE, OTHER, pending, evaluation))
    assert {item.path.relative_to(store.root).as_posix() for item in found} == {
        f"summary/{summary.key}",
        f".work/step-{OTHER.key}",
        f".work/step-{'0' * 32}",
        f"step/.{NODE.key}.77.abcd.tmp",
        f".damaged/step-{NODE.key}-ab",
    }
    sizes = {item.path.name: item.size for item in found}
    assert sizes[summary.key] == sum(
        path.stat().st_size for path in store.folder(NodeId.of("summary", summary.key)).iterdir()
    )
    assert sizes[f"step-{OTHER.key}"] == 5
    delete(found)
    assert find_garbage(store, needed(NODE, OTHER, pending, evaluation)) == []
    assert set(store.entries()) == needed(NODE, OTHER, evaluation)
    assert store.open_file(NODE.id, "data").read_text() == "12345"
    assert (
        store.work_folder(NodeId.of("step", pending.key)) / "resume.safetensors"
    ).read_text() == "state"


def test_what_is_being_made_is_no_garbage(store: Store) -> None:
    commit_fake(store, NODE, FILES)
    write_text(store.work_folder(NodeId.of("step", OTHER.key)) / "resume.safetensors", "state")
    with (
        store.lock(NodeId.of("step", OTHER.key)),
        store.building(NodeId.of("step", OTHER.key)),
        store.lock(NodeId.of("step", NODE.key)),
    ):
        assert find_garbage(store, set()) == []
    assert len(find_garbage(store, set())) == 2


def test_deleting_that_was_killed_is_finished_later(store: Store) -> None:
    write_text(store.root / "step" / f".{NODE.key}.abcd.gone" / "half", "half")
    found = find_garbage(store, needed(NODE))
    assert len(found) == 1
    delete(found)
    assert tree(store.root) == []


def test_an_empty_store_has_no_garbage(store: Store) -> None:
    assert find_garbage(store, set()) == []
    assert list(store.entries()) == []


@pytest.fixture
def checkouts(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    return folders


def test_a_quota_lets_the_longest_unused_go_first(
    store: Store, checkouts: tuple[Path, Path]
) -> None:
    nodes: list[Node[Spec]] = [NODE, OTHER, PLAN.summary, PLAN.shards[0]]
    for age, node in enumerate(nodes):
        commit_fake(store, node, {"data": "x" * 10_000})
        os.utime(store.folder(node.id), (1e9 - age, 1e9 - age))
    write_text(store.root / ".damaged" / "step-k-ab" / "node.json", "{}")
    store.note_use(NodeId.of("shards", PLAN.shards[0].key))
    register(store, checkouts[0], "a", needed(NODE))
    each = sum(path.stat().st_size for path in store.folder(NodeId.of("step", OTHER.key)).iterdir())
    names = [item.path.name for item in collect(store, 3 * each + 3000, really=False)]
    assert names == ["step-k-ab", PLAN.summary.key], (
        "damaged ones first, then the oldest that no plan needs"
    )
    names = [item.path.name for item in collect(store, 0, really=True)]
    assert names == ["step-k-ab", PLAN.summary.key, OTHER.key, PLAN.shards[0].key]
    assert set(store.entries()) == needed(NODE)
    assert collect(store, 10**9, really=True) == []


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("500M", 500 * 10**6), ("1.5 tb", 1_500 * 10**9), ("20G", 2 * 10**10)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1G", "1e9", "20 GiB", "all"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(KaizenError, match="is not a size; write a number"):
        parse_size(text)


def test_locks_that_nobody_holds_go_too(store: Store) -> None:
    with store.lock(NodeId.of("step", "f" * 32)):
        pass
    with store.lock(NodeId.of("step", "e" * 32)):
        collect(store, None, really=True)
        assert sorted(path.name for path in (store.root / ".locks").iterdir()) == [
            "gate",
            f"step-{'e' * 32}",
        ]


def test_cleaning_leaves_results_alone_unless_they_are_named(tmp_path: Path) -> None:
    shutil.copyfile(REPOSITORY / "Makefile", tmp_path / "Makefile")
    results = {"results/metrics.json", "results/notes.md", "data/shards/README.md"}
    kept = {".kaizen/store/step/k/node.json", "data/raw/mine.png", ".kaizen/id"}
    for name in (
        *results,
        *kept,
        "logs/step/k.log",
        ".snakemake/x",
        ".kaizen/receipts/step/k.json",
    ):
        write_text(tmp_path / name, "x")

    def left(target: str) -> set[str]:
        subprocess.run(["make", "--directory", str(tmp_path), target], check=True)
        return set(tree(tmp_path)) - {"Makefile"}

    assert left("clean") == results | kept
    assert left("clean-results") == kept
    assert left("clean-store") == kept - {".kaizen/store/step/k/node.json"}


def test_what_has_no_nodes_name_is_left_alone(store: Store, tmp_path: Path) -> None:
    theirs = (
        "step/my-data/x",
        "step/.mine/x",
        ".work/mine/x",
        ".specs/mine.json",
        "shards/a.b.tmp",
    )
    for name in theirs:
        write_text(store.root / name, "keep")
    (tmp_path / "elsewhere").mkdir()
    write_text(tmp_path / "elsewhere" / "mine", "keep")
    (store.root / "step" / ("a" * 32)).symlink_to(tmp_path / "elsewhere")
    assert [item.path.name for item in collect(store, None, really=True)] == ["a" * 32]
    assert (tmp_path / "elsewhere" / "mine").read_text() == "keep"
    assert all((store.root / name).read_text() == "keep" for name in theirs)
    assert not (store.root / "step" / ("a" * 32)).is_symlink()


def test_what_was_made_of_a_stream_stays_unless_asked_for(store: Store) -> None:
    of_stream = {"shards": {"shards-00": "a" * 32, "shards-01": "b" * 32}}
    for node, made in ((NODE, of_stream), (OTHER, {"shards": {"shards": "c" * 32}})):
        commit_fake(store, node, FILES)
        path = store.folder(node.id) / "run.json"
        path.chmod(0o644)
        write_json(path, read_json(path) | made)
    assert [item.path.name for item in collect(store, None, really=True)] == [OTHER.key]
    assert store.has(NODE.id)
    assert [item.path.name for item in collect(store, None, really=True, streams=True)] == [
        NODE.key
    ]
