"""The work of planning grows as the number of nodes: counted, not timed."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import FACTS, fake_fingerprint, make_params, make_plan
from project import Project

from kaizen.files import canonical_json
from kaizen.jobs import workflow
from kaizen.jobs.given import spec_file
from kaizen.jobs.plan_tree import tree_lines
from kaizen.jobs.rules import JobRules, PlannedRules
from kaizen.jobs.snakefile import rules_of_job
from kaizen.params import AugmentParams, typed
from kaizen.params.validation import load_params
from kaizen.plan import draft, step_nodes
from kaizen.plan.build import build_plan
from kaizen.plan.effective import effective
from kaizen.plan.nodes import Plan
from kaizen.plan.specs import spec_json
from kaizen.store import node_id, store
from kaizen.store.locks import is_held
from kaizen.store.node_id import NodeId
from kaizen.store.store import Store

VARIANTS = {"grid.variants": ["kaizen", "cassle", "no_distill"]}


def grid(seeds: int) -> dict[str, Any]:
    """Three variants of so many seeds."""
    return VARIANTS | {"grid.seeds": list(range(seeds))}


def counting(counts: Counter[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose calls are counted under ``name``."""

    def counted(*arguments: Any, **named: Any) -> Any:
        counts[name] += 1
        return function(*arguments, **named)

    return counted


def work_of_planning(seeds: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], Plan]:
    """How often planning did what costs time, and the plan."""
    counts: Counter[str] = Counter()

    def section(value: Any) -> Any:
        counts["sections"] += isinstance(value, AugmentParams)
        return as_json(value)

    as_json = typed.as_json
    with monkeypatch.context() as patch:
        patch.setattr(typed, "as_json", section)
        patch.setattr(node_id, "canonical_json", counting(counts, "keys", canonical_json))
        patch.setattr(step_nodes, "effective", counting(counts, "effective", effective))
        patch.setattr(draft, "spec_json", counting(counts, "specifications", spec_json))
        plan = make_plan(grid(seeds))
    return counts, plan


def test_the_work_of_planning_grows_as_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    few, small = work_of_planning(4, monkeypatch)
    many, large = work_of_planning(16, monkeypatch)
    assert len(large.nodes) > 3 * len(small.nodes)
    for name in ("keys", "specifications"):
        assert 0 < many[name] <= 1.5 * len(large.nodes)
        assert many[name] / len(large.nodes) < 1.1 * few[name] / len(small.nodes)
    # What the nodes of a grid share is looked at once, however many they are.
    for name in ("effective", "sections"):
        assert few[name] == many[name] > 0


def test_the_closures_of_a_grid_are_found_once_for_each_set_of_modules() -> None:
    asked: list[Any] = []

    def fingerprint(modules: tuple[str, ...], packages: tuple[str, ...]) -> str:
        asked.append((modules, packages))
        return fake_fingerprint(modules, packages)

    plan = build_plan(make_params(grid(8)), FACTS, fingerprint)
    code = {(n.local.code.modules, n.local.code.packages) for n in plan.nodes.values()}
    assert len(asked) == len(set(asked)) == len(code) < 20


def test_a_stores_folders_are_listed_once_not_searched_for_every_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    counts: Counter[str] = Counter()
    # What `Store` asks of the disk.
    monkeypatch.setattr(os, "listdir", counting(counts, "listed", os.listdir))
    monkeypatch.setattr(Store, "has", counting(counts, "looked", Store.has))
    monkeypatch.setattr(store, "is_held", counting(counts, "locks", is_held))
    found = []
    for seeds in (1, 6):
        plan = make_plan(grid(seeds))
        planned = workflow.Workflow(plan.params, plan, Store(tmp_path / "store"), tmp_path)
        done = next(iter(plan.nodes.values())).id
        record = planned.store.record_path(done)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text("{}")
        # A folder without a record is not a finished node.
        planned.store.folder(plan.runs[0].steps[0].id).mkdir(parents=True, exist_ok=True)
        counts.clear()
        planned.look_at_store()
        assert planned.all_done() == {done}
        assert len(planned.missing()) == len(plan.nodes) - 1
        lines = list(tree_lines(planned))
        assert sum(parts[1][0] == "✓ " for parts in lines if len(parts) > 2) == 1
        found.append(dict(counts))
    assert found[0] == found[1] and found[0]["listed"] < 30 and found[0]["looked"] < 10


def test_a_dry_run_writes_no_specification(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    done = project.snakemake("-n")
    assert done.code == 0 and "summary" in done.output, done.output
    assert not (project.store.root / ".specs").exists()
    assert not (project.root / ".kaizen" / "params").exists()


def test_a_job_of_a_cluster_plans_nothing(
    fresh: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its specification is in the store; where another workflow took that away, it plans."""
    project = fresh.copy(tmp_path / "project")
    monkeypatch.setenv("KAIZEN_STORE", str(project.store.root))
    monkeypatch.chdir(project.root)
    planned = PlannedRules.from_params(load_params(project.params), project.root)
    settings = SimpleNamespace(config={}, configfiles=[], replace_workflow_config=False)
    times: Counter[str] = Counter()
    monkeypatch.setattr(workflow, "build_plan", counting(times, "plans", build_plan))
    for node in planned.plan.nodes.values():
        wildcards = SimpleNamespace(key=node.key)
        written = f"{planned.spec(wildcards)}"
        rules = rules_of_job(settings, project.root)
        assert isinstance(rules, JobRules) and rules.targets() == []
        assert set(rules.inputs(wildcards)) == set(planned.inputs(wildcards))
        for name in ("title", "spec"):
            assert getattr(rules, name)(wildcards) == getattr(planned, name)(wildcards)
        assert rules.spec(wildcards) == written
    assert times["plans"] == 0
    shutil.rmtree(project.store.root / ".specs")
    assert rules_of_job(settings, project.root).title(wildcards) == node.title
    assert times["plans"] == 1


def test_the_snakemake_of_a_clusters_job_makes_its_node(
    fresh: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an executor starts it: told of one job."""
    project = fresh.copy(tmp_path / "project")
    monkeypatch.chdir(project.root)
    planned = PlannedRules.from_files(project.params, [], project.root)
    (node,) = planned.plan.shards
    text = (
        f"--mode remote --target-jobs shards:key={node.key} --allowed-rules shards --cores 1 "
        "--force --no-hooks --nolock --executor local --target-files-omit-workdir-adjustment"
    )
    outcome = project.snakemake(*text.split())
    assert outcome.code == 0, outcome.output
    assert project.store.has(NodeId.of("shards", node.key))
    # Removed when the node is there, and not written again.
    assert not spec_file(project.store.root, node.id).exists()
    assert f"{planned.spec(SimpleNamespace(key=node.key))}"[1:] == str(
        spec_file(project.store.root, node.id)
    )
    assert not spec_file(project.store.root, node.id).exists()
