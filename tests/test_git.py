"""The commit of a checkout, and which of its files differ from it, with and without git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kaizen.provenance import git


def run_git(folder: Path, *arguments: str) -> str:
    who = [
        f"GIT_{who}_{what}=t@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    ]
    command = ["env", *who, "git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / "kaizen").mkdir(parents=True)
    (root / "kaizen/a.py").write_text("1\n")
    (root / "other.txt").write_text("1\n")
    (root / ".gitignore").write_text("*.log\n")
    run_git(root, "init", "--quiet", "--initial-branch", "main")
    run_git(root, "add", "-A")
    run_git(root, "commit", "--quiet", "--message", "one")
    return root


@pytest.fixture
def no_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Takes git away, after what the test needed it for."""
    return lambda: monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "state", ["branch", "packed", "detached", "tag", "worktree", "worktree packed", "deep branch"]
)
def test_the_commit_is_read_without_git(
    repository: Path, no_git: Callable[[], None], state: str
) -> None:
    place = repository
    if state.startswith("worktree"):
        place = repository.parent / "worktree"
        run_git(repository, "worktree", "add", "--quiet", "-b", "side", str(place))
        run_git(place, "commit", "--quiet", "--allow-empty", "--message", "two")
    elif state == "detached":
        run_git(repository, "checkout", "--quiet", "--detach")
    elif state == "tag":
        run_git(repository, "tag", "--annotate", "v1", "--message", "v1")
        run_git(repository, "checkout", "--quiet", "v1")
    elif state == "deep branch":
        run_git(repository, "checkout", "--quiet", "-b", "a/b/c")
        run_git(repository, "commit", "--quiet", "--allow-empty", "--message", "two")
    if "packed" in state:
        run_git(repository, "pack-refs", "--all")
    expected = run_git(place, "rev-parse", "HEAD")
    (place / "deeper/down").mkdir(parents=True)
    no_git()
    assert git.top_of(place / "deeper/down") == place
    assert git.head_commit(place) == expected


def test_where_there_is_no_commit_none_is_made_up(tmp_path: Path, repository: Path) -> None:
    assert git.top_of(tmp_path) is None
    run_git(tmp_path, "init", "--quiet")
    assert git.top_of(tmp_path) == tmp_path and git.head_commit(tmp_path) is None
    (repository / ".git/HEAD").write_bytes(b"\xff\x00")
    assert git.head_commit(repository) is None


@pytest.mark.parametrize("mark", ["--assume-unchanged", "--skip-worktree"])
def test_a_file_that_git_was_set_to_skip_is_looked_at(repository: Path, mark: str) -> None:
    path = repository / "kaizen/a.py"
    run_git(repository, "update-index", mark, "kaizen/a.py")
    assert git.changed_files(repository, ["kaizen"]) == []
    path.write_text("2\n")
    assert run_git(repository, "status", "--porcelain") == ""
    assert git.changed_files(repository, ["kaizen"]) == ["kaizen/a.py"]
    path.unlink()
    gone = [] if mark == "--skip-worktree" else ["kaizen/a.py"]
    assert git.changed_files(repository, ["kaizen"]) == gone, "a sparse checkout is no change"


def test_a_file_of_the_size_and_time_that_git_knows_is_looked_at(repository: Path) -> None:
    path = repository / "kaizen/a.py"
    for name, value in (("core.trustctime", "false"), ("core.checkStat", "minimal")):
        run_git(repository, "config", name, value)
    os.utime(path, (10**9, 10**9))
    run_git(repository, "update-index", "--refresh")
    path.write_text("2\n")
    os.utime(path, (10**9, 10**9))
    assert run_git(repository, "status", "--porcelain") == ""
    assert git.changed_files(repository, ["kaizen"]) == ["kaizen/a.py"]


def test_modules_that_git_does_not_know_are_changes(repository: Path, tmp_path: Path) -> None:
    (repository / ".git/info").mkdir(exist_ok=True)
    (repository / ".git/info/exclude").write_text("secret*\n__pycache__/\n")
    run_git(repository, "config", "status.showUntrackedFiles", "no")
    for name in ("secret.py", "secret_folder/b.py", "new.py", "__pycache__/a.pyc", "secret.txt"):
        (repository / "kaizen" / name).parent.mkdir(exist_ok=True)
        (repository / "kaizen" / name).write_text("1\n")
    expected = ["kaizen/new.py", "kaizen/secret.py", "kaizen/secret_folder/b.py"]
    assert git.changed_files(repository, ["kaizen"]) == expected
    # A repository of its own, and a link out of the checkout.
    (repository / "kaizen/inner").mkdir()
    (repository / "kaizen/inner/c.py").write_text("1\n")
    run_git(repository / "kaizen/inner", "init", "--quiet")
    (tmp_path / "outside.py").write_text("1\n")
    (repository / "kaizen/link.py").symlink_to(tmp_path / "outside.py")
    run_git(repository, "add", "kaizen/link.py")
    run_git(repository, "commit", "--quiet", "--message", "a link")
    expected = sorted([*expected, "kaizen/inner/c.py", "kaizen/link.py"])
    assert git.changed_files(repository, ["kaizen"]) == expected


def test_what_differs_from_another_commit(repository: Path) -> None:
    first = run_git(repository, "rev-parse", "HEAD")
    (repository / "kaizen/b.py").write_text("1\n")
    (repository / "kaizen/a.py").write_text("2\n")
    run_git(repository, "add", "-A")
    run_git(repository, "commit", "--quiet", "--message", "two")
    assert git.changed_files(repository, ["kaizen"]) == []
    assert git.changed_files(repository, ["kaizen"], first) == ["kaizen/a.py", "kaizen/b.py"]
    (repository / "kaizen/a.py").write_text("1\n")
    assert git.changed_files(repository, ["kaizen"], first) == ["kaizen/b.py"]
    run_git(repository, "update-index", "--assume-unchanged", "kaizen/a.py")
    assert git.changed_files(repository, ["kaizen"]) == ["kaizen/a.py"]


def test_changed_files_are_those_that_differ_from_the_commit(
    repository: Path, no_git: Callable[[], None]
) -> None:
    def found() -> list[str] | None:
        return git.changed_files(repository, ["kaizen", "missing"])

    assert found() == []
    (repository / "other.txt").write_text("2\n")
    (repository / "kaizen/run.log").write_text("ignored")
    assert found() == []
    (repository / "kaizen/a.py").write_text("2\n")
    (repository / "kaizen/new name.py").write_text("new")
    assert found() == ["kaizen/a.py", "kaizen/new name.py"]
    run_git(repository, "add", "-A")
    assert found() == ["kaizen/a.py", "kaizen/new name.py"]
    run_git(repository, "commit", "--quiet", "--message", "two")
    run_git(repository, "mv", "kaizen/a.py", "kaizen/b.py")
    assert found() == ["kaizen/a.py", "kaizen/b.py"]
    commit = run_git(repository, "rev-parse", "HEAD")
    assert git.is_in_commit(repository, commit, "other.txt")
    assert not git.is_in_commit(repository, commit, "kaizen/run.log"), (
        "an ignored file is not changed, but not there"
    )
    no_git()
    assert found() is None and not git.is_in_commit(repository, commit, "other.txt")
