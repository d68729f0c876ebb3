"""The store: nodes are committed whole, verified, locked and found again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, commit_fake, tree
from nodes import FILES, NODE, OTHER

from kaizen.errors import KaizenError
from kaizen.files import read_json, write_text
from kaizen.store.node_id import NodeId
from kaizen.store.places import default_store, main_checkout
from kaizen.store.records import record_key
from kaizen.store.store import Store

# -- commit ------------------------------------------------------------------------------------


def test_a_committed_node_has_its_files_their_hashes_and_its_record(store: Store) -> None:
    assert not store.has(NODE.id)
    commit_fake(store, NODE, FILES)
    assert store.has(NODE.id)
    folder = store.root / "step" / NODE.key
    assert tree(folder) == ["deep/er/history.csv", "model.safetensors", "node.json", "run.json"]
    record = json.loads((folder / "node.json").read_text())
    assert record["files"] == {
        name: {"sha256": hashlib.sha256(text.encode()).hexdigest(), "size": len(text)}
        for name, text in FILES.items()
    }
    assert (record["kind"], record["key"], record["params"]) == (
        "step",
        NODE.key,
        json.loads(json.dumps(NODE.job().to_json()["params"])),
    )
    assert record["environment"] == {"torch": "9.9"} and "shards" not in record["inputs"]
    assert record_key(record) == NODE.key == record_key(store.read_record(NODE.id).to_json())
    # What differs from run to run stays out of the record.
    run = {"seconds": 1.5, "title": NODE.title, "local": NODE.job().to_json()["local"]}
    run["shards"] = {"shards": NODE.inputs["shards"].key}
    assert read_json(folder / "run.json") == run == store.read_run_record(NODE.id)
    assert (
        store.open_file(NODE.id, "deep/er/history.csv").read_text() == FILES["deep/er/history.csv"]
    )
    assert list(store.entries()) == [NODE.id]
    assert tree(store.root / "step") == [f"{NODE.key}/{name}" for name in tree(folder)]


def test_two_commits_of_the_same_content_give_the_same_record(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        store = Store(tmp_path / name)
        commit_fake(store, NODE, FILES)
        texts.append(store.record_path(NODE.id).read_bytes())
    assert texts[0] == texts[1]


def test_files_of_a_finished_node_are_read_only(store: Store) -> None:
    commit_fake(store, NODE, FILES)
    for path in store.folder(NODE.id).rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o444, path


def test_a_build_that_fails_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.building(NODE.id) as building:
        (building / "half").write_text("x")
        assert not store.has(NODE.id)
        raise ZeroDivisionError
    assert list((store.root / "step").iterdir()) == []


def test_building_removes_what_killed_builders_left_of_the_same_node(store: Store) -> None:
    write_text(store.root / "step" / f".{NODE.key}.77.abcd.tmp" / "half", "half")
    write_text(store.root / "step" / f".{OTHER.key}.77.abcd.tmp" / "half", "half")
    with store.lock(NODE.id), store.building(NODE.id) as building:
        assert list(building.iterdir()) == []
    assert tree(store.root / "step") == [f".{OTHER.key}.77.abcd.tmp/half"]


def test_nothing_stands_in_the_nodes_place_before_it_is_whole(store: Store) -> None:
    with store.building(NODE.id) as building:
        (building / "file").write_text("x")
        assert not store.folder(NODE.id).exists()
        store.commit(NODE.job().to_json(), building, {}, {})
        assert store.has(NODE.id)
    assert store.open_file(NODE.id, "file").read_text() == "x"


def test_a_commit_replaces_the_empty_folder_that_snakemake_makes(store: Store) -> None:
    store.folder(NODE.id).mkdir(parents=True)
    commit_fake(store, NODE, FILES)
    assert store.open_file(NODE.id, "model.safetensors").read_text() == "weights"
    assert not (store.root / ".damaged").exists()


def test_a_commit_moves_an_incomplete_folder_out_of_the_way(store: Store) -> None:
    write_text(store.folder(NODE.id) / "model.safetensors", "torn")
    commit_fake(store, NODE, FILES)
    assert store.open_file(NODE.id, "model.safetensors").read_text() == "weights"
    (aside,) = (store.root / ".damaged").iterdir()
    assert (aside / "model.safetensors").read_text() == "torn"


def test_a_second_commit_of_a_key_changes_nothing(store: Store) -> None:
    commit_fake(store, NODE, FILES)
    before = (tree(store.root), store.record_path(NODE.id).read_bytes())
    commit_fake(store, NODE, {"model.safetensors": "other weights"})
    assert (tree(store.root), store.record_path(NODE.id).read_bytes()) == before
    assert store.open_file(NODE.id, "model.safetensors").read_text() == "weights"


# -- verification ------------------------------------------------------------------------------


def overwrite(path: Path, text: str | None) -> None:
    path.chmod(0o644)
    path.unlink()
    if text is not None:
        path.write_text(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("weighty", "does not match its recorded hash"),
        ("weigh", "has 5 bytes, not the recorded 7"),
        (None, "is missing"),
    ],
    ids=["changed", "truncated", "missing"],
)
def test_a_file_that_differs_is_refused_by_name_and_its_node_made_again(
    store: Store, text: str | None, reason: str
) -> None:
    commit_fake(store, NODE, FILES)
    path = store.folder(NODE.id) / "model.safetensors"
    overwrite(path, text)
    with pytest.raises(KaizenError) as caught:
        store.open_file(NODE.id, "model.safetensors")
    message = str(caught.value)
    assert message.startswith(f"{path} {reason}")
    assert "run the same command" in message
    assert not store.has(NODE.id)
    (aside,) = (store.root / ".damaged").iterdir()
    assert str(aside) in message
    assert (aside / "node.json").is_file()
    commit_fake(store, NODE, FILES)
    assert store.open_file(NODE.id, "model.safetensors").read_text() == "weights"


def test_other_files_of_the_node_are_opened_without_it(store: Store) -> None:
    commit_fake(store, NODE, FILES)
    with pytest.raises(KaizenError, match=r"has no file optimizer\.bin"):
        store.open_file(NODE.id, "optimizer.bin")
    assert store.has(NODE.id)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"key": "another", "files": {}}', '{"key": "KEY"}', "\x00\x01"]
)
def test_a_record_that_is_torn_or_another_nodes_is_refused_and_set_aside(
    store: Store, text: str
) -> None:
    commit_fake(store, NODE, FILES)
    path = store.record_path(NODE.id)
    overwrite(path, text.replace("KEY", NODE.key))
    with pytest.raises(KaizenError, match=str(path)):
        store.read_record(NODE.id)
    assert not store.has(NODE.id)


def test_a_missing_node_is_named(store: Store) -> None:
    with pytest.raises(
        KaizenError, match=f"{NODE.key}/node.json does not exist; run `kaizen plan`"
    ):
        store.open_file(NODE.id, "model.safetensors")


def test_an_edited_record_leads_to_another_key(store: Store) -> None:
    commit_fake(store, NODE, FILES)
    record = store.read_record(NODE.id).to_json()
    changes: tuple[dict[str, Any], ...] = (
        {"params": record["params"] | {"seed": 7}},
        {"code": "x"},
        {"identities": {}},
        {"kind": "shards"},
    )
    for change in changes:
        assert record_key(record | change) != NODE.key


# -- locks -------------------------------------------------------------------------------------


@contextlib.contextmanager
def child(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process with this package, killed at the end."""
    command = [
        sys.executable,
        "-c",
        f"import sys, time\nfrom pathlib import Path\nfrom kaizen.store.node_id import NodeId\n"
        f"from kaizen.store.store import Store\n{code}",
        *arguments,
    ]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


