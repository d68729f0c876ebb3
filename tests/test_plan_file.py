"""Plan files: what `kaizen run --plan` refuses before it does anything, and what it makes of the
rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project import Outcome, Project, make_project

from kaizen.files import write_json
from kaizen.plan.plan_file import in_order, read_plan
from kaizen.provenance import origin
from kaizen.store.node_id import NodeId

Plan = dict[str, Any]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with plan.json, in which nothing was made."""
    project = make_project(
        tmp_path_factory.mktemp("planned") / "project", {"grid.variants": ["kaizen"]}
    )
    (project.root / "plan.json").write_text(project.kaizen("plan", "--json").good())
    return project


def altered(planned: Project, folder: Path, change: Callable[[Plan], object]) -> Project:
    """A copy whose plan.json is changed."""
    project = planned.copy(folder / "project")
    path = project.root / "plan.json"
    plan = json.loads(path.read_text())
    change(plan)
    write_json(path, plan)
    return project


def check_refused(project: Project, outcome: Outcome, *says: str) -> None:
    """One message that says all of it, and nothing was done."""
    assert outcome.code == 2 and "Traceback" not in outcome.output, outcome.output
    assert outcome.output.count("kaizen: ") == 1, outcome.output
    for words in says:
        assert words in outcome.output, outcome.output
    assert not project.store.root.exists() and not (project.root / "logs").exists()


def index_of(plan: Plan, kind: str) -> int:
    """The place of the first node of a kind."""
    return next(number for number, node in enumerate(plan["nodes"]) if node["kind"] == kind)


def without(kind: str) -> Callable[[Plan], object]:
    """Leave out the first node of a kind, and the plan's key that no longer fits."""

    def change(plan: Plan) -> None:
        del plan["plan"], plan["nodes"][index_of(plan, kind)]

    return change


def in_local(**changes: Any) -> Callable[[Plan], object]:
    """Change what the last node has beside its key."""
    return lambda plan: plan["nodes"][-1]["local"].update(changes)


def in_origin(**changes: Any) -> Callable[[Plan], object]:
    """Change what the last node says of its commit."""
    return lambda plan: plan["nodes"][-1]["local"]["origin"].update(changes)


