"""A store of several checkouts and users: what any of them needs is kept."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import commit_fake
from nodes import NODE, OTHER, PLAN, needed
from project import make_project

from kaizen.errors import KaizenError
from kaizen.files import read_json, write_json, write_text
from kaizen.jobs.workflow import Workflow
from kaizen.store.garbage import collect
from kaizen.store.locks import hold
from kaizen.store.node_id import NodeId
from kaizen.store.processes import record_workflow, started
from kaizen.store.registrations import forget, register, registrations, users
from kaizen.store.store import Store
from kaizen.store.users import user_of

# -- users of a store --------------------------------------------------------------------------


@pytest.fixture
def checkouts(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    return folders


def test_what_any_checkout_needs_is_kept_until_it_goes(
    store: Store, checkouts: tuple[Path, Path]
) -> None:
    summary = PLAN.summary
    for node in (NODE, OTHER, summary):
        commit_fake(store, node)
    one, two = checkouts
    register(store, one, "a", needed(NODE))
    register(store, two, "b", needed(OTHER))
    assert {user.checkout: user.nodes for user in users(store)} == {
        str(one): needed(NODE),
        str(two): needed(OTHER),
    }
    assert [item.path.name for item in collect(store, None, really=True)] == [summary.key]
    assert set(store.entries()) == needed(NODE, OTHER)
    # A new plan takes the place of the checkout's former one; a checkout that is gone needs
    # nothing.
    register(store, one, "c", needed(OTHER))
    shutil.rmtree(two)
    assert {item.path.name for item in collect(store, None, really=False)} == {NODE.key}
    assert set(store.entries()) == needed(NODE, OTHER), "a dry run removes nothing"
    forget(store, one)
    assert {item.path.name for item in collect(store, None, really=True)} == {NODE.key, OTHER.key}
    assert users(store) == [] and list((store.root / ".users").iterdir()) == []
    with pytest.raises(KaizenError, match=f"{one} does not use .*known: none"):
        forget(store, one)


def test_a_copied_store_has_no_users_of_its_own(
    store: Store, checkouts: tuple[Path, Path], tmp_path: Path
) -> None:
    commit_fake(store, NODE)
    register(store, checkouts[0], "a", needed(NODE))
    shutil.copytree(store.root, tmp_path / "copy")
    copy = Store(tmp_path / "copy")
    assert users(copy) == []
    register(copy, checkouts[0], "a", needed(NODE))
    assert collect(copy, None, really=False) == collect(store, None, really=False) == []


def test_a_user_without_a_name_is_known_by_number(
    store: Store, checkouts: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose user is in no list of users."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    register(store, checkouts[0], "a", needed(NODE))
    assert [user.user for user in users(store)] == [str(os.getuid())]


@pytest.mark.parametrize(
    "text",
    [
        '{"checkout": 3',
        "",
        "[]",
        '{"version": 3, "nodes": []}',
        '{"version": 2}',
        "\udcff",
        "[" * 5000,
    ],
)
def test_where_a_registration_cannot_be_read_no_node_goes(
    text: str, store: Store, checkouts: tuple[Path, Path]
) -> None:
    """It may be torn or a later version's: whose nodes those are is not known."""
    for node in (NODE, OTHER):
        commit_fake(store, node)
    write_text(store.work_folder(PLAN.summary.id) / "resume.safetensors", "state")
    write_text(store.root / ".damaged" / "step-k-ab" / "node.json", "{}")
    torn = store.root / ".users" / "torn.json"
    torn.parent.mkdir()
    torn.write_bytes(text.encode("utf-8", "surrogateescape"))
    register(store, checkouts[0], "a", needed(NODE))
    assert [user.checkout for user in users(store)] == [str(checkouts[0])]
    assert registrations(store).unreadable == [torn]
    assert [item.path.name for item in collect(store, None, really=True)] == ["step-k-ab"]
    assert set(store.entries()) == needed(NODE, OTHER) and torn.exists()
    forget(store, torn)
    assert {item.path.name for item in collect(store, None, really=True)} == {
        OTHER.key,
        PLAN.summary.id.file_name,
    }


def edit_registrations(store: Store, /, **changes: object) -> None:
    for path in (store.root / ".users").glob("*.json"):
        write_json(path, read_json(path) | changes)


