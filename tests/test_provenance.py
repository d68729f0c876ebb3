"""Where a result comes from: what is recorded, and what `kaizen explain` makes of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project import Outcome, Project, make_checkout, make_project

from kaizen.evaluation.metrics import continual_accuracy
from kaizen.files import read_json, sha256_file, write_json
from kaizen.provenance import git, origin
from kaizen.provenance.show import duration
from kaizen.store.node_id import NodeId
from kaizen.store.records import record_key

KAIZEN = "results/models/simclr-kaizen-replay25pct-seed0"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two seeds of two variants, once run."""
    project = make_project(tmp_path_factory.mktemp("finished") / "project", {"grid.seeds": [0, 1]})
    outcome = project.kaizen("run")
    assert outcome.code == 0, outcome.output
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    return finished.copy(tmp_path / "project")


def explained(project: Project, asked: str) -> dict[str, Any]:
    outcome = project.kaizen("explain", asked, "--json")
    assert outcome.code == 0, outcome.output
    read: dict[str, Any] = json.loads(outcome.output)
    return read


# -- the commit --------------------------------------------------------------------------------


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
def test_a_file_that_git_was_told_to_pass_over_is_looked_at(repository: Path, mark: str) -> None:
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


# -- what is recorded --------------------------------------------------------------------------


def test_a_nodes_run_tells_how_it_was_made(finished: Project) -> None:
    key = finished.keys("step")[0]
    run = finished.store.read_run_record(NodeId.of("step", key))
    assert run is not None
    assert {"began", "seconds", "host", "pid", "processes", "title", "local"} <= run.keys()
    assert run["local"]["code"]["modules"][0] == "kaizen.training.step"
    assert set(run["local"]["versions"]) == {"numpy", "pillow", "torch"}
    # This project's parameters lie in no repository, or in another than the code.
    assert run["local"]["origin"]["params_committed"] is False
    record = finished.store.record_path(NodeId.of("step", key)).read_text()
    assert "origin" not in record and "versions" not in record, (
        "what differs from run to run stays out of the record"
    )


def test_jobs_tell_where_they_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    facts = origin.process_facts()
    assert facts["processes"] == 1 and facts["pid"] == os.getpid() and "slurm_job" not in facts
    monkeypatch.setenv("SLURM_JOB_ID", "1234")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert origin.process_facts().items() >= {"slurm_job": "1234", "processes": 2}.items()


def test_the_snakemake_of_a_clusters_job_takes_over_what_the_first_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["/bin/snakemake", "--cores", "all", "--configfile", "a b.yaml"]
    )
    monkeypatch.delenv("KAIZEN_ORIGIN", raising=False)
    first = origin.Origin(tmp_path, None)
    assert first.facts["command"] == "snakemake --cores all --configfile 'a b.yaml'"
    first.facts["commit"] = "0" * 40
    monkeypatch.setenv("KAIZEN_ORIGIN", "")
    first.tell_jobs()
    again = origin.Origin(tmp_path, None)
    assert again.facts["commit"] != "0" * 40, "a command of its own looks for itself"
    monkeypatch.setattr(sys, "argv", ["/x/snakemake/__main__.py", "--target-jobs", "step:key=1"])
    assert origin.Origin(tmp_path, None).facts == first.facts


