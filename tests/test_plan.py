from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import pytest
from conftest import FACTS, REPOSITORY, fake_fingerprint, make_params, make_plan
from plan_table import BASE, ELSEWHERE, HERDED, REACH, ROWS, TRAINED, VARIANTS, Row

from kaizen.errors import KaizenError
from kaizen.params import Params
from kaizen.params.registry import FEATURE_DISTILLERS, REPLAY_POLICIES, SSL_METHODS
from kaizen.plan.build import build_plan
from kaizen.plan.data_nodes import DataNodes
from kaizen.plan.fingerprint import closure, code_fingerprint
from kaizen.plan.nodes import DatasetFacts, Plan, Run


def places(plan: Plan) -> dict[str, str]:
    """The place of every node in a plan with one method, size and seed -> its key."""
    found = {"shards": plan.shards.key, "summary": plan.summary.key}
    for run in plan.runs:
        found |= {
            f"step/{run.point.variant}/{task}": step.key for task, step in enumerate(run.steps)
        }
        found |= {f"replay/{task}": replay.key for task, replay in enumerate(run.replays, start=1)}
        found[f"evaluation/{run.point.variant}"] = run.evaluation.key
    for reference in plan.references:
        found |= {f"specialist/{task}": step.key for task, step in enumerate(reference.steps)}
        found["reference"] = reference.evaluation.key
    return found


def changed(before: Plan, after: Plan) -> set[str]:
    """Places whose node differs, or is in one plan only."""
    one, two = places(before), places(after)
    return {place for place in one.keys() | two.keys() if one.get(place) != two.get(place)}


def matching(plan: Plan, patterns: list[str]) -> set[str]:
    """Places that any of the patterns fits; each pattern has to fit one."""
    fitting = {
        pattern: {place for place in places(plan) if fnmatchcase(place, pattern)}
        for pattern in patterns
    }
    assert all(fitting.values()), fitting
    return set().union(*fitting.values())