@pytest.mark.parametrize(
    "unseen", ["machine", "unmounted", "mount point", "private home", "moved", "old version"]
)
def test_what_cannot_be_seen_is_kept(
    unseen: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a checkout that this machine would see if it were there is gone."""
    commit_fake(store, NODE)
    checkout = tmp_path / "disk" / "one"
    checkout.mkdir(parents=True)
    register(store, checkout, "a", needed(NODE))
    if unseen == "moved":
        store.root.rename(tmp_path / "elsewhere")
        store = Store(tmp_path / "elsewhere")
    elif unseen == "private home":
        stat_of = Path.stat

        def refused(path: Path, **options: bool) -> os.stat_result:
            if path.is_relative_to(checkout):
                raise PermissionError(13, "Permission denied", str(path))
            return stat_of(path, **options)

        monkeypatch.setattr(Path, "stat", refused)
    else:
        shutil.rmtree(checkout)
        if unseen == "machine":  # a container whose host has the same name
            edit_registrations(store, machine="0" * 32)
        elif unseen == "unmounted":
            (tmp_path / "disk").rename(tmp_path / "away")
            (tmp_path / "disk").mkdir()
        elif unseen == "mount point":
            (path,) = (store.root / ".users").glob("*.json")
            (device, inode), *above = read_json(path)["above"]
            edit_registrations(store, above=[[device + 1, inode], *above])
        else:
            (path,) = (store.root / ".users").glob("*.json")
            names = ("checkout", "store", "host", "user", "at", "plan", "nodes")
            found = read_json(path)
            write_json(path, {name: found[name] for name in names})
    assert len(users(store)) == 1
    assert collect(store, None, really=True) == []
    assert set(store.entries()) == needed(NODE) and len(users(store)) == 1
    monkeypatch.undo()
    forget(store, checkout)
    assert len(collect(store, None, really=True)) == 1


def test_a_store_reached_by_another_path_keeps_its_users(
    store: Store, checkouts: tuple[Path, Path], tmp_path: Path
) -> None:
    commit_fake(store, NODE)
    register(store, checkouts[0], "a", needed(NODE))
    edit_registrations(store, store=str(tmp_path / "mounted elsewhere"))
    assert collect(store, None, really=True) == []
    (tmp_path / "link").symlink_to(store.root)
    assert collect(Store(tmp_path / "link"), None, really=True) == []
    identity = (store.root / ".id").read_text()
    register(store, checkouts[1], "a", needed(NODE))
    assert (store.root / ".id").read_text() == identity and len(identity.strip()) == 32


def test_plans_of_one_checkout_live_side_by_side_until_none_works_there(
    store: Store, checkouts: tuple[Path, Path]
) -> None:
    for node in (NODE, OTHER, PLAN.summary):
        commit_fake(store, node)
    one = checkouts[0]
    with subprocess.Popen(["sleep", "600"]) as running:
        register(store, one, "a", needed(NODE))
        edit_registrations(store, pid=running.pid, started=started(running.pid))
        register(store, one, "b", needed(OTHER))
        assert {user.plan for user in users(store)} == {"a", "b"}
        assert [item.path.name for item in collect(store, None, really=True)] == [PLAN.summary.key]
        running.kill()
        os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
    # A snakemake of another machine counts as alive.
    record_workflow(one)
    (record,) = (one / ".kaizen/workflows").glob("*.json")
    write_json(record, read_json(record) | {"machine": "0" * 32})
    assert {user.plan for user in users(store)} == {"a", "b"}
    record.unlink()
    assert {user.plan for user in users(store)} == {"b"}
    assert [item.path.name for item in collect(store, None, really=True)] == [NODE.key]


def test_a_dry_run_and_a_plan_from_a_file_take_no_runs_place(
    store: Store, checkouts: tuple[Path, Path]
) -> None:
    for node in (NODE, OTHER, PLAN.summary):
        commit_fake(store, node)
    one = checkouts[0]
    register(store, one, "a", needed(NODE))
    register(store, one, "b", needed(OTHER), firm=False)
    register(store, one, "a", needed(NODE), firm=False)
    assert {user.plan: user.firm for user in users(store)} == {"a": True, "b": False}
    also = user_of(store, one, "c", needed(PLAN.summary))
    assert {item.path.name for item in collect(store, None, really=False, also=also)} == {
        NODE.key,
        OTHER.key,
    }
    assert {user.plan for user in users(store)} == {"a", "b"}, "looking replaces nothing"
    register(store, one, "c", needed(PLAN.summary))
    assert {user.plan for user in users(store)} == {"c"}
    register(store, one, "a", needed(NODE), firm=False)
    assert {user.plan for user in users(store)} == {"a", "c"}, "what is about to start is kept"


def test_commands_that_run_register_and_those_that_look_replace_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "project")
    with monkeypatch.context() as patch:
        patch.chdir(project.root)
        patch.setenv("KAIZEN_STORE", str(project.store.root))
        Workflow.from_files(project.params, [], project.root).register()
    (first,) = users(project.store)
    project.set({"train.lr": 0.7})
    for done in (project.snakemake("-n"), project.kaizen("plan"), project.kaizen("gc")):
        assert done.code == 0, done.output
    found = users(project.store)
    assert [user.plan for user in found if user.firm] == [first.plan]
    assert len(found) == 2, "the nodes that a dry run looked at are kept, too"
    plan = json.loads(project.kaizen("plan", "--json").output)
    nodes = [node for node in plan["nodes"] if node["kind"] == "shards"]
    write_json(project.root / "plan.json", {"nodes": nodes})
    assert project.kaizen("run", "--plan", "plan.json").code == 0
    kept = [user for user in users(project.store) if user.plan.startswith("file ")]
    assert [user.nodes for user in kept] == [set(project.store.entries())]
    other = Store(tmp_path / "other")
    assert project.kaizen("run", "--plan", "plan.json", "--store", str(other.root)).code == 0
    assert [user.nodes for user in users(other)] == [set(other.entries())]


def test_users_that_cannot_be_listed_stop_the_collector(store: Store) -> None:
    commit_fake(store, NODE)
    write_text(store.root / ".users", "a file in its place")
    with pytest.raises(KaizenError, match=r"\.users cannot be read .*who uses the store"):
        collect(store, None, really=True)
    assert set(store.entries()) == needed(NODE)


# -- one store of several users of the machine -------------------------------------------------


def as_user(uid: int, gid: int, work: Callable[[], None]) -> int:
    """Do ``work`` in a child process of another user and of the group; returns its exit code."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([gid])
            os.setgid(uid)
            os.setuid(uid)
            os.umask(0o022)
            work()
            os._exit(0)
        except BaseException as error:
            print(f"user {uid}: {error!r}", flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def shared_store(tmp_path: Path) -> tuple[Store, int]:
    """A store that a group of the machine may write, and the group's number."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as several users")
    group = 54_321
    store = Store(tmp_path / "store")
    store.root.mkdir()
    os.chown(store.root, 0, group)
    store.root.chmod(0o2775)
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    tmp_path.chmod(0o755)
    return store, group


def test_users_of_a_group_share_a_store(shared_store: tuple[Store, int]) -> None:
    store, group = shared_store
    summary = PLAN.summary

    def first() -> None:
        store.follow_sharing()
        commit_fake(store, NODE)
        write_text(
            store.work_folder(NodeId.of("step", OTHER.key)) / "resume.safetensors", "half way"
        )
        with hold(store.lock_file(NodeId.of("step", OTHER.key))):
            (store.root / "step" / f".{OTHER.key}.1.ab.tmp").mkdir()

    def second() -> None:
        store.follow_sharing()
        assert (
            store.open_file(NodeId.of("step", NODE.key), "data.txt").read_text()
            == f"made for {NODE.title}\n"
        )
        # Goes on where the first user stopped, in folders that the first user made.
        write_text(
            store.work_folder(NodeId.of("step", OTHER.key)) / "resume.safetensors", "further"
        )
        commit_fake(store, OTHER)
        commit_fake(store, summary)
        assert not list((store.root / "step").glob("*.tmp"))

    def third() -> None:
        store.follow_sharing()
        assert len(collect(store, None, really=True)) == 4

    assert as_user(60_001, group, first) == 0
    assert as_user(60_002, group, second) == 0
    assert set(store.entries()) == needed(NODE, OTHER, summary)
    for path in store.folder(NodeId.of("step", NODE.key)).rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o444, "nobody writes into a finished node"
    assert as_user(60_003, group, third) == 0
    assert list(store.entries()) == []


def test_a_store_of_one_user_stays_that_users(shared_store: tuple[Store, int]) -> None:
    store, group = shared_store
    os.chown(store.root, 60_001, group)
    store.root.chmod(0o755)

    def mine() -> None:
        store.follow_sharing()
        commit_fake(store, NODE)

    def other() -> None:
        store.follow_sharing()
        assert store.open_file(NodeId.of("step", NODE.key), "data.txt").is_file(), "reading is free"
        with pytest.raises(KaizenError, match="make the folder writable for you"):
            commit_fake(store, OTHER)

    assert as_user(60_001, group, mine) == 0
    assert as_user(60_002, group, other) == 0
    assert set(store.entries()) == needed(NODE)