CHANGES: dict[str, tuple[Callable[[Plan], object], tuple[str, ...]]] = {
    "no nodes": (lambda plan: plan["nodes"].clear(), ("nodes is empty",)),
    "nodes that are none": (lambda plan: plan.update(nodes={}), ("is not a plan",)),
    "another plan's key": (
        lambda plan: plan.update(plan="0" * 32),
        (f"its nodes are not those of plan '{'0' * 32}'", "remove plan from it"),
    ),
    "a key that is no text": (
        lambda plan: plan.update(plan=7),
        ("plan is an integer, not a text",),
    ),
    "a store that is no text": (lambda plan: plan.update(store=5), ("store is an integer",)),
    "a store that is null": (lambda plan: plan.update(store=None), ("store is null, not a text",)),
    "another key": (lambda plan: plan.update(presets=[]), ("'presets' is unknown",)),
    "another key of a node": (
        lambda plan: plan["nodes"][0].update(note="mine"),
        ("node 0: 'note' is unknown",),
    ),
    "done with": (lambda plan: plan["nodes"][0].update(done="no"), ("node 0: done must be",)),
    "a node twice": (
        lambda plan: plan["nodes"].append(plan["nodes"][0]),
        ("nodes 0 and 7 are both",),
    ),
    "shards missing": (without("shards"), ("shards of ", "neither in the plan nor in the store")),
    "a step missing": (without("step"), ("neither in the plan nor in the store",)),
    "no local": (lambda plan: plan["nodes"][-1].pop("local"), ("lacks 'local'",)),
    "an empty local": (
        lambda plan: plan["nodes"][-1].update(local={}),
        ("local.code does not say which code",),
    ),
    "a local that is null": (
        lambda plan: plan["nodes"][-1].update(local=None),
        ("'local' must be a mapping, not null",),
    ),
    "a text that is true": (
        lambda plan: plan["nodes"][-1].update(title=True),
        ("'title' must be a text, not true or false",),
    ),
    "path of another type": (in_local(path=True), ("local.path must be a text or null, not true",)),
    "more processes than the parameter may be": (
        in_local(processes=500),
        ("local.processes must be from 1 to 64",),
    ),
    "more workers than the parameter may be": (
        in_local(workers=100_000),
        ("local.workers must be from 1 to 256",),
    ),
    "a commit that is none": (in_origin(commit="HEAD"), ("local.origin is not what a plan says",)),
    "more of its origin": (in_origin(who="me"), ("local.origin is not what a plan says",)),
    "changes that are no list": (in_origin(changed="x"), ("local.origin is not",)),
    "the code of another time": (
        lambda plan: plan["nodes"][-1]["local"]["code"]["modules"].append("kaizen.ssl.byol"),
        ("is not the plan's",),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_wrong_is_refused_before_anything_is_done(
    name: str, planned: Project, tmp_path: Path
) -> None:
    change, says = CHANGES[name]
    project = altered(planned, tmp_path, change)
    check_refused(project, project.kaizen("run", "--plan", "plan.json"), "plan", *says)


def test_a_file_that_was_edited_is_not_to_be_deleted(planned: Project, tmp_path: Path) -> None:
    project = planned.copy(tmp_path / "project")
    (project.root / "plan.json").write_text("{")
    for command in (
        ("run", "--plan", "plan.json"),
        ("node", "--spec", "@plan.json"),
        ("publish", "--values", "@plan.json"),
    ):
        outcome = project.kaizen(*command)
        check_refused(project, outcome, "plan.json is not readable JSON")
        assert "delete" not in outcome.output


@pytest.mark.parametrize("option", ["--preset", "--overlay", "--params"])
def test_options_that_a_plan_file_would_make_void(
    option: str, planned: Project, tmp_path: Path
) -> None:
    project = planned.copy(tmp_path / "project")
    outcome = project.kaizen("run", "--plan", "plan.json", option, "params.yaml")
    check_refused(project, outcome, "--plan: plan.json holds all parameters", option)


def test_nodes_may_stand_in_any_order(planned: Project, tmp_path: Path) -> None:
    right = read_plan(planned.root / "plan.json")
    assert in_order(right, lambda node: False, "plan") == right, "stays as it is"
    project = altered(planned, tmp_path, lambda plan: plan["nodes"].reverse())
    jobs = read_plan(project.root / "plan.json")
    assert jobs == right[::-1]
    made: set[NodeId] = set()
    for job in in_order(jobs, lambda node: False, "plan"):
        assert made.issuperset(job.inputs.values())
        made.add(job.id)
    assert len(made) == len(right)
    project.kaizen("run", "--plan", "plan.json").good()
    assert project.nodes().keys() == made


def test_what_the_store_has_need_not_be_in_the_plan(planned: Project, tmp_path: Path) -> None:
    project = altered(planned, tmp_path, without("shards"))
    plan = json.loads((planned.root / "plan.json").read_text())
    shards = plan["nodes"][index_of(plan, "shards")]
    write_json(project.root / "shards.json", {"nodes": [shards]})
    project.kaizen("run", "--plan", "shards.json").good()
    project.kaizen("run", "--plan", "plan.json").good()
    assert len(project.nodes()) == len(plan["nodes"])


def test_shards_that_name_themselves_as_their_input(planned: Project, tmp_path: Path) -> None:
    """The one kind of input whose key stands in no identity."""

    def change(plan: Plan) -> None:
        shards = plan["nodes"][index_of(plan, "shards")]
        shards["inputs"] = {"shards": {"kind": "shards", "key": shards["key"]}}

    project = altered(planned, tmp_path, change)
    check_refused(project, project.kaizen("run", "--plan", "plan.json"), "needs itself")


def test_codes_are_checked_once_each(planned: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = read_plan(planned.root / "plan.json")
    checked: list[str] = []
    monkeypatch.setattr(origin, "check_code", lambda job: checked.append(job.code_hash))
    origin.check_codes(jobs)
    assert sorted(checked) == sorted({job.code_hash for job in jobs})
