"""The real `snakemake` and `dvc` on a tiny stream: which jobs run after each change, and that
nothing is ever stale.

Every scenario starts from a copy of a project that has run once. A job that ran is known by the
time in its node's run.json; every published file is hashed again after every scenario.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from project import ALL_NODES, Project, made_since, make_checkout

from kaizen.files import read_json
from kaizen.store.records import RUN_RECORD


def test_repeating_runs_nothing(project: Project) -> None:
    assert "Nothing to be done" in project.snakemake().good()
    project.run("dvc", "repro")
    shutil.rmtree(project.root / ".snakemake")
    for path in project.root.rglob("*.py"):
        path.touch()
    assert "Nothing to be done" in project.snakemake().good()
    assert project.jobs() == {}
    project.check_nothing_stale()


def test_a_change_runs_what_depends_on_it_and_changing_back_nothing(project: Project) -> None:
    before = project.manifest()
    project.set({"replay.proportion": [0.2]})
    project.run("dvc", "repro")
    assert project.jobs() == {"replay": 1, "step": 1, "evaluation": 1, "summary": 1}
    project.check_nothing_stale()
    assert project.manifest() != before
    project.start_counting()
    project.set({"replay.proportion": [0.1]})
    project.run("dvc", "repro")
    assert project.jobs() == {}
    assert project.manifest() == before
    project.check_nothing_stale()
    # The same way without DVC.
    project.set({"replay.proportion": [0.2]})
    project.snakemake().good()
    assert project.jobs() == {}
    project.check_nothing_stale()


def test_a_temporary_dvc_workspace_shares_the_store(project: Project) -> None:
    before = project.manifest()
    project.run(
        "dvc",
        "exp",
        "run",
        "--temp",
        "--name",
        "softer",
        "--set-param",
        # DVC writes it as 3e-05, which YAML 1.1 takes for a text.
        "distill.classifier.weight=3e-5",
    )
    assert project.jobs() == {"step": 1, "evaluation": 1, "summary": 1}
    assert project.manifest() == before, "the workspace itself is as it was"
    (run,) = (
        read_json(path)
        for path in project.store.root.glob(f"step/*/{RUN_RECORD}")
        if made_since(path, project.since)
    )
    head = project.run("git", "rev-parse", "HEAD").strip()
    origin = {
        "commit": head,
        "changed": [],
        "params_committed": False,
        "command": "snakemake --cores all",
    }
    assert run["local"]["origin"].items() >= (origin | {"experiment": "softer"}).items()
    project.start_counting()
    project.run("dvc", "exp", "apply", "softer")
    project.snakemake().good()
    assert project.jobs() == {}
    assert project.manifest() != before
    project.check_nothing_stale()


def test_a_fresh_clone_with_pulled_outputs_trains_nothing_needlessly(
    project: Project, tmp_path: Path
) -> None:
    project.run("git", "clone", "--quiet", str(project.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.start_counting()
    clone.run("dvc", "pull", "--quiet")
    assert not clone.store.root.exists()
    explain = (sys.executable, "-m", "kaizen", "explain", "results/metrics.json", "--json")
    found, before = (json.loads(one.run(*explain)) for one in (clone, project))
    assert found["made"]["seconds"] > 0 and found["wall_time"]["unknown"] == 0
    first = project.run("git", "rev-list", "--max-parents=0", "HEAD").strip()
    assert found["again"]["commands"] == [f"git checkout {first} && snakemake --cores all"]
    assert found == before
    assert "Nothing to be done" in clone.snakemake().good()
    assert clone.jobs() == {}
    clone.check_nothing_stale()
    # DVC removes the outputs before it runs the stage: what did not change comes back from its
    # cache.
    shutil.rmtree(clone.store.root)
    clone.set({"replay.proportion": [0.2]})
    clone.run("dvc", "repro")
    assert clone.jobs() == {"replay": 1, "step": 1, "evaluation": 1, "summary": 1}
    clone.check_nothing_stale()


def test_git_and_dvc_checkout_of_another_version_run_nothing(project: Project) -> None:
    project.set({"report.title": "another"})
    project.run("dvc", "repro")
    assert project.jobs() == {"summary": 1}
    project.commit("another title")
    project.start_counting()
    project.run("git", "checkout", "--quiet", "HEAD~1")
    project.run("dvc", "checkout", "--quiet")
    assert "Nothing to be done" in project.snakemake("--dry-run").good()
    # git without dvc leaves the other version's files in place: they are replaced, not trusted.
    project.run("git", "checkout", "--quiet", "-")
    project.snakemake().good()
    assert project.jobs() == {}
    project.check_nothing_stale()


def test_a_garbage_collected_upstream_is_not_needed_again(project: Project) -> None:
    steps = {node["key"]: node for node in project.plan() if node["kind"] == "step"}
    first = next(key for key, node in steps.items() if "prior" not in node["inputs"])
    shutil.rmtree(project.store.root / "step" / first)
    shutil.rmtree(project.store.root / "shards")
    project.snakemake().good()
    assert project.jobs() == {}
    project.check_nothing_stale()
    # Gone from everywhere, only the node itself is made again, and comes out the same.
    before = project.manifest()
    shutil.rmtree(project.store.root / "step" / first)
    shutil.rmtree(project.root / "results")
    (project.root / "dvc.lock").unlink()
    project.snakemake().good()
    assert project.jobs() == {"step": 1}
    assert project.manifest() == before
    project.check_nothing_stale()


def test_garbage_collection_removes_only_what_the_plan_does_not_need(project: Project) -> None:
    entries = {path.parent for path in project.store.root.glob("*/*/node.json")}
    project.set({"train.lr": 0.5})
    assert "7 entries" in project.run(sys.executable, "-m", "kaizen", "gc")
    assert {path.parent for path in project.store.root.glob("*/*/node.json")} == entries, (
        "a dry run removes nothing"
    )
    assert "7 entries" in project.run(sys.executable, "-m", "kaizen", "gc", "--delete")
    kept = {path.parent.parent.name for path in project.store.root.glob("*/*/node.json")}
    assert kept == {"shards", "replay"}
    # What was removed is still published, and comes back from there.
    project.set({"train.lr": 1.0})
    assert "Nothing to be done" in project.snakemake().good()
    assert {path.parent for path in project.store.root.glob("*/*/node.json")} == entries
    assert "0 entries" in project.run(sys.executable, "-m", "kaizen", "gc", "--delete")


def test_killed_anywhere_the_workflow_goes_on_where_it_was(
    reproduced: Project, tmp_path: Path
) -> None:
    project = make_checkout(tmp_path / "project")
    process = subprocess.Popen(
        ["snakemake", "--cores", "2"],
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 600
    # Not pathlib's glob, which may fail on a folder that is being renamed.
    while not glob.glob(str(project.store.root / "step/*/node.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    made = {path: path.read_bytes() for path in project.store.root.glob(f"*/*/{RUN_RECORD}")}
    assert len(made) < sum(ALL_NODES.values())
    shutil.rmtree(project.root / ".snakemake")
    project.snakemake().good()
    assert {path: path.read_bytes() for path in made} == made, "what was finished is not made again"
    project.check_nothing_stale()
    # Another store, another order of events, an interruption: the same bytes.
    assert project.manifest() == reproduced.manifest()


def test_a_finished_workflow_shows_its_edges_on_request(project: Project) -> None:
    graph = project.snakemake("--config", "edges=true", "--dag").good()
    assert graph.count("->") > sum(ALL_NODES.values())
    assert project.jobs() == {}


def test_braces_in_the_path_of_a_checkout_are_no_wildcards(
    project: Project, tmp_path: Path
) -> None:
    copy = project.copy_with_links(tmp_path / "a{b} {{c}}")
    copy.set({"report.title": "other"})
    copy.snakemake().good()
    assert copy.jobs() == {"summary": 1}
    copy.check_nothing_stale()