def test_an_origin_too_long_for_an_environment_variable_goes_through_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux starts no program at all with a variable of more than 128 KiB."""
    monkeypatch.setattr(sys, "argv", ["/bin/snakemake", "--cores", "all"])
    monkeypatch.setenv("KAIZEN_ORIGIN", "")
    first = origin.Origin(tmp_path, None)
    first.facts["changed"] = [f"kaizen/{number:0100d}.py" for number in range(2000)]
    first.tell_jobs()
    subprocess.run(["true"], check=True)
    monkeypatch.setattr(sys, "argv", ["/x/snakemake/__main__.py", "--target-jobs", "step:key=1"])
    assert origin.Origin(tmp_path, None).facts == first.facts


def test_other_code_than_the_plans_makes_no_node(project: Project) -> None:
    nodes = json.loads(project.kaizen("plan", "--json").output)["nodes"]
    summary = nodes[-1]
    summary["local"]["code"]["modules"].append("kaizen.training.schedule")
    shutil.rmtree(project.store.folder(NodeId.of("summary", summary["key"])))
    (project.root / "plan.json").write_text(json.dumps({"nodes": nodes}))
    outcome = project.kaizen("run", "--plan", "plan.json")
    assert (
        outcome.code == 2
        and "is not the plan's" in outcome.output
        and "plans again" in outcome.output
    )
    assert not project.store.has(NodeId.of("summary", summary["key"]))


@pytest.mark.parametrize("by", ["run --plan", "node --spec"])
def test_a_plan_that_names_no_versions_is_checked_with_the_installed_ones(
    project: Project, by: str
) -> None:
    """Its key must be that of the present code; a plan of an older one is refused."""
    nodes = json.loads(project.kaizen("plan", "--json").output)["nodes"]
    summary = nodes[-1]
    name = NodeId.of("summary", summary["key"])

    def make() -> Outcome:
        shutil.rmtree(project.store.folder(name), ignore_errors=True)
        write_json(project.root / "plan.json", {"nodes": nodes})
        if by == "run --plan":
            return project.kaizen("run", "--plan", "plan.json")
        return project.kaizen("node", "--spec", json.dumps(summary))

    versions = summary["local"].pop("versions")
    assert make().code == 0
    run = project.store.read_run_record(name) or {}
    assert run["local"]["versions"] == versions, "recorded, so that it can be explained"

    # As from code of another time: everything fits together but the code itself.
    summary["code"] = "0" * 64
    summary["key"] = record_key(summary)
    name = NodeId.of("summary", summary["key"])
    for modules, why in (
        (summary["local"]["code"]["modules"], "local.versions"),
        ([], "local.code"),
    ):
        summary["local"]["code"]["modules"] = modules
        refused = make()
        assert refused.code == 2 and "plan --json" in refused.output and why in refused.output
        assert not project.store.has(name)


def test_a_module_edited_between_plan_and_import_makes_no_node(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process plans, and later imports what makes a node: another source by then, perhaps."""
    from kaizen.report import tables

    nodes = project.plan()
    name = NodeId.of("summary", nodes[-1]["key"])
    shutil.rmtree(project.store.folder(name))
    # From which it would be taken back.
    (project.root / "results/manifest.json").unlink()
    assert tables.__spec__ is not None
    loader = tables.__spec__.loader
    source = loader.get_data(tables.__file__)  # type: ignore[union-attr]
    monkeypatch.setattr(loader, "source", source + b"\nx = 1\n")
    outcome = project.kaizen("run")
    assert outcome.code == 2 and "kaizen.report.tables changed" in outcome.output
    assert not project.store.has(name)
    monkeypatch.setattr(loader, "source", source + b"\n# a comment\n")
    assert project.kaizen("run").code == 0 and project.store.has(name)


# -- explaining --------------------------------------------------------------------------------


def test_a_published_file_is_explained_down_to_the_data(finished: Project) -> None:
    found = explained(finished, f"{KAIZEN}/step-01/model.safetensors")
    record = read_json(finished.root / KAIZEN / "step-01/node.json")
    assert (found["kind"], found["key"], found["what"]) == (
        "step",
        record["key"],
        "model of the training step",
    )
    assert found["in_current_plan"] is True and found["published"] == [f"{KAIZEN}/step-01"]
    (file,) = found["files"]
    assert file["problem"] is None and file["sha256"] == sha256_file(
        finished.root / KAIZEN / "step-01/model.safetensors"
    )
    assert found["parameters"] == record["params"] and found["environment"] == record["environment"]
    assert found["code"]["fingerprint"] == record["code"] and found["code"]["same_now"] is True
    parents = {entry["role"]: entry for entry in found["parents"]}
    # Which shards were read differs from run to run, where they have the same of these tasks.
    assert set(parents) == {"prior", "replay", "shards"} == set(record["inputs"]) | {"shards"}
    assert [entry["kind"] for entry in parents["prior"]["parents"]] == ["shards"]
    (data,) = found["data"]
    assert (data["source"], data["path"], len(data["checksums"])) == ("image_folder", "images", 8)
    keys = {record["key"], *(entry["key"] for entry in parents.values())}
    runs = [
        finished.store.read_run_record(node) or {} for node in finished.nodes() if node.key in keys
    ]
    times = [max(run["seconds"], run.get("training_seconds", 0.0)) for run in runs]
    assert found["wall_time"] == {"seconds": pytest.approx(sum(times)), "nodes": 4, "unknown": 0}


