"""How a node was made: what is recorded of it, and what a record may say."""

from __future__ import annotations

import dataclasses
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
from project import Outcome, Project

from kaizen.files import read_json, write_json
from kaizen.provenance import origin
from kaizen.store.node_id import NodeId
from kaizen.store.records import record_key

KAIZEN = "results/models/simclr-kaizen-replay25pct-seed0"


@pytest.fixture
def finished(two_seeds: Project) -> Project:
    """Two seeds of two variants, once run."""
    return two_seeds


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    return finished.copy(tmp_path / "project")


def explained(project: Project, asked: str) -> dict[str, Any]:
    outcome = project.kaizen("explain", asked, "--json")
    assert outcome.code == 0, outcome.output
    read: dict[str, Any] = json.loads(outcome.output)
    return read


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
    assert first.facts.command == "snakemake --cores all --configfile 'a b.yaml'"
    first.facts = dataclasses.replace(first.facts, commit="0" * 40)
    monkeypatch.setenv("KAIZEN_ORIGIN", "")
    first.tell_jobs()
    again = origin.Origin(tmp_path, None)
    assert again.facts.commit != "0" * 40, "a command of its own looks for itself"
    monkeypatch.setattr(sys, "argv", ["/x/snakemake/__main__.py", "--target-jobs", "step:key=1"])
    assert origin.Origin(tmp_path, None).facts == first.facts


def test_an_origin_too_long_for_an_environment_variable_goes_through_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux starts no program at all with a variable of more than 128 KiB."""
    monkeypatch.setattr(sys, "argv", ["/bin/snakemake", "--cores", "all"])
    monkeypatch.setenv("KAIZEN_ORIGIN", "")
    first = origin.Origin(tmp_path, None)
    changed = [f"kaizen/{number:0100d}.py" for number in range(2000)]
    first.facts = dataclasses.replace(first.facts, changed=changed)
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
        assert shown or f"git checkout {commit} " not in commands
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
        (lambda job: job["local"]["code"].update(modules=["os"]), "'os' is not a module of kaizen"),
        (
            lambda job: job["local"]["code"].update(modules=["kaizen.../x"]),
            "is not a module of kaizen",
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
