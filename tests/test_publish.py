from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY, commit_fake, make_plan
from project import make_project

import kaizen.store.publish as publish_module
from kaizen.errors import KaizenError
from kaizen.files import read_json, write_json
from kaizen.plan.layout import layout_of
from kaizen.plan.nodes import Node, Plan
from kaizen.store.layout import MANAGED, check_places
from kaizen.store.locks import hold
from kaizen.store.manifest import expected_manifest
from kaizen.store.node_id import NodeId
from kaizen.store.publish import is_published, publish, write_marker
from kaizen.store.records import FileEntry, parse_record
from kaizen.store.store import Store
from kaizen.store.take_back import take_back

PLAN = make_plan(
    {"split.tasks": 2, "grid.variants": ["kaizen", "cassle"], "replay.proportion": [0.1, 0.5]}
)
STEP_1 = PLAN.runs[0].steps[1]
STEP_1_FOLDER = "results/models/simclr-kaizen-replay10pct-seed0/step-01"


def finish(plan: Plan, store: Store) -> None:
    """Put every node of a plan into a store."""
    for node in plan.nodes.values():
        if not store.has(node.id):
            metrics = (
                {"metrics.json": '{"a": 1}\n', "figures/bars.csv": "x,mean\n"}
                if node is plan.summary
                else None
            )
            commit_fake(store, node, metrics)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that holds all of the plan."""
    store = Store(tmp_path / "store")
    finish(PLAN, store)
    return store


@pytest.fixture
def root(tmp_path: Path, store: Store) -> Path:
    """A checkout with the plan published, as copies that may be written: so DVC may check them
    out.
    """
    root = tmp_path / "checkout"
    publish(layout_of(PLAN), store, root)
    for path in root.rglob("*"):
        if path.is_file():
            rewrite(path, path.read_bytes())
    return root


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    """A store that holds nothing."""
    return Store(tmp_path / "empty")


def rewrite(path: Path, content: bytes | str) -> None:
    """Replace a file without touching what its inode is shared with."""
    path.unlink()
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a checkout but those of Kaizen's own working folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".kaizen" not in path.relative_to(folder).parts
    }


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    value = read_json(path)
    change(value)
    rewrite(path, json.dumps(value))


# -- publishing --------------------------------------------------------------------------------


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


def test_an_unfinished_plan_is_not_published(store: Store, tmp_path: Path) -> None:
    shutil.rmtree(store.folder(STEP_1.id))
    with pytest.raises(
        KaizenError, match=f"{STEP_1.key}/node.json does not exist; run `kaizen plan`"
    ):
        publish(layout_of(PLAN), store, tmp_path / "root")
    assert not (tmp_path / "root/results/manifest.json").exists()


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


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    rewrite(path, bytes(content))


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