@pytest.mark.parametrize(
    ("asked", "kind", "what"),
    [
        (
            "results/summary/figures/accuracy_bars.png",
            "summary",
            "figure of the summary of all runs",
        ),
        (
            "results/summary/figures/accuracy_bars.csv",
            "summary",
            "data of a figure of the summary of all runs",
        ),
        ("results/metrics.json", "summary", "metrics of the summary of all runs"),
        (f"{KAIZEN}/README.md", "summary", "card of the summary of all runs"),
        (f"{KAIZEN}/step-00", "step", "training step"),
        (f"./{KAIZEN}/../simclr-kaizen-replay25pct-seed0/step-00/", "step", "training step"),
        ("data/shards/task-00.train.parquet", "shards", "shard of the task shards"),
        ("data/replay/first_n-25pct/step-01", "replay", "replay shard"),
        ("results/evaluations/simclr-no_distill-seed1", "evaluation", "evaluation of a run"),
    ],
)
def test_every_published_place_leads_to_its_node(
    finished: Project, asked: str, kind: str, what: str
) -> None:
    found = explained(finished, asked)
    assert (found["kind"], found["what"]) == (kind, what)
    assert found["files"] and not any(file["problem"] for file in found["files"])


def test_a_node_is_found_by_its_key_the_beginning_of_it_and_its_path_in_the_store(
    finished: Project,
) -> None:
    key = finished.keys("step")[0]
    place = finished.store.folder(NodeId.of("step", key))
    for asked in (
        key,
        f"step/{key[:10]}",
        str(place),
        str(place / "history.parquet"),
        f".kaizen/store/step/{key}",
    ):
        assert explained(finished, asked)["key"] == key, asked


def test_a_number_leads_to_the_evaluations_that_it_is_the_mean_of(finished: Project) -> None:
    found = explained(finished, "results/metrics.json:Kaizen.CA")["number"]
    means = []
    for seed, run in enumerate(found["runs"]):
        assert run["run"] == f"simclr-kaizen-replay25pct-seed{seed}"
        matrix = read_json(finished.root / run["published"][0] / "accuracy.json")["matrices"][
            "classifier"
        ]
        means.append(continual_accuracy(matrix))
        assert run["value"] == pytest.approx(means[-1])
    assert (
        len(means) == 2
        and found["value"] == pytest.approx(sum(means) / 2)
        and found["agrees"] is True
    )
    full = explained(
        finished, "results/summary/metrics_full.json:simclr.kaizen.knn.final_accuracy.n"
    )["number"]
    assert (full["value"], full["agrees"], len(full["runs"])) == (2, True, 2)
    other = explained(finished, "data/shards/tasks.json:tasks.0.train.rows")["number"]
    assert other == {"path": "tasks.0.train.rows", "value": 24}
    printed = finished.kaizen("explain", "results/metrics.json:simclr.kaizen.CA").output
    assert "they lead to this number" in printed


