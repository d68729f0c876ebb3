"""The plan: nodes shared by runs, their keys and names, and the same ones everywhere."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from conftest import FACTS, REPOSITORY, fake_fingerprint, make_params, make_plan
from plan_places import places
from plan_table import BASE, VARIANTS

from kaizen.errors import KaizenError
from kaizen.plan.build import build_plan
from kaizen.plan.data_nodes import DataNodes
from kaizen.plan.fingerprint import code_fingerprint
from kaizen.plan.nodes import DatasetFacts, Run


def test_runs_share_what_they_have_in_common() -> None:
    plan = make_plan(BASE | {"replay.proportion": [0.0, 0.1, 0.2], "grid.seeds": [0, 1]})
    assert len({run.steps[0].key for run in plan.runs if run.point.seed == 0}) == 1
    assert len({run.steps[0].key for run in plan.runs}) == 2
    for reference in plan.references:
        assert reference.steps[0].key in {
            run.steps[0].key for run in plan.runs if run.point.seed == reference.seed
        }
    by_name = {run.name: run for run in plan.runs}
    empty, none = (
        by_name["simclr-kaizen-replay0pct-seed1"],
        by_name["simclr-kaizen_no_replay-seed1"],
    )
    assert empty.steps == none.steps
    assert empty.evaluations == none.evaluations
    assert empty.replays == ()
    # 1 shards, 2 x 4 replays; per seed: step 0, and 4 steps for each of kaizen x 3 sizes, cassle
    # and no_distill (size 0 is kaizen_no_replay), 4 specialists, 5 evaluations, 1 reference; 1
    # summary.
    assert len(plan.nodes) == 1 + 8 + 2 * (1 + 5 * 4 + 4 + 5 + 1) + 1
    assert plan.users(empty.evaluations[0].key) == [empty.name, none.name]
    assert sorted(plan.users(empty.steps[0].key)) == sorted(
        [run.name for run in plan.runs if run.point.seed == 1] + ["simclr-specialist-seed1"]
    )


def test_every_replay_shard_serves_all_seeds_of_all_variants() -> None:
    plan = make_plan(
        {
            "grid.variants": ["kaizen", "no_distill_replay"],
            "variants.no_distill_replay": {"feature_distill": False},
        }
    )
    assert [run.replays for run in plan.runs] == [plan.runs[0].replays] * 2
    assert [step.inputs["replay"] for step in plan.runs[1].steps[1:]] == list(plan.runs[0].replays)


def test_step_zero_and_specialists_know_nothing_of_distillation_and_replay() -> None:
    plan = make_plan(BASE)
    optional = {
        "feature_distill",
        "classifier_distill",
        "teacher_train_mode",
        "replay_batch_size",
        "longest_loader",
    }
    for step in (*(run.steps[0] for run in plan.runs), *plan.references[0].steps):
        assert not optional & step.job().to_json()["params"].keys()
        assert "replay_batch_size" not in step.job().to_json()["params"]["train"]
        assert step.inputs.keys() == {"shards"}
    assert optional <= plan.runs[0].steps[1].job().to_json()["params"].keys()
    for run in plan.runs:
        for task, step in enumerate(run.steps[1:], start=1):
            assert step.inputs["prior"] is run.steps[task - 1]
            assert ("replay" in step.inputs) == (run.point.variant == "kaizen")
            assert ("feature_distill" in step.job().to_json()["params"]) == (
                run.point.variant != "no_distill"
            )
            assert (
                "classifier_distill" in step.job().to_json()["params"]
            ) == run.point.variant.startswith("kaizen")


def test_without_specialists_the_reference_needs_step_zero_only() -> None:
    plan = make_plan(BASE | {"grid.specialists": False})
    assert [step.key for step in plan.references[0].steps] == [plan.runs[0].steps[0].key]


def test_a_key_is_the_hash_of_all_that_a_node_depends_on() -> None:
    node = make_plan(BASE).runs[0].steps[2]
    depends = {
        "kind": "step",
        "params": node.job().to_json()["params"],
        "code": node.code_hash,
        "key_version": 1,
        "identities": {
            "prior": node.inputs["prior"].key,
            "replay": node.inputs["replay"].key,
            "task-02": node.identities["task-02"],
        },
    }
    text = json.dumps(depends, sort_keys=True, separators=(",", ":"))
    assert node.key == hashlib.sha256(text.encode()).hexdigest()[:32]
    spec = json.loads(json.dumps(node.job().to_json()))
    assert spec["inputs"]["replay"] == {"kind": "replay", "key": node.inputs["replay"].key}
    local = ("save_every_epochs", "processes", "hosts")
    assert [spec["local"][name] for name in local] == [10, 1, 1]
    # What the code is, for whoever wants to compute its fingerprint again.
    assert fake_fingerprint(*map(tuple, spec["local"]["code"].values())) == node.code_hash


def test_nodes_come_after_their_inputs() -> None:
    plan = make_plan(BASE | {"grid.seeds": [3, 1]})
    order = {key: position for position, key in enumerate(plan.nodes)}
    assert all(
        order[parent.key] < order[node.key]
        for node in plan.nodes.values()
        for parent in node.inputs.values()
    )
    assert all(plan.nodes[key].key == key for key in plan.nodes)


def test_names_are_unique_and_safe_as_paths() -> None:
    own = {
        "variants": {"My.own_2": {}},
        "grid.variants": [*VARIANTS, "My.own_2"],
        "grid.seeds": [0, 1, 2**31 - 1],
    }
    shares = {"replay.proportion": [0.0, 0.01, 0.015, 0.1, 1.0]}
    each = {"replay.proportion": None, "replay.per_class": [0, 1, 20]}
    counts = {"replay.proportion": None, "replay.memory": [0, 1, 200]}
    found: set[str] = set()
    for sizes in (shares, each, counts):
        plan = make_plan(own | sizes)
        names = [run.name for run in plan.runs] + [reference.name for reference in plan.references]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) for name in names)
        found.update(names)
    sizes_of_names = ("replay1.5pct", "replay20imagesperclass", "replay200images")
    assert {f"simclr-kaizen-{size}-seed0" for size in sizes_of_names} <= found


def test_the_plan_refuses_tasks_that_do_not_divide_the_classes() -> None:
    with pytest.raises(KaizenError, match=r"split\.tasks: 3 .*10 classes.*choose 1, 2, 5 or 10"):
        make_plan({"split.tasks": 3})


def test_the_plan_is_pure() -> None:
    one, two = make_plan(BASE), make_plan(BASE)
    assert list(one.nodes) == list(two.nodes)
    assert one.key == two.key
    assert [node.job().to_json() for node in one.nodes.values()] == [
        node.job().to_json() for node in two.nodes.values()
    ]


def python(code: str, folder: Path, **environment: str) -> str:
    """Run code in a new interpreter with this checkout and its tests importable."""
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_another_process_elsewhere_gets_the_same_keys_without_torch(tmp_path: Path) -> None:
    code = (
        "import json, sys, kaizen.cli, kaizen.plan.build, kaizen.store.publish, "
        "kaizen.jobs.workflow\n"
        "from conftest import make_plan\n"
        f"plan = make_plan({BASE!r})\n"
        "print(json.dumps([plan.key, list(plan.nodes), sorted(sys.modules)]))"
    )
    plan = make_plan(BASE)
    for seed in ("1", "77"):
        key, nodes, modules = json.loads(python(code, tmp_path, PYTHONHASHSEED=seed))
        assert (key, nodes) == (plan.key, list(plan.nodes))
        assert not {"torch", "snakemake", "vl_convert", "sklearn"} & set(modules)


def test_the_real_fingerprint_finds_the_code_of_every_kind_of_node() -> None:
    facts = DatasetFacts(FACTS.classes, FACTS.train, FACTS.test)
    plan = build_plan(make_params(BASE), facts, code_fingerprint)
    codes = {str(node.kind): node.code_hash for node in plan.nodes.values()}
    assert codes.keys() == {"shards", "replay", "step", "evaluation", "reference", "summary"}
    # These differ by the function alone that makes them.
    assert codes["evaluation"] != codes["reference"]
    assert len(set(codes.values())) == 6
    assert places(plan) == places(build_plan(make_params(BASE), facts, code_fingerprint))


def test_the_keys_of_a_fixed_plan_are_these() -> None:
    """For made-up code and data: another key here would make every result of every user again.

    Where that is meant, say so in CHANGELOG.md; where only the layout of a node's files changed,
    raise `KEY_VERSION`.
    """
    plan = make_plan()
    found = {
        "shards": plan.shards[0].key,
        "replay": plan.runs[0].replays[0].key,
        "step 0": plan.runs[0].steps[0].key,
        "step 1": plan.runs[0].steps[1].key,
        "evaluation": plan.runs[0].evaluations[0].key,
        "reference": plan.references[0].evaluation.key,
        "summary": plan.summary.key,
    }
    assert found == {
        "shards": "d38aaeb9eebd760880d91db01613769e",
        "replay": "f63ebc1afd3a14afd9e6b3fd6eec821a",
        "step 0": "30dbeb52b4db8714463df99cfb596909",
        "step 1": "806d122210c08d5ce100cd9cdf663086",
        "evaluation": "35dc001cdd6517a90e753d8a27035ed6",
        "reference": "dd59c575c0582b3f6d782d577c198f04",
        "summary": "bc117f425180bf98f9e8fd34a2848704",
    }


def test_a_grid_of_more_seeds_asks_for_no_more_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, str]] = []
    identity = DataNodes._identity

    def counted(self: DataNodes, task: int, part: Literal["train", "test"]) -> str:
        asked.append((task, part))
        return identity(self, task, part)

    monkeypatch.setattr(DataNodes, "_identity", counted)
    for seeds in (1, 8):
        asked.clear()
        plan = make_plan({"grid.seeds": list(range(seeds)), "grid.variants": ["kaizen"]})
        assert len(asked) == len(set(asked)) == 2 * len(plan.runs[0].steps)


def test_the_users_of_all_nodes_are_found_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan({"grid.seeds": list(range(4)), "grid.variants": ["kaizen", "no_distill"]})
    passes = []

    def nodes(run: Run) -> tuple[Any, ...]:
        passes.append(run.name)
        return (*run.steps, *run.replays, run.evaluations[0])

    monkeypatch.setattr(Run, "nodes", property(nodes))
    for key in plan.nodes:
        plan.users(key)
    assert len(passes) == len(plan.runs)


@pytest.mark.parametrize("name", ["lr", "weight_decay"])
def test_a_whole_number_and_its_decimal_have_one_key(name: str) -> None:
    plans = [
        make_plan({"per_method": {"simclr": {"train": {name: value}}}}).key for value in (1, 1.0)
    ] + [make_plan({f"train.{name}": value}).key for value in (1, 1.0)]
    assert plans[0] == plans[1] and plans[2] == plans[3]