def parameters(kind: type, prefix: str = "") -> Iterator[str]:
    """The name of every parameter."""
    for field in dataclasses.fields(kind):
        default = getattr(kind(), field.name)
        if dataclasses.is_dataclass(default):
            yield from parameters(type(default), f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def test_every_parameter_has_a_row() -> None:
    named = [row.parameter for row in ROWS]
    assert len(set(named)) == len(named) and not ELSEWHERE & set(named)
    assert set(named) | ELSEWHERE == set(parameters(Params))
    beside = {"dataset.path", "grid.methods", "grid.variants", "grid.seeds"}
    assert {row.reach for row in ROWS} | beside == set(REACH)


HERDING = BASE | {"replay.policy": "herding"}


def base_of(row: Row, policy: str) -> dict[str, Any]:
    """An experiment in which the row's parameter has an effect."""
    return BASE | {"grid.methods": [row.method], "replay.policy": policy} | row.base


@functools.cache
def _plan(changes: str) -> Plan:
    return make_plan(json.loads(changes))


def plan_before(changes: dict[str, Any]) -> Plan:
    """The plan that no row has changed yet; made once."""
    return _plan(json.dumps(changes))


def by_name(row: Row) -> str:
    return row.parameter


@pytest.mark.parametrize("row", ROWS, ids=by_name)
def test_a_parameter_changes_the_nodes_that_depend_on_it_and_no_others(row: Row) -> None:
    base = base_of(row, "first_n")
    before = plan_before(base)
    assert make_params(base | row.change) != make_params(base)
    assert changed(before, make_plan(base | row.change)) == matching(before, REACH[row.reach])


@pytest.mark.parametrize("row", [row for row in ROWS if row.method != "simclr"], ids=by_name)
def test_a_parameter_of_a_method_or_distiller_reaches_no_other_methods_nodes(row: Row) -> None:
    assert not changed(plan_before(BASE), make_plan(BASE | row.change))


def test_what_one_method_has_otherwise_leaves_the_others_alone() -> None:
    both = {"grid.methods": ["simclr", "byol"], "grid.variants": ["kaizen"]}
    before = make_plan(both)
    after = make_plan(both | {"per_method.byol": {"train": {"lr": 0.7}, "augment": {"flip": 0.5}}})
    keys = [
        [step.key for run in plan.runs if run.point.method == "simclr" for step in run.steps]
        for plan in (before, after)
    ]
    assert keys[0] == keys[1]
    trained = [run.steps[1].job().to_json()["params"] for run in after.runs]
    assert [(step["train"]["lr"], step["augment"]["flip"]) for step in trained] == [
        (2.0, 0.0),
        (0.7, 0.5),
    ]


def test_a_method_is_distilled_by_its_own_distiller_with_the_papers_weight() -> None:
    plan = make_plan({"grid.methods": list(SSL_METHODS), "grid.variants": ["kaizen"]})
    found = {
        run.point.method: run.steps[1].job().to_json()["params"]["feature_distill"]
        for run in plan.runs
    }
    assert {name: entry["distiller"] for name, entry in found.items()} == {
        name: method.distiller for name, method in SSL_METHODS.items()
    }
    assert {entry["distiller"]: entry["weight"] for entry in found.values()} == {
        name: distiller.weight for name, distiller in FEATURE_DISTILLERS.items()
    }
    assert found["vicreg"].keys() == {"distiller", "weight", "predictor_hidden"}
    assert found["swav"].keys() == {"distiller", "weight", "predictor_hidden", "prototype"}


def test_joint_training_is_one_step_on_all_tasks() -> None:
    plan = make_plan({"grid.variants": ["joint", "kaizen"]})
    joint = plan.runs[0]
    assert len(joint.steps) == 1 and joint.steps[0].job().to_json()["params"]["tasks"] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert set(joint.steps[0].identities) == {f"task-{task:02d}" for task in range(5)}
    assert not joint.replays and joint.name == "simclr-joint-seed0"


def test_a_growing_classifier_has_logits_for_the_classes_seen_in_their_order() -> None:
    plan = make_plan({"model.classifier_head": "growing", "grid.variants": ["kaizen", "joint"]})
    tasks = plan.runs[0].evaluation.job().to_json()["params"]["tasks"]
    for task, step in enumerate(plan.runs[0].steps):
        assert step.job().to_json()["params"]["logits"] == [
            label for classes in tasks[: task + 1] for label in classes
        ]
        assert step.job().to_json()["params"]["num_classes"] == len(step.spec.logits or [])
        assert step.job().to_json()["params"].get("new_logits", 2) == 2
    assert [step.job().to_json()["params"]["logits"] for step in plan.references[0].steps] == tasks
    assert sorted(plan.runs[1].steps[0].job().to_json()["params"]["logits"]) == list(range(10))


@pytest.mark.parametrize("policy", ["balanced_random", "reservoir"])
def test_the_seed_of_random_replay_reaches_what_uses_it(policy: str) -> None:
    random = BASE | {"replay.policy": policy}
    before = make_plan(random)
    assert changed(before, make_plan(random | {"replay.seed": 1})) == matching(
        before, REACH["replay"]
    )


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.parameter != "replay.policy"], ids=by_name
)
def test_what_reaches_a_runs_steps_reaches_its_herding_too(row: Row) -> None:
    before = plan_before(base_of(row, "herding"))
    expected = [*REACH[row.reach], *([HERDED[row.reach]] if row.reach in HERDED else [])]
    after = make_plan(base_of(row, "herding") | row.change)
    assert changed(before, after) == matching(before, expected)


