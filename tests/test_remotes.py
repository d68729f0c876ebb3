"""DVC remotes over SSH and S3, real servers both: models and shards pushed and pulled, and nothing
made again.
"""

from __future__ import annotations

from pathlib import Path

from project import Project
from servers import object_store, ssh_server


def push_and_clone(
    project: Project, folder: Path, variables: dict[str, str], *remote: tuple[str, ...]
) -> Project:
    """Push to a new default remote and clone; the clone has neither a store nor anything in its
    cache.
    """
    project.variables = variables
    project.run("dvc", "remote", "remove", "local")
    for command in remote:
        project.run("dvc", "remote", *command)
    project.commit("remote")
    project.run("dvc", "push", "--quiet")
    project.run("git", "clone", "--quiet", str(project.root), str(folder))
    clone = Project(folder)
    clone.variables = variables
    clone.start_counting()
    return clone


def check_pulled(project: Project, clone: Project) -> None:
    """After a pull nothing is planned, and the bytes are the project's; a change runs what depends
    on it.
    """
    clone.run("dvc", "pull", "--quiet")
    assert not clone.store.root.exists()
    assert "Nothing to be done" in clone.snakemake("--dry-run").good()
    assert clone.jobs() == {}
    assert clone.manifest() == project.manifest()
    clone.check_nothing_stale()


def cached(project: Project) -> set[str]:
    """The objects of a project's DVC cache, as a remote names them; not those of the run cache."""
    cache = project.root / ".dvc/cache"
    return {
        path.relative_to(cache).as_posix()
        for path in (cache / "files").rglob("*")
        if path.is_file()
    }


def test_push_and_pull_over_ssh(project: Project, tmp_path: Path) -> None:
    with ssh_server(tmp_path) as server:
        remote = tmp_path / "remote"
        clone = push_and_clone(
            project,
            tmp_path / "clone",
            {"HOME": str(server.home)},
            ("add", "--default", "far", server.url(remote)),
            ("modify", "far", "keyfile", str(server.key)),
        )
        assert {
            path.relative_to(remote).as_posix() for path in remote.rglob("*") if path.is_file()
        } == cached(project)
        check_pulled(project, clone)


def test_push_and_pull_over_s3(project: Project, tmp_path: Path) -> None:
    with object_store(tmp_path / "weed") as server:
        credentials = {
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
        }
        clone = push_and_clone(
            project,
            tmp_path / "clone",
            credentials | {"AWS_DEFAULT_REGION": "us-east-1"},
            ("add", "--default", "objects", f"s3://{server.bucket}/dvc"),
            ("modify", "objects", "endpointurl", server.url),
        )
        assert {key.removeprefix("dvc/") for key in server.objects()} == cached(project)
        check_pulled(project, clone)
