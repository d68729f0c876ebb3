"""Garbage collection: only what no checkout needs, as much as a quota asks for; and stores of
several users.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import commit_fake, make_plan, tree

from kaizen.errors import KaizenError
from kaizen.files import write_text
from kaizen.plan.nodes import Node
from kaizen.plan.specs import Spec
from kaizen.store.garbage import collect, delete, find_garbage, parse_size
from kaizen.store.locks import hold
from kaizen.store.node_id import NodeId
from kaizen.store.store import Store
from kaizen.store.users import forget, register, users

PLAN = make_plan()
NODE = PLAN.runs[0].steps[0]
OTHER = PLAN.runs[0].steps[1]
FILES = {"model.safetensors": "weights", "deep/er/history.csv": "epoch\n1\n"}


def needed(*nodes: Node[Spec]) -> set[NodeId]:
    return {node.id for node in nodes}


def test_garbage_is_what_no_node_needs(store: Store) -> None:
    summary, evaluation = PLAN.summary, PLAN.runs[0].evaluation
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


def test_a_quota_lets_the_longest_unused_go_first(
    store: Store, checkouts: tuple[Path, Path]
) -> None:
    nodes: list[Node[Spec]] = [NODE, OTHER, PLAN.summary, PLAN.shards]
    for age, node in enumerate(nodes):
        commit_fake(store, node, {"data": "x" * 10_000})
        os.utime(store.folder(node.id), (1e9 - age, 1e9 - age))
    write_text(store.root / ".damaged" / "step-k-ab" / "node.json", "{}")
    store.note_use(NodeId.of("shards", PLAN.shards.key))
    register(store, checkouts[0], "a", needed(NODE))
    each = sum(path.stat().st_size for path in store.folder(NodeId.of("step", OTHER.key)).iterdir())
    names = [item.path.name for item in collect(store, 3 * each + 3000, really=False)]
    assert names == ["step-k-ab", PLAN.summary.key], (
        "damaged ones first, then the oldest that no plan needs"
    )
    names = [item.path.name for item in collect(store, 0, really=True)]
    assert names == ["step-k-ab", PLAN.summary.key, OTHER.key, PLAN.shards.key]
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
    with store.lock(NodeId.of("step", "free")):
        pass
    with store.lock(NodeId.of("step", "held")):
        collect(store, None, really=True)
        assert sorted(path.name for path in (store.root / ".locks").iterdir()) == [
            "gate",
            "step-held",
        ]


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
    """As in a container whose user stands in no list of users."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    register(store, checkouts[0], "a", needed(NODE))
    assert [user.user for user in users(store)] == [str(os.getuid())]


def test_a_torn_registration_is_no_error(store: Store, checkouts: tuple[Path, Path]) -> None:
    write_text(store.root / ".users" / "torn.json", '{"checkout": 3')
    register(store, checkouts[0], "a", needed(NODE))
    assert [user.checkout for user in users(store)] == [str(checkouts[0])]


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
def shared_store(tmp_path: Path) -> Iterator[tuple[Store, int]]:
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
    yield store, group


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