def test_a_step_whose_shards_were_collected_keeps_its_datas_lineage(tmp_path: Path) -> None:
    """A task appended to the stream leaves step 0 as it was made, from shards that gc removes."""
    first, second = ["bee", "dog"], ["ant"]
    project = make_project(tmp_path / "project", {"split": {"classes": [["cat"], first]}})
    assert project.kaizen("run").code == 0
    old = explained(project, f"{KAIZEN}/step-00")
    (lost,) = project.keys("shards")
    project.set({"split": {"classes": [["cat"], first, second]}})
    assert project.kaizen("run").code == 0
    assert project.kaizen("gc", "--delete").code == 0
    (kept,) = project.keys("shards")
    assert kept != lost

    found = explained(project, f"{KAIZEN}/step-00")
    assert found["key"] == old["key"]
    (then,), (data,) = old["data"], found["data"]
    assert then["instead_of"] == [] and then["shards"] == f"shards/{lost}"
    assert (data["source"], data["path"]) == ("image_folder", "images")
    assert data["shards"] == f"shards/{kept}" and data["instead_of"] == [f"shards/{lost}"]
    assert then["checksums"].items() <= data["checksums"].items()
    assert found["wall_time"]["unknown"] == 0
    printed = project.kaizen("explain", f"{KAIZEN}/step-00").output
    assert f"shards/{lost}, now gone" in printed
    # What makes it again is made from those.
    assert project.kaizen("explain", f"{KAIZEN}/step-01", "--plan", "again.json").code == 0
    project.store.folder(NodeId.of("step", found["key"])).rename(tmp_path / "old step")
    assert project.kaizen("run", "--plan", "again.json").code == 0
    again = project.store.folder(NodeId.of("step", found["key"])) / "model.safetensors"
    assert again.read_bytes() == (tmp_path / "old step/model.safetensors").read_bytes()

    # Where nothing else tells, its own identities do, and it is said.
    for kind in ("evaluation", "summary", "reference", "shards", "replay"):
        shutil.rmtree(project.store.root / kind)
    for key in project.keys("step"):
        if key != found["key"]:
            shutil.rmtree(project.store.folder(NodeId.of("step", key)))
    shutil.rmtree(project.root / "results")
    alone = explained(project, f"step/{found['key']}")
    (data,) = alone["data"]
    record = project.store.read_record(NodeId.of("step", found["key"]))
    assert data["source"] is None and data["instead_of"] == []
    assert data["checksums"] == {"train-00": record.identities["task-00"]}
    printed = project.kaizen("explain", f"step/{found['key']}").output
    assert "which is gone" in printed and "KeyError" not in printed


def test_an_edited_file_does_not_match(project: Project) -> None:
    path = project.root / "results/metrics.json"
    metrics = read_json(path)
    metrics["simclr"]["kaizen"]["CA"] = 0.99
    path.unlink()
    path.write_text(json.dumps(metrics))
    outcome = project.kaizen("explain", "results/metrics.json:Kaizen.CA")
    assert (
        outcome.code == 0
        and "DOES NOT MATCH" in outcome.output
        and "DO NOT LEAD TO THIS NUMBER" in outcome.output
    )
    (project.root / KAIZEN / "step-01/model.safetensors").unlink()
    outcome = project.kaizen("explain", f"{KAIZEN}/step-01")
    assert outcome.code == 0 and "step-01/model.safetensors is missing" in outcome.output


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("params.yaml", "params.yaml is none of the files that Kaizen made; ask about"),
        ("results/metric.json", "did you mean results/metrics.json?"),
        ("results/models", "ask about one: results/models/simclr-kaizen"),
        ("results/manifest.json", "is none of the files that Kaizen made"),
        ("/etc/passwd", "is none of the files that Kaizen made"),
        ("0123456789abcdef", "is not known"),
        ("results/metrics.json:simclr.CA", "did you mean"),
        (
            "results/metrics.json:CA",
            "has 2 numbers of that name: simclr.kaizen.CA, simclr.no_distill.CA",
        ),
        ("results/summary/report.md:CA", "only a JSON file has numbers"),
    ],
)
def test_what_is_not_kaizens_is_told_in_one_message(
    finished: Project, asked: str, says: str
) -> None:
    outcome = finished.kaizen("explain", asked)
    assert outcome.code == 2 and says in outcome.output, outcome.output
    assert outcome.output.count("kaizen: ") == 1 and "Traceback" not in outcome.output


def test_without_a_store_the_published_tree_tells_all(finished: Project, tmp_path: Path) -> None:
    """As in a fresh clone after `dvc pull`: also without the raw data, and with parameters that are
    wrong.
    """
    asked = f"{KAIZEN}/step-01"
    before = explained(finished, asked)
    clone = Project(tmp_path / "clone")
    clone.root.mkdir()
    for folder in ("data", "results"):
        shutil.copytree(finished.root / folder, clone.root / folder)
    after = explained(clone, asked)
    assert after.pop("in_current_plan") is None and before.pop("in_current_plan") is True
    assert after == before and after["made"]["seconds"] > 0
    assert not clone.store.root.exists(), "explaining changes nothing"
    shutil.rmtree(clone.root / "results")
    outcome = clone.kaizen("explain", asked)
    assert outcome.code == 2 and "dvc pull" in outcome.output