def test_a_herding_replay_shard_is_shared_by_the_runs_that_share_its_steps() -> None:
    own = {
        "variants.soft": {"feature_distill": False},
        "grid.variants": ["kaizen", "soft"],
        "grid.seeds": [0, 1],
    }
    plan = make_plan(HERDING | own)
    runs = {(run.point.variant, run.point.seed): run for run in plan.runs}
    one, other = runs["kaizen", 0], runs["soft", 0]
    assert one.replays[0] is other.replays[0]
    assert not {node.key for node in one.replays[1:]} & {node.key for node in other.replays}
    assert not {node.key for node in one.replays} & {node.key for node in runs["kaizen", 1].replays}
    for task, replay in enumerate(one.replays, start=1):
        steps = {f"step-{earlier:02d}": one.steps[earlier] for earlier in range(task)}
        assert replay.inputs == {"shards": plan.shards, **steps}
        assert {role: replay.identities[role] for role in steps} == {
            role: node.key for role, node in steps.items()
        }
        assert replay.identities.keys() - steps.keys() == {
            f"task-{earlier:02d}" for earlier in range(task)
        }
        assert replay.spec.compute is not None and replay.spec.compute.device == "auto"
        assert "seed" not in replay.job().to_json()["params"]
    # 1 shards, 1 summary; per seed step 0, 2 x 4 steps, 1 + 2 x 3 replays, 4 specialists, 2
    # evaluations, 1 reference.
    assert len(plan.nodes) == 2 + 2 * (1 + 8 + 7 + 4 + 2 + 1)
    sizes = make_plan(HERDING | {"replay.proportion": [0.0, 0.1, 0.2]})
    assert {len(run.replays) for run in sizes.runs} == {0, 4}


def test_a_replay_shards_code_is_that_of_its_policy_alone() -> None:
    shards = {
        policy: make_plan(BASE | {"replay.policy": policy}).runs[0].replays[0]
        for policy in REPLAY_POLICIES
    }
    assert len({node.code_hash for node in shards.values()}) == len(REPLAY_POLICIES)
    for policy, node in shards.items():
        own: tuple[str, ...] = ("kaizen.data.replay.shard", f"kaizen.data.replay.{policy}:choose")
        packages: tuple[str, ...] = ("numpy", "pillow")
        if policy == "herding":
            own, packages = (*own, "kaizen.evaluation.step_features"), (*packages, "torch")
        own = (*own, "kaizen.jobs.makers#_replay")
        assert node.code_hash == fake_fingerprint(own, packages)
        others = {f"kaizen.data.replay.{name}" for name in REPLAY_POLICIES.keys() - {policy}}
        assert not others & closure(own)
        assert ("kaizen.models.feature_classifier" in closure(own)) is (policy == "herding")


def test_the_seed_of_the_labels_matters_where_some_are_dropped() -> None:
    some = BASE | {"labels.fraction": 0.5}
    before = make_plan(some)
    assert changed(before, make_plan(some | {"labels.seed": 1})) == matching(before, ["*"])


def test_where_the_raw_data_lie_is_no_part_of_any_key() -> None:
    one, two = (
        make_plan({"dataset.source": "image_folder", "dataset.path": path})
        for path in ("/a", "/b/c")
    )
    assert one.nodes.keys() == two.nodes.keys()
    assert tuple(plan.shards.local.path for plan in (one, two)) == ("/a", "/b/c")


def test_chosen_classes_are_known_by_their_names_however_they_were_chosen() -> None:
    folder = {"dataset.source": "image_folder", "dataset.path": "/a"}
    one, two = (
        make_plan(folder | {"dataset.classes": classes}) for classes in (None, list(FACTS.classes))
    )
    assert one.nodes.keys() == two.nodes.keys()
    assert two.shards.local.classes == list(FACTS.classes)


def test_parameters_of_the_split_that_have_no_effect_are_part_of_no_key() -> None:
    listed = {"split.classes": [["class 1", "class 5"], ["class 0"]]}
    domains = {"split.by": "domain", "split.domains": ["real", "clipart"]}
    for split, changes in (
        (listed, ({"split.seed": 1}, {"split.tasks": 2}, {"split.order": "given"})),
        (domains, ({"split.seed": 1}, {"split.tasks": 2}, {"split.order": "given"})),
        ({"split.sizes": [1, 2]}, ({"split.tasks": 2},)),
        ({"split.order": "given"}, ({"split.seed": 1},)),
        ({"split.by": "data"}, ({"split.order": "given"},)),
        ({"split.by": "domain"}, ({"split.tasks": 2},)),
    ):
        before = make_plan(split, DOMAIN_FACTS)
        for change in changes:
            assert make_plan(split | change, DOMAIN_FACTS).nodes.keys() == before.nodes.keys(), (
                split,
                change,
            )


