"""Each parameter reaches the nodes that depend on it, and no others."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import FACTS, fake_fingerprint, make_params, make_plan
from plan_places import DOMAIN_FACTS, changed, matching
from plan_table import BASE, ELSEWHERE, HERDED, REACH, ROWS, TRAINED, VARIANTS, Row

from kaizen.params import Params
from kaizen.params.registry import FEATURE_DISTILLERS, REPLAY_POLICIES, SSL_METHODS
from kaizen.plan.build import build_plan
from kaizen.plan.fingerprint import closure
from kaizen.plan.nodes import Plan


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
    unchanged = {"dataset.path", "grid.methods", "grid.variants", "grid.seeds"}
    assert {row.reach for row in ROWS} | unchanged == set(REACH)


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
    tasks = plan.runs[0].evaluations[0].job().to_json()["params"]["tasks"]
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
        assert replay.inputs == {"shards": plan.shards[0], **steps}
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
        for policy, entry in REPLAY_POLICIES.items()
        if entry.images
    }
    assert len({node.code_hash for node in shards.values()}) == len(shards) > 3
    for policy, node in shards.items():
        own: tuple[str, ...] = ("kaizen.data.replay.shard", f"kaizen.data.replay.{policy}:choose")
        packages: tuple[str, ...] = ("numpy", "pillow")
        if policy == "herding":
            own, packages = (*own, "kaizen.evaluation.step_features"), (*packages, "torch")
        own = (*own, "kaizen.jobs.makers#_replay")
        assert node.code_hash == fake_fingerprint(own, packages)
        others = {f"kaizen.data.replay.{name}" for name in shards.keys() - {policy}}
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
    assert tuple(plan.shards[0].local.path for plan in (one, two)) == ("/a", "/b/c")


def test_chosen_classes_are_known_by_their_names_however_they_were_chosen() -> None:
    folder = {"dataset.source": "image_folder", "dataset.path": "/a"}
    one, two = (
        make_plan(folder | {"dataset.classes": classes}) for classes in (None, list(FACTS.classes))
    )
    assert one.nodes.keys() == two.nodes.keys()
    assert two.shards[0].local.classes == list(FACTS.classes)


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
    assert changed(before, edited("vl-convert-python")) == {"summary"}
    assert changed(before, edited("kaizen.jobs.makers#_summary")) == {"summary"}
    assert changed(before, edited("kaizen.jobs.makers#_shards")) == matching(before, ["*"])
