"""Publishing: a plan's files at readable paths, whatever lies there already."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import make_plan
from project import make_project
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

import kaizen.store.publish as publish_module
from kaizen.errors import KaizenError
from kaizen.files import read_json, write_json
from kaizen.plan.layout import layout_of
from kaizen.store.layout import MANAGED, check_places
from kaizen.store.locks import hold
from kaizen.store.node_id import NodeId
from kaizen.store.publish import is_published, publish, write_marker
from kaizen.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that holds all of the plan."""
    return finished_store(tmp_path / "store")


@pytest.fixture
def root(tmp_path: Path, store: Store) -> Path:
    """A checkout with the plan published."""
    return published_copies(store, tmp_path / "checkout")


def test_every_node_has_a_readable_place() -> None:
    folders = layout_of(PLAN).folders
    assert {node.key for node in folders.values()} == set(PLAN.nodes)
    runs = [
        "simclr-kaizen-replay10pct-seed0",
        "simclr-kaizen-replay50pct-seed0",
        "simclr-cassle-seed0",
    ]
    expected = {
        "data/shards",
        "results/summary",
        "data/replay/first_n-10pct/step-01",
        "data/replay/first_n-50pct/step-01",
    }
    expected |= {f"results/models/{run}/step-{task:02d}" for run in runs for task in (0, 1)}
    expected |= {f"results/models/simclr-specialist-seed0/task-{task:02d}" for task in (0, 1)}
    expected |= {f"results/evaluations/{run}" for run in [*runs, "simclr-specialist-seed0"]}
    assert set(folders) == expected
    assert folders[STEP_1_FOLDER] == STEP_1.id
    assert all(
        path.startswith(tuple(f"{managed}/" for managed in MANAGED)) or path in MANAGED
        for path in folders
    )


def test_replay_made_with_a_runs_own_models_is_published_under_its_name() -> None:
    plan = make_plan(
        {
            "split.tasks": 2,
            "grid.variants": ["kaizen"],
            "grid.seeds": [0, 1],
            "replay.policy": "herding",
            "replay.proportion": None,
            "replay.per_class": [0, 20],
        }
    )
    folders = layout_of(plan).folders
    assert {node.key for node in folders.values()} == set(plan.nodes)
    assert {path for path in folders if path.startswith("data/replay")} == {
        f"data/replay/herding-20imagesperclass/simclr-kaizen-replay20imagesperclass-seed{seed}/step-01"
        for seed in (0, 1)
    }
    memory = make_plan({"split.tasks": 2, "replay.proportion": None, "replay.memory": [200]})
    assert "data/replay/first_n-200images/step-01" in layout_of(memory).folders