def test_what_was_set_aside_or_lost_is_told(project: Project) -> None:
    asked = f"{KAIZEN}/step-01"
    key = explained(project, asked)["key"]
    shutil.rmtree(project.store.root)
    for folder in ("data/shards", "data/replay"):
        shutil.rmtree(project.root / folder)
    (project.root / "results/provenance.json").unlink()
    found = explained(project, asked)
    assert found["made"] is None and found["origin"] is None and found["wall_time"]["unknown"] == 4
    assert found["again"]["commands"] == [] and found["code"]["same_now"] is None
    (data,) = found["data"]
    assert data["source"] is None and data["shards"] is None and len(data["checksums"]) == 2
    printed = project.kaizen("explain", asked).output
    assert "data         2 task shards which are gone; known by" in printed
    assert "not here (`dvc pull`?)" in printed and "without results/provenance.json" in printed
    assert project.kaizen("explain", asked, "--plan", "again.json").code == 2
    record = project.root / asked / "node.json"
    content = read_json(record)
    content["params"]["seed"] = 7
    record.unlink()
    record.write_text(json.dumps(content))
    outcome = project.kaizen("explain", asked)
    assert (
        outcome.code == 2
        and f"step/{key}, whose record (node.json) is missing or was altered" in outcome.output
    )


def test_other_code_or_packages_are_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from kaizen.provenance import explain

    monkeypatch.setattr(explain, "installed_version", lambda package: "0.1")
    outcome = project.kaizen("explain", f"{KAIZEN}/step-01")
    assert "THE PRESENT CODE IS ANOTHER" in outcome.output and "(now 0.1)" in outcome.output
    path = project.root / "results/provenance.json"
    content = read_json(path)
    key = explained(project, f"{KAIZEN}/step-01")["key"]
    content["nodes"][key]["local"]["code"]["modules"] = ["kaizen.no_such_module"]
    path.write_text(json.dumps(content))
    shutil.rmtree(project.store.root)
    assert explained(project, f"{KAIZEN}/step-01")["code"]["same_now"] is False