HOLD = """
with Store(Path(sys.argv[1])).lock(NodeId.of('step', 'k')):
    print('held', flush=True)
    time.sleep(600)
"""
COUNT = """
path = Path(sys.argv[2])
for _ in range(40):
    with Store(Path(sys.argv[1])).lock(NodeId.of('step', 'k')):
        number = int(path.read_text())
        time.sleep(0.002)
        path.write_text(str(number + 1))
"""


def test_a_lock_vanishes_with_its_process_however_it_ends(store: Store) -> None:
    assert not store.is_locked(NodeId.of("step", "k"))
    with child(HOLD, str(store.root)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert store.is_locked(NodeId.of("step", "k"))
        assert not store.is_locked(NodeId.of("step", "another"))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not store.is_locked(NodeId.of("step", "k"))
    with store.lock(NodeId.of("step", "k")):
        assert store.is_locked(NodeId.of("step", "k"))
    assert not store.is_locked(NodeId.of("step", "k"))


def test_a_lock_lets_one_process_at_a_time_in(store: Store, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    with (
        child(COUNT, str(store.root), str(counter)) as one,
        child(COUNT, str(store.root), str(counter)) as two,
    ):
        assert (one.wait(), two.wait()) == (0, 0)
    assert counter.read_text() == "80"


# -- where the store is ------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_the_store_is_where_kaizen_store_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KAIZEN_STORE", str(tmp_path / "elsewhere"))
    assert default_store(tmp_path) == tmp_path / "elsewhere"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAIZEN_STORE", "~/stores")
    assert default_store(tmp_path) == tmp_path / "stores"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAIZEN_STORE", "relative")
    assert default_store(tmp_path / "x") == tmp_path / "relative"
    temporary = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "x"
    temporary.mkdir(parents=True)
    monkeypatch.chdir(temporary)
    for value in ("relative", "./relative"):
        monkeypatch.setenv("KAIZEN_STORE", value)
        assert default_store(temporary) == tmp_path / "relative"


def test_the_store_is_in_the_main_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KAIZEN_STORE", raising=False)
    main = tmp_path / "main"
    main.mkdir()
    assert default_store(main) == main / ".kaizen" / "store"
    for workspace in (
        main / ".dvc/tmp/exps/tmpabc",
        main / ".dvc/tmp/exps/standalone/tmpabc",
        main / ".dvc/tmp/exps/t/sub",
    ):
        workspace.mkdir(parents=True)
        assert main_checkout(workspace) == main
        assert default_store(workspace) == main / ".kaizen" / "store"
    git(main, "init", "--quiet")
    assert main_checkout(main) == main
    git(main, "commit", "--quiet", "--allow-empty", "-m", "one")
    git(main, "worktree", "add", "--quiet", str(tmp_path / "tree"))
    assert (tmp_path / "tree" / ".git").is_file()
    assert main_checkout(tmp_path / "tree") == main
    monkeypatch.chdir(tmp_path / "tree")
    assert default_store(Path(".")) == main / ".kaizen" / "store"


def test_a_node_can_be_put_from_files_elsewhere(store: Store, tmp_path: Path) -> None:
    made = Store(tmp_path / "made")
    commit_fake(made, NODE, FILES)
    folder = made.folder(NODE.id)
    sources = {name: folder / name for name in (*FILES, "node.json")}
    run = {"seconds": 2.5}
    store.put_link(NODE.id, sources, run)
    assert store.read_record(NODE.id) == made.read_record(NODE.id)
    assert store.read_run_record(NODE.id) == run
    assert tree(store.root / "step") == sorted(
        f"{NODE.key}/{name}" for name in (*sources, "run.json")
    )
    for name, text in FILES.items():
        assert store.open_file(NODE.id, name).read_text() == text