def test_publishing_puts_every_file_in_its_place_with_its_hash(
    store: Store, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    paths = publish(layout_of(PLAN), store, root)
    found = contents(root)
    runs = json.loads(found.pop("results/provenance.json"))["nodes"]
    assert runs == {key: store.read_run_record(node.id) for key, node in PLAN.nodes.items()}
    manifest = json.loads(found.pop("results/manifest.json"))
    assert manifest["plan"] == PLAN.key
    assert sorted(found) == sorted(manifest["files"]) == paths
    for path, content in found.items():
        entry = manifest["files"][path]
        assert (entry["size"], entry["sha256"]) == (
            len(content),
            hashlib.sha256(content).hexdigest(),
        ), path
        assert (
            content
            == (store.folder(NodeId.of(entry["kind"], entry["key"])) / entry["file"]).read_bytes()
        )
    for folder, node in layout_of(PLAN).folders.items():
        names = {name.removeprefix(f"{folder}/") for name in found if name.startswith(f"{folder}/")}
        assert names == {*store.read_record(node).files, "node.json"}
    assert found["results/metrics.json"] == found["results/summary/metrics.json"] == b'{"a": 1}\n'


def test_published_files_cannot_be_written_in_place(store: Store, tmp_path: Path) -> None:
    publish(layout_of(PLAN), store, tmp_path / "root")
    for path in (tmp_path / "root").rglob("*"):
        written = path.name in ("manifest.json", "provenance.json") or ".kaizen" in path.parts
        if path.is_file() and not written:
            assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0, path


def test_publishing_is_deterministic(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    finish(
        make_plan(
            {
                "split.tasks": 2,
                "grid.variants": ["kaizen", "cassle"],
                "replay.proportion": [0.1, 0.5],
            }
        ),
        other,
    )
    for name, source in (("a", store), ("b", store), ("c", other)):
        publish(layout_of(PLAN), source, tmp_path / name)
    publish(layout_of(PLAN), store, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")


def test_publishing_removes_what_another_plan_left_and_nothing_else(
    store: Store, root: Path
) -> None:
    (root / "data/raw").mkdir(parents=True)
    theirs = {
        "data/raw/mine.txt": b"keep",
        "results/notes.txt": b"keep",
        "results/.mine.tmp": b"keep",
        "results/models/stray": b"keep",
        "results/models/simclr-kaizen-replay10pct-seed0/step-00/why.md": b"keep",
        "results/models/.figure.host.7.0123abcd.tmp": b"keep",
    }
    for path, content in theirs.items():
        (root / path).write_bytes(content)
    for path in ("results", "results/models/simclr-cassle-seed0/step-00"):
        name = ".manifest.json" if path == "results" else ".data.txt"
        (root / path / f"{name}.host.7.0123abcd.tmp").write_text("left by a killed publication")
    (root / "results/summary/link").symlink_to(root / "results/notes.txt")
    smaller = make_plan({"split.tasks": 2, "grid.variants": ["cassle"]})
    finish(smaller, store)
    told: list[str] = []
    publish(layout_of(smaller), store, root, told.append)
    assert not (root / "results/models/simclr-kaizen-replay10pct-seed0/step-01").exists()
    assert not (root / "results/models/simclr-kaizen-replay50pct-seed0").exists()
    assert list((root / "data/replay").iterdir()) == []
    (root / "results/summary/link").unlink()
    found = contents(root)
    assert {path: found.pop(path, b"") for path in theirs} == theirs
    lists = {"results/manifest.json", "results/provenance.json"}
    assert set(found) == {*read_json(root / "results/manifest.json")["files"], *lists}
    assert sorted(text.split()[0] for text in told) == sorted(
        [*(path for path in theirs if path.startswith("results/models/")), "results/summary/link"]
    )
    assert all("was not published by Kaizen and is left there" in text for text in told)


@pytest.mark.parametrize("killed_at", ["manifest.json", "provenance.json", "data.txt"])
def test_what_was_published_is_known_after_a_kill(
    killed_at: str, store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is gone while a publication works, but the next one knows what to remove."""
    smaller = make_plan({"split.tasks": 2, "grid.variants": ["cassle"]})
    other = make_plan({"split.tasks": 2, "grid.variants": ["kaizen"]})
    finish(smaller, store)
    finish(other, store)

    def killing(function: Callable[..., Any]) -> Callable[..., Any]:
        def first_killed(path: Path, *rest: Any) -> Any:
            if path.name == killed_at:
                raise KeyboardInterrupt
            return function(path, *rest)

        return first_killed

    with monkeypatch.context() as patch:
        patch.setattr("kaizen.store.publish._remove_former", lambda *rest: None)
        patch.setattr(publish_module, "write_json", killing(write_json))
        patch.setattr(publish_module, "_link", killing(publish_module._link))
        with pytest.raises(KeyboardInterrupt):
            publish(layout_of(smaller), store, root)
    assert not (root / "results/manifest.json").exists()
    told: list[str] = []
    publish(layout_of(other), store, root, told.append)
    assert told == []
    lists = {"results/manifest.json", "results/provenance.json"}
    found = set(contents(root))
    assert found == {*read_json(root / "results/manifest.json")["files"], *lists}
    assert not (root / ".kaizen/publishing.json").exists()


def test_a_link_in_the_place_of_a_runs_folder_becomes_a_folder(
    store: Store, root: Path, tmp_path: Path
) -> None:
    before = contents(root)
    other = tmp_path / "elsewhere"
    (root / STEP_1_FOLDER).rename(other)
    (other / "mine.txt").write_text("keep")
    theirs = contents(other)
    (root / STEP_1_FOLDER).symlink_to(other)
    told: list[str] = []
    publish(layout_of(PLAN), store, root, told.append)
    assert not (root / STEP_1_FOLDER).is_symlink()
    assert contents(root) == before and contents(other) == theirs
    assert told == [f"{STEP_1_FOLDER} was a link to {other}; a folder takes its place"]
    # Nor is anything removed through a link that a plan does not need.
    (root / "results/models/simclr-kaizen-replay50pct-seed0").rename(tmp_path / "moved")
    (root / "results/models/simclr-kaizen-replay50pct-seed0").symlink_to(tmp_path / "moved")
    theirs = contents(tmp_path / "moved")
    smaller = make_plan({"split.tasks": 2, "grid.variants": ["cassle"]})
    finish(smaller, store)
    publish(layout_of(smaller), store, root, told.append)
    assert contents(tmp_path / "moved") == theirs
    assert (root / "results/models/simclr-kaizen-replay50pct-seed0").is_symlink()


@pytest.mark.parametrize("folder", ["results/models", "data/shards", "results", "data"])
def test_a_managed_folder_that_is_a_link_is_refused(
    folder: str, store: Store, root: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere"
    (root / folder).rename(other)
    (other / "mine.txt").write_text("keep")
    (root / folder).symlink_to(other)
    before = contents(root)
    with pytest.raises(KaizenError, match=f"{root / folder} is a link to {other}.*KAIZEN_STORE"):
        publish(layout_of(PLAN), store, root)
    assert contents(root) == before and (other / "mine.txt").is_file()


def test_a_file_that_was_never_published_is_moved_aside(store: Store, root: Path) -> None:
    before = contents(root)
    (root / "results/manifest.json").unlink()
    rewrite(root / "results/metrics.json", "mine")
    told: list[str] = []
    publish(layout_of(PLAN), store, root, told.append)
    assert contents(root) == before
    (aside,) = (root / ".kaizen/set-aside").iterdir()
    assert aside.read_text() == "mine"
    assert told == [
        f"results/metrics.json was not published before and is now at {aside.relative_to(root)}"
    ]


@pytest.mark.parametrize(
    "path",
    [
        "mine.txt",
        "results/notes.txt",
        "results/models/../../mine.txt",
        "../mine.txt",
        "/tmp/mine.txt",
        "results/models//x",
        "data/raw/mine.txt",
    ],
)
def test_a_manifest_does_not_say_that_others_files_were_published(
    path: str, store: Store, root: Path
) -> None:
    mine = root / path if path.startswith(("mine", "results/notes", "data")) else root / "mine.txt"
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("keep")
    if path == "../mine.txt":
        mine = root.parent / "mine.txt"
        mine.write_text("keep")
    entry = {"kind": "step", "key": STEP_1.key, "file": "data.txt", "size": 4, "sha256": "0" * 64}
    edit_json(root / "results/manifest.json", lambda value: value["files"].update({path: entry}))
    publish(layout_of(PLAN), store, root)
    assert mine.read_text() == "keep"


def test_the_markers_of_earlier_publications_go_and_other_files_stay(tmp_path: Path) -> None:
    old, mine = tmp_path / f"{PLAN.key}-17-4.json", tmp_path / "package.json"
    old.write_text("{}")
    mine.write_text("{}")
    write_marker(tmp_path / f"{PLAN.key}-18-4.json", PLAN.key)
    write_marker(tmp_path / "named-by-hand.json", PLAN.key)
    assert {path.name for path in tmp_path.iterdir()} == {"package.json", "named-by-hand.json"}


def test_two_publications_do_not_interleave(store: Store, root: Path) -> None:
    """The second waits until the first has written its manifest."""
    told: list[str] = []
    with hold(root / ".kaizen/locks/published-tree", title="publishing"):
        waiting = threading.Thread(
            target=publish, args=(layout_of(PLAN), store, root, told.append), daemon=True
        )
        manifest = (root / "results/manifest.json").read_bytes()
        (root / "results/metrics.json").unlink()
        waiting.start()
        waiting.join(1.5)
        assert waiting.is_alive() and not (root / "results/metrics.json").exists()
        assert (root / "results/manifest.json").read_bytes() == manifest
        assert len(told) == 1 and "which is publishing here" in told[0]
    waiting.join(60)
    assert not waiting.is_alive() and (root / "results/metrics.json").is_file()


@pytest.mark.parametrize(
    ("raw", "store_at", "named"),
    [
        ("data/shards/images", "store", "dataset.path"),
        ("data/shards", "store", "dataset.path"),
        ("data", "store", "dataset.path"),
        (".", ".kaizen/store", "dataset.path"),
        ("results/models/images", "store", "dataset.path"),
        ("link/images", "store", "dataset.path"),
        ("data/raw", "results/models/store", "KAIZEN_STORE"),
        ("data/raw", "results", "KAIZEN_STORE"),
        ("data/raw", ".", "KAIZEN_STORE"),
        ("data/raw", "link", "KAIZEN_STORE"),
        ("data/raw", "data/raw/store", "dataset.path"),
        ("store/images", "store", "dataset.path"),
    ],
)
def test_raw_data_store_and_results_may_not_lie_in_each_other(
    raw: str, store_at: str, named: str, tmp_path: Path
) -> None:
    for folder in ("data/shards/images", "results/models/store", raw, store_at):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True) if "link" not in folder else None
    (tmp_path / "link").symlink_to("data/shards")
    with pytest.raises(KaizenError, match=f"^{named}: .*lie in each other"):
        check_places(tmp_path, tmp_path / store_at, tmp_path / raw)
    check_places(tmp_path, tmp_path / "store", tmp_path / "data/raw")
    check_places(tmp_path, tmp_path / ".kaizen/store", None)


def test_an_unfinished_plan_is_not_published(store: Store, tmp_path: Path) -> None:
    shutil.rmtree(store.folder(STEP_1.id))
    with pytest.raises(
        KaizenError, match=f"{STEP_1.key}/node.json does not exist; run `kaizen plan`"
    ):
        publish(layout_of(PLAN), store, tmp_path / "root")
    assert not (tmp_path / "root/results/manifest.json").exists()


def test_a_tree_is_published_while_it_is_whole(store: Store, root: Path, tmp_path: Path) -> None:
    assert is_published(layout_of(PLAN), store, root)
    assert not is_published(layout_of(make_plan()), store, root)
    assert not is_published(layout_of(PLAN), store, tmp_path / "nowhere")
    path = root / STEP_1_FOLDER / "data.txt"
    content = path.read_bytes()
    rewrite(path, content + b"!")
    assert not is_published(layout_of(PLAN), store, root)
    path.unlink()
    assert not is_published(layout_of(PLAN), store, root)
    path.write_bytes(content)
    assert is_published(layout_of(PLAN), store, root)
    (root / "results/provenance.json").rename(root / "provenance.json")
    assert not is_published(layout_of(PLAN), store, root)
    (root / "provenance.json").rename(root / "results/provenance.json")
    for text in (
        "",
        "[]",
        "{}",
        '{"plan": 1}',
        f'{{"plan": "{PLAN.key}", "files": []}}',
        f'{{"plan": "{PLAN.key}", "files": {{"x": 1}}}}',
    ):
        rewrite(root / "results/manifest.json", text)
        assert not is_published(layout_of(PLAN), store, root), text


@pytest.mark.parametrize("command", ["check", "plan", "run", "publish", "snakemake"])
@pytest.mark.parametrize("which", ["raw", "store", "link"])
def test_every_command_refuses_places_that_lie_in_each_other(
    command: str, which: str, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "project")
    if which == "raw":
        (project.root / "data/shards").mkdir(parents=True)
        project.images.rename(project.root / "data/shards/images")
        project.set({"dataset.path": "data/shards/images"})
        message = "dataset.path: .*lie in each other"
    elif which == "store":
        project.store = Store(project.root / "results/models/store")
        message = "KAIZEN_STORE: .*lie in each other"
    else:
        (project.root / "results").mkdir()
        (project.root / "results/models").symlink_to(project.images)
        message = "results/models is a link to"
    before = contents(project.root)
    done = project.snakemake("-n") if command == "snakemake" else project.kaizen(command)
    assert done.code == 2, done.output
    assert re.search(f"^kaizen: .*{message}", done.output, re.MULTILINE), done.output
    assert "Traceback" not in done.output
    assert contents(project.root) == before and not project.store.root.exists()
