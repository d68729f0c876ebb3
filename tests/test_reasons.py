"""Why a node is to be made, as `kaizen plan` says it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import commit_fake, make_plan
from project import make_project

from kaizen.jobs import reasons
from kaizen.jobs.reasons import Reasons
from kaizen.plan.nodes import Node, Plan
from kaizen.store.node_id import Kind, NodeId
from kaizen.store.records import read_record
from kaizen.store.store import Store

OPTIONS = {"grid.variants": ["kaizen"], "grid.specialists": False}


def finished(store: Store, plan: Plan) -> set[NodeId]:
    return store.finished(node.id for node in plan.nodes.values())


def first_step(plan: Plan) -> Node[Any]:
    return plan.runs[0].steps[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"train.lr": 1.0}, "train.lr 2.0 → 1.0"),
        ({"grid.seeds": [7]}, "seed 0 → 7"),
        (
            {"train.lr": 1.0, "train.epochs": 9, "train.momentum": 0.5, "train.batch_size": 8},
            "train.batch_size 32 → 8, train.epochs 30 → 9, train.lr 2.0 → 1.0 and 1 more",
        ),
        ({"split.tasks": 2}, ""),
    ],
)
def test_parameters_that_differ_are_named(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    store = Store(tmp_path)
    for node in make_plan(OPTIONS).nodes.values():
        commit_fake(store, node)
    plan = make_plan(OPTIONS | changes)
    why = Reasons(store, finished(store, plan))
    assert why.of(first_step(plan)) == reason
    if "split.tasks" in changes:
        assert why.of(plan.shards[0]) == "split.tasks 5 → 2"
    # The step after it follows from it.
    assert why.of(plan.runs[0].steps[1]) == ""


def test_the_nearest_of_several_is_compared_with(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for lr in (0.1, 0.2):
        for node in make_plan(
            OPTIONS | {"train.lr": lr, "train.epochs": int(100 * lr)}
        ).nodes.values():
            commit_fake(store, node)
    plan = make_plan(OPTIONS | {"train.lr": 0.5, "train.epochs": 10})
    assert Reasons(store, finished(store, plan)).of(first_step(plan)) == "train.lr 0.1 → 0.5"


def test_code_packages_and_data_are_named(tmp_path: Path) -> None:
    store, plan = Store(tmp_path), make_plan(OPTIONS)
    for node in plan.nodes.values():
        commit_fake(store, node)
    step = first_step(plan)
    done = finished(store, plan)
    other = dataclasses.replace(step, code_hash="f" * 64)
    assert Reasons(store, done).of(other) == "code changed"
    other = dataclasses.replace(step, identities={name: "e" for name in step.identities})
    assert Reasons(store, done).of(other) == f"other data ({len(step.identities)} of its parts)"


def test_nothing_is_said_where_nothing_of_the_kind_is_finished(tmp_path: Path) -> None:
    plan = make_plan(OPTIONS)
    shards = plan.shards[0]
    assert Reasons(Store(tmp_path), set()).of(shards) == ""


def test_of_a_store_of_any_size_so_many_records_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, counts = Store(tmp_path), Counter[str]()
    node = first_step(make_plan(OPTIONS))
    for number in range(80):
        spec = dataclasses.replace(node.spec, seed=number)
        key = f"{number:032x}"
        commit = dataclasses.replace(node, spec=spec, id=NodeId(Kind.STEP, key))
        commit_fake(store, commit)

    def counting(path: Path) -> Any:
        counts["read"] += 1
        return read_record(path)

    monkeypatch.setattr(reasons, "read_record", counting)
    plan = make_plan(OPTIONS | {"grid.seeds": list(range(40))})
    why = Reasons(store, {shards.id for shards in plan.shards})
    for run in plan.runs:
        why.of(run.steps[0])
    assert counts["read"] == 50


def test_the_plan_says_why_and_how_long(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", {"grid.variants": ["no_distill"]})
    assert "no estimate yet" in project.kaizen("plan").good()
    project.kaizen("run").good()
    done = project.kaizen("plan").good()
    assert "because" not in done and " left" not in done
    project.set({"train.lr": 0.5})
    shown = project.kaizen("plan").good()
    assert "because: train.lr 2.0 → 0.5" in shown
    assert shown.rstrip().splitlines()[-1].startswith("about ")
    first = next(line for line in shown.splitlines() if "step 0" in line)
    assert "  about " in first