DOMAIN_FACTS = dataclasses.replace(
    FACTS,
    domains=("clipart", "real", "sketch"),
    train_domains=("train c", "train r", "train s"),
    test_domains=("test c", "test r", "test s"),
)


def steps_of(plan: Plan) -> list[list[str]]:
    """The steps' keys of every run."""
    return [[step.key for step in run.steps] for run in plan.runs]


@pytest.mark.parametrize(
    ("before", "appended"),
    [
        ({"split.sizes": [3, 2]}, {"split.sizes": [3, 2, 4]}),
        (
            {"split.classes": [["class 4", "class 1"], ["class 7"]]},
            {"split.classes": [["class 4", "class 1"], ["class 7"], ["class 2"]]},
        ),
        (
            {"split.by": "domain", "split.domains": ["sketch", "clipart"]},
            {"split.by": "domain", "split.domains": ["sketch", "clipart", "real"]},
        ),
    ],
)
def test_an_appended_task_leaves_the_steps_before_it(
    before: dict[str, Any], appended: dict[str, Any]
) -> None:
    shorter, longer = (
        steps_of(make_plan(BASE | split, DOMAIN_FACTS)) for split in (before, appended)
    )
    assert [steps[:2] for steps in longer] == shorter
    assert {len(steps) for steps in longer} == {3}


def test_a_domain_added_to_the_dataset_leaves_the_listed_ones() -> None:
    split = BASE | {"split.by": "domain", "split.domains": ["sketch", "clipart"]}
    more = dataclasses.replace(
        FACTS,
        train=("new",) * 10,
        test=("new",) * 10,
        domains=("clipart", "quickdraw", "real", "sketch"),
        train_domains=("train c", "train q", "train r", "train s"),
        test_domains=("test c", "test q", "test r", "test s"),
    )
    assert make_plan(split, DOMAIN_FACTS).nodes.keys() == make_plan(split, more).nodes.keys()


def test_classes_beyond_the_stream_reach_nothing() -> None:
    split = BASE | {"split.classes": [["class 3"], ["class 8", "class 1"]]}
    train = tuple(
        text if label in (1, 3, 8) else "new images" for label, text in enumerate(FACTS.train)
    )
    assert (
        make_plan(split).nodes.keys()
        == make_plan(split, dataclasses.replace(FACTS, train=train)).nodes.keys()
    )


@pytest.mark.parametrize("part", ["train", "test"])
def test_other_images_of_one_domain_reach_its_task_and_what_comes_after(part: str) -> None:
    split = BASE | {"split.by": "domain", "split.domains": ["sketch", "clipart", "real"]}
    before = make_plan(split, DOMAIN_FACTS)
    checksums = (f"{part} c", "new images", f"{part} s")
    changes: dict[str, Any] = {f"{part}_domains": checksums}
    after = make_plan(split, dataclasses.replace(DOMAIN_FACTS, **changes))
    trained = ["step/*/2", "specialist/2"] if part == "train" else []
    expected = [*trained, "shards", "evaluation/*", "reference", "summary"]
    assert changed(before, after) == matching(before, expected)


def test_a_split_by_data_depends_on_all_images_and_on_how_they_are_dealt() -> None:
    split = BASE | {"split.by": "data", "split.tasks": 2}
    before = make_plan(split)
    assert before.runs[0].evaluation.job().to_json()["params"]["tasks"] == [list(range(10))] * 2
    assert before.runs[0].steps[0].job().to_json()["params"]["num_classes"] == 10
    assert changed(before, make_plan(split | {"split.seed": 1})) == matching(before, ["*"])
    train = ("new images", *FACTS.train[1:])
    assert changed(before, make_plan(split, dataclasses.replace(FACTS, train=train))) == matching(
        before, ["*"]
    )
    steps = steps_of(before)[0]
    assert len(set(steps)) == 2
    assert not set(steps) & set(steps_of(make_plan(split | {"split.tasks": 3}))[0])