def test_explaining_does_without_torch(finished: Project) -> None:
    code = (
        "import sys\nfrom kaizen.cli import main\n"
        f"code = main(['explain', '{KAIZEN}/step-01'])\n"
        "print('LOADED', code, *[name for name in ('torch', 'snakemake', 'dvc', 'matplotlib') if "
        "name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=finished.root,
        env=os.environ | {"KAIZEN_STORE": str(finished.store.root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.rpartition("LOADED")[2].split() == ["0"]
    assert "\x1b" not in done.stdout, "plain where it is no terminal"
    assert not [line for line in done.stdout.splitlines() if line != line.rstrip()]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.7, "1 h 00 min"),
        (7805, "2 h 10 min"),
    ],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# -- making it again: the printed commands, in a fresh clone with an empty store ---------------


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A checkout with code and parameters committed, run once; an overlay of its own, not
    committed, run too.
    """
    project = make_checkout(tmp_path_factory.mktemp("committed") / "project")
    project.commit("all")
    project.run(sys.executable, "-m", "kaizen", "run")
    (project.root / "more.yaml").write_text("train: {classifier_lr: 0.2}\n")
    return project


def clone_of(project: Project, place: Path) -> Project:
    project.run("git", "clone", "--quiet", str(project.root), str(place))
    return Project(place)


def printed_commands(output: str) -> list[str]:
    return re.findall(r"^(?:make again|then) +(.*)$", output, re.MULTILINE)


def in_one_line(printed: str) -> str:
    """What was printed, without the places where long lines were broken."""
    return " ".join(printed.split())


def bash(project: Project, command: str) -> None:
    """As somebody would paste it who has the environment active."""
    kaizen = f'kaizen() {{ {sys.executable} -m kaizen "$@"; }}; '
    project.run("bash", "-c", f"set -e; {kaizen}{command}")


def same_bytes(one: Project, two: Project, kind: str, key: str) -> None:
    folder = one.store.root / kind / key
    names = sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "run.json"
    )
    assert len(names) > 1
    for name in names:
        assert (two.store.root / kind / key / name).read_bytes() == (folder / name).read_bytes(), (
            name
        )


def test_the_printed_command_makes_the_same_bytes_in_a_fresh_clone(
    committed: Project, tmp_path: Path
) -> None:
    folder = "results/models/simclr-kaizen-replay10pct-seed0/step-01"
    found = json.loads(committed.run(sys.executable, "-m", "kaizen", "explain", folder, "--json"))
    commit = committed.run("git", "rev-parse", "HEAD").strip()
    assert (
        found["origin"].items()
        >= {"commit": commit, "changed": [], "params_committed": True}.items()
    )
    (command,) = printed_commands(committed.run(sys.executable, "-m", "kaizen", "explain", folder))
    assert (
        command
        == f"git checkout {commit} && snakemake --cores all --config node=step/{found['key']}"
    )
    clone = clone_of(committed, tmp_path / "clone")
    bash(clone, command)
    same_bytes(committed, clone, "step", found["key"])
    made = {path.parent.parent.name for path in clone.store.root.glob("*/*/node.json")}
    assert made == {"shards", "replay", "step"}, "nothing that it does not need"
    assert not (clone.root / "results").exists()
    run = read_json(clone.store.root / "step" / found["key"] / "run.json")
    assert (
        run["local"]["origin"]["commit"] == commit
        and "node=step/" in run["local"]["origin"]["command"]
    )
    outcome = subprocess.run(
        ["snakemake", "--cores", "1", "--config", f"node=step/{commit[:32]}"],
        cwd=clone.root, env=clone.environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert outcome.returncode == 2 and "has no such node" in outcome.stderr


def test_other_parameters_than_the_commits_come_as_a_plan(
    committed: Project, tmp_path: Path
) -> None:
    project = committed.copy_with_links(tmp_path / "project")
    with (project.root / "kaizen/cli/__init__.py").open("a") as file:
        file.write("# a change that no result depends on\n")
    project.run(sys.executable, "-m", "kaizen", "run", "--overlay", "more.yaml")
    folder = "results/evaluations/simclr-no_distill-seed0"
    printed = project.run(sys.executable, "-m", "kaizen", "explain", folder)
    commit = project.run("git", "rev-parse", "HEAD").strip()
    assert (
        "clean in all that this depends on (uncommitted were: kaizen/cli/__init__.py)"
        in in_one_line(printed)
    )
    assert "current plan no" in printed and "--overlay more.yaml" in printed
    write, make = printed_commands(printed)
    assert make == f"git checkout {commit} && kaizen run --plan again.json"
    bash(project, write)
    clone = clone_of(committed, tmp_path / "clone")
    shutil.copy(project.root / "again.json", clone.root)
    bash(clone, make)
    key = read_json(project.root / folder / "node.json")["key"]
    same_bytes(project, clone, "evaluation", key)
    run = read_json(clone.store.root / "evaluation" / key / "run.json")
    assert run["local"]["origin"]["commit"] == commit and run["local"]["origin"]["changed"] == []


def test_code_that_was_not_committed_cannot_be_had_again_once_it_changed(
    committed: Project, tmp_path: Path
) -> None:
    project = committed.copy_with_links(tmp_path / "project")
    source = project.root / "kaizen/report/cards.py"
    text = source.read_text()
    source.write_text(text.replace("# Model card", "# Card"))
    project.run(sys.executable, "-m", "kaizen", "run")
    explain = (sys.executable, "-m", "kaizen", "explain", "results/metrics.json")
    printed = project.run(*explain)
    assert "dirty: kaizen/report/cards.py had uncommitted changes" in in_one_line(printed)
    assert "with the present code" in printed and "git checkout" not in printed
    # Committed later, it is found there.
    project.run("git", "add", "kaizen")
    project.run("git", "commit", "--quiet", "--message", "cards")
    commit = project.run("git", "rev-parse", "HEAD").strip()
    assert printed_commands(project.run(*explain)) == [
        f"git checkout {commit} && snakemake --cores all"
    ]
    source.write_text(text.replace("# Model card", "# Another"))
    printed = project.run(*explain)
    assert (
        "the present code is another" in in_one_line(printed)
        and "changed since that commit: kaizen/report/cards.py" in printed
    )
    (last,) = printed_commands(printed)
    assert last.startswith(
        "the code at the time was not committed (kaizen/report/cards.py differed"
    )


def test_a_clone_takes_over_how_nodes_were_made(committed: Project, tmp_path: Path) -> None:
    """`dvc pull` brings results/provenance.json, and taking nodes back into a store keeps it."""
    clone = clone_of(committed, tmp_path / "clone")
    for folder in ("data/shards", "data/replay", "results"):
        shutil.copytree(committed.root / folder, clone.root / folder)
    clone.run(sys.executable, "-m", "kaizen", "publish")
    runs = [
        {path.parent.name: read_json(path) for path in p.store.root.glob("*/*/run.json")}
        for p in (committed, clone)
    ]
    assert runs[0] == runs[1] and len(runs[0]) == 9
    provenance = "results/provenance.json"
    assert (clone.root / provenance).read_bytes() == (committed.root / provenance).read_bytes()


# -- what a run record says --------------------------------------------------------------------


@pytest.mark.parametrize(
    "commit", ["HEAD; touch outside", "--upload-pack=x", "main", "0" * 39, "0" * 41, 7, ["0" * 40]]
)
def test_a_commit_that_is_no_hash_is_in_no_command(commit: object, project: Project) -> None:
    path = project.store.root / "step" / project.keys("step")[-1] / "run.json"
    run = read_json(path)
    good = "0123456789abcdef" * 2 + "01234567"
    for value, shown in ((commit, False), (good, True)):
        run["local"]["origin"] |= {"commit": value, "depends": [], "changed": []}
        run["local"]["origin"]["params_committed"] = True
        path.unlink()
        path.write_text(json.dumps(run), encoding="utf-8")
        found = explained(project, path.parent.name)
        commands = " ".join(found["again"]["commands"])
        assert (f"git checkout {value} && snakemake" in commands) == shown
        assert shown or f"git checkout {commit}" not in commands
        assert found["origin"].get("commit") == (value if shown else None)


def test_titles_and_commands_print_no_escape_sequences(project: Project) -> None:
    path = project.store.root / "step" / project.keys("step")[-1] / "run.json"
    run = read_json(path)
    run |= {
        "title": "\x1b]0;owned\x07step\u202e",
        "host": "\x1b[2Jhost",
        "seconds": -5,
        "began": 1e30,
    }
    run["local"]["origin"]["command"] = "\x1b[31mrm\r"
    path.unlink()
    path.write_text(json.dumps(run), encoding="utf-8")
    shown = project.kaizen("explain", path.parent.name)
    assert shown.code == 0, shown.output
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown.output)
    assert "\N{REPLACEMENT CHARACTER}]0;owned" in shown.output
    made = explained(project, path.parent.name)["made"]
    assert (made["began"], made["host"]) == (None, "\x1b[2Jhost"), "JSON writes them as \\u001b"
    assert made["seconds"] is None or made["seconds"] >= 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda job: job["inputs"]["prior"].update(kind="../../results"), "'prior' does not name"),
        (lambda job: job["inputs"]["prior"].update(key="../../results"), "'prior' does not name"),
        (lambda job: job["inputs"]["prior"].update(key="0" * 32), "not those that its key stands"),
        (lambda job: job["inputs"].pop("prior"), "not those that its key stands"),
        (lambda job: job["inputs"].pop("shards"), "no shards are among its inputs"),
        (lambda job: job.update(key="../../results/models"), "are not a node's kind and its key"),
        (lambda job: job.update(kind="../../results"), "is unknown, not one of"),
        (lambda job: job["local"].update(processes=-1), r"local\.processes must be from 1"),
        (lambda job: job["local"]["code"].update(modules=["os"]), "'os' is no module of kaizen"),
        (
            lambda job: job["local"]["code"].update(modules=["kaizen.../x"]),
            "is no module of kaizen",
        ),
        (lambda job: job["identities"].update(prior=3), "an identity is no text|altered"),
    ],
)
def test_a_plan_file_names_nodes_and_nothing_else(
    change: Callable[[Any], object], message: str, project: Project
) -> None:
    plan = json.loads(project.kaizen("plan", "--json").output)
    plan["nodes"] = [node for node in plan["nodes"] if "prior" in node["inputs"]][:1]
    (project.root / "results/models/mine.txt").write_text("keep")
    change(plan["nodes"][0])
    (project.root / "plan.json").write_text(json.dumps(plan))
    done = project.kaizen("run", "--plan", "plan.json", "--store", "empty")
    assert done.code == 2 and re.search(message, done.output), done.output
    assert (project.root / "results/models/mine.txt").is_file()