def test_unlabelled_images_are_spread_by_the_seed_over_all_tasks() -> None:
    stl10 = BASE | {"dataset.source": "stl10", "dataset.unlabelled": True}
    listed = {"split.classes": [[f"class {label}"] for label in range(3)]}
    before = make_plan(stl10 | listed)
    assert changed(before, make_plan(stl10 | listed | {"split.seed": 1})) == matching(before, ["*"])
    more = {"split.classes": [*listed["split.classes"], ["class 9"]]}
    assert not set(steps_of(before)[0]) & set(steps_of(make_plan(stl10 | more))[0])


def test_the_same_tasks_have_the_same_steps_however_they_are_asked_for() -> None:
    order = make_plan(BASE).runs[0].evaluation.job().to_json()["params"]["tasks"]
    equal, sizes = make_plan(BASE), make_plan(BASE | {"split.sizes": [2] * 5})
    names = make_plan(
        BASE | {"split.classes": [[FACTS.classes[label] for label in task] for task in order]}
    )
    assert steps_of(equal) == steps_of(sizes) == steps_of(names)
    assert changed(equal, names) == {"shards"}


def test_the_plan_refuses_a_split_by_domain_of_a_source_without() -> None:
    with pytest.raises(KaizenError, match=r"split\.by: domain needs a source with domains"):
        make_plan({"split.by": "domain"})


def test_parameters_of_one_source_reach_no_node_of_another() -> None:
    synthetic, folder = (
        {"dataset.source": "synthetic"},
        {"dataset.source": "image_folder", "dataset.path": "/a"},
    )
    before = make_plan(BASE | synthetic)
    for change in ({"dataset.seed": 1}, {"dataset.synthetic.size": 16}):
        assert changed(before, make_plan(BASE | synthetic | change)) == matching(before, ["*"])
        if "dataset.seed" not in change:
            assert changed(make_plan(BASE), make_plan(BASE | change)) == set()
        assert changed(make_plan(BASE | folder), make_plan(BASE | folder | change)) == set()
    assert changed(before, make_plan(BASE | synthetic | {"dataset.test_fraction": 0.3})) == set()
    stl10 = BASE | {"dataset.source": "stl10"}
    assert changed(make_plan(stl10), make_plan(stl10 | {"dataset.unlabelled": True})) == matching(
        before, ["*"]
    )


def test_a_seed_a_size_or_a_variant_added_leaves_everything_but_the_summary() -> None:
    before = make_plan(BASE)
    for addition in (
        {"grid.seeds": [0, 1]},
        {"replay.proportion": [0.1, 0.5]},
        {
            "grid.variants": [*VARIANTS, "mine"],
            "variants.mine": {"feature_distill": False, "replay": False},
        },
    ):
        after = make_plan(BASE | addition)
        assert before.nodes.keys() - after.nodes.keys() == {before.summary.key}
        assert len(after.nodes) > len(before.nodes)


def test_other_code_reaches_the_nodes_that_run_it() -> None:
    def edited(module: str) -> Plan:
        def fingerprint(modules: tuple[str, ...], packages: tuple[str, ...]) -> str:
            named = {entry.partition(":")[0] for entry in (*modules, *packages)}
            return f"{'edited' if module in named else 'same'} {modules} {packages}"

        return build_plan(make_params(BASE), FACTS, fingerprint)

    before = edited("none")
    assert changed(before, edited("kaizen.report.node")) == {"summary"}
    assert changed(before, edited("kaizen.evaluation.run")) == matching(before, REACH["evaluation"])
    assert changed(before, edited("kaizen.data.replay.first_n")) == matching(
        before, REACH["replay"]
    )
    assert changed(before, edited("kaizen.data.replay.herding")) == set()
    assert changed(before, edited("kaizen.distill.contrastive")) == matching(
        before, REACH["distill.feature"]
    )
    assert changed(before, edited("kaizen.ssl.simclr")) == matching(before, TRAINED)
    assert changed(before, edited("torch")) == matching(before, TRAINED)
    assert changed(before, edited("kaizen.data.ingest")) == matching(before, ["*"])
    assert changed(before, edited("matplotlib")) == {"summary"}
    assert changed(before, edited("kaizen.jobs.makers#_summary")) == {"summary"}
    assert changed(before, edited("kaizen.jobs.makers#_shards")) == matching(before, ["*"])


@pytest.mark.parametrize("task", range(5))
def test_other_training_images_of_one_class_reach_its_task_and_what_comes_after(task: int) -> None:
    before = make_plan(BASE)
    label = before.runs[0].evaluation.job().to_json()["params"]["tasks"][task][1]
    train = tuple(
        "new images" if other == label else checksum for other, checksum in enumerate(FACTS.train)
    )
    later = [f"step/*/{step}" for step in range(task, 5)] + [
        f"replay/{step}" for step in range(task + 1, 5)
    ]
    expected = [*later, f"specialist/{task}", "shards", "evaluation/*", "reference", "summary"]
    assert changed(before, make_plan(BASE, dataclasses.replace(FACTS, train=train))) == matching(
        before, expected
    )


def test_other_test_images_reach_no_training() -> None:
    before = make_plan(BASE)
    after = make_plan(BASE, dataclasses.replace(FACTS, test=("new images", *FACTS.test[1:])))
    assert changed(before, after) == matching(
        before, ["shards", "evaluation/*", "reference", "summary"]
    )


def test_a_renamed_class_reaches_what_other_training_images_reach() -> None:
    before = make_plan(BASE)
    first = before.runs[0].evaluation.job().to_json()["params"]["tasks"][0][0]
    classes = tuple(
        "new name" if label == first else name for label, name in enumerate(FACTS.classes)
    )
    train = tuple(
        "new images" if label == first else checksum for label, checksum in enumerate(FACTS.train)
    )
    renamed = dataclasses.replace(FACTS, classes=classes)
    retaken = dataclasses.replace(FACTS, train=train)
    assert changed(before, make_plan(BASE, renamed)) == changed(before, make_plan(BASE, retaken))


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
    assert empty.evaluation == none.evaluation
    assert empty.replays == ()
    # 1 shards, 2 x 4 replays; per seed: step 0, and 4 steps for each of kaizen x 3 sizes, cassle
    # and no_distill (size 0 is kaizen_no_replay), 4 specialists, 5 evaluations, 1 reference; 1
    # summary.
    assert len(plan.nodes) == 1 + 8 + 2 * (1 + 5 * 4 + 4 + 5 + 1) + 1
    assert plan.users(empty.evaluation.key) == [empty.name, none.name]
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
        assert not {"torch", "snakemake", "matplotlib", "sklearn"} & set(modules)


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
        "shards": plan.shards.key,
        "replay": plan.runs[0].replays[0].key,
        "step 0": plan.runs[0].steps[0].key,
        "step 1": plan.runs[0].steps[1].key,
        "evaluation": plan.runs[0].evaluation.key,
        "reference": plan.references[0].evaluation.key,
        "summary": plan.summary.key,
    }
    assert found == {
        "shards": "d38aaeb9eebd760880d91db01613769e",
        "replay": "f63ebc1afd3a14afd9e6b3fd6eec821a",
        "step 0": "67388bced8696948ff40c1b59f6659bd",
        "step 1": "197303811108768799d65309805188ee",
        "evaluation": "50c111fad028f4e4d87564b4266c218b",
        "reference": "9b9203ae3957fa292553f5c6408c1f30",
        "summary": "e3fa93cce8cc99479c2fac8c1bddfce3",
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
        return (*run.steps, *run.replays, run.evaluation)

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
