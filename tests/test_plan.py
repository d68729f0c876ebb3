from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from conftest import FACTS, REPOSITORY, make_params, make_plan

from kaizen.errors import KaizenError
from kaizen.fingerprint import code_fingerprint
from kaizen.params import Params
from kaizen.plan import JOB_COMMAND, DatasetFacts, Plan, build_plan
from kaizen.registry import FEATURE_DISTILLERS, SSL_METHODS

VARIANTS = ["kaizen", "kaizen_no_replay", "cassle", "no_distill"]
BASE = {"grid.variants": VARIANTS}

# Names of places in the plan, as `places` makes them, that a change of a parameter reaches.
TRAINED = ["step/*", "specialist/*", "evaluation/*", "reference", "summary"]
DISTILLED = [f"{kind}/{name}{tail}" for kind, tail in (("step", "/[1-4]"), ("evaluation", "")) for name in VARIANTS[:3]]
SOFT_LABELLED = [f"{kind}/kaizen{tail}" for kind, tail in (("step", "*/[1-4]"), ("evaluation", "*"))]
REHEARSED = ["step/kaizen/[1-4]", "evaluation/kaizen", "summary"]

# Parameter or section -> what changes with it; the longest name that fits a parameter counts.
REACH: dict[str, list[str]] = {
    "dataset": ["*"],
    "dataset.path": [],
    "dataset.compression": ["shards"],
    "split": ["*"],
    "labels": ["*"],
    "labels.seed": [],
    "replay": ["replay/*", *REHEARSED],
    "replay.seed": [],
    "variants": [],
    "grid.methods": [],
    "grid.variants": [],
    "grid.seeds": [],
    "grid.specialists": ["specialist/[1-4]", "reference", "summary"],
    "image": TRAINED,
    "augment": TRAINED,
    "model": TRAINED,
    "ssl": TRAINED,
    "per_method": TRAINED,
    "distill.feature": [*DISTILLED, "summary"],
    "distill.classifier": [*SOFT_LABELLED, "summary"],
    "train": TRAINED,
    "train.replay_batch_size": REHEARSED,
    "evaluation": ["evaluation/*", "reference", "summary"],
    "report": ["summary"],
    "reference_compat.teacher_train_mode": [*DISTILLED, "summary"],
    "reference_compat.stem_padding_2": TRAINED,
    "reference_compat.epoch_length": REHEARSED,
    "runtime": [],
}
# What to change where halving, adding one, negating and the other choice would not do.
CHANGES: dict[str, dict[str, Any]] = {
    "dataset.source": {"dataset.source": "image_folder", "dataset.path": "/data"},
    "split.tasks": {"split.tasks": 2},
    "image.load_size": {"image.load_size": 20},
    "model.backbone": {"model.backbone": "resnet18"},
    "image.channels": {"image.channels": 3, "image.mean": [0.5] * 3, "image.std": [0.5] * 3},
    "replay.memory": {"replay.proportion": None, "replay.memory": [50]},
    "report.title": {"report.title": "another"},
    "report.formats": {"report.formats": ["pdf"]},
    "variants": {"variants.unused": {"replay": False}},
    "distill.feature.distiller": {"distill.feature.distiller": "predictive"},
    "distill.feature.weight": {"distill.feature.weight": 0.5},
    "per_method": {"per_method.simclr.train.lr": 0.5},
}
# Lists of points are tested on their own below; the others have a single choice so far.
ELSEWHERE = {"dataset.path", "grid.methods", "grid.variants", "grid.seeds"}


def places(plan: Plan) -> dict[str, str]:
    """The place of every node in a plan with one method, size and seed -> its key."""
    found = {"shards": plan.shards.key, "summary": plan.summary.key}
    for run in plan.runs:
        found |= {f"step/{run.variant}/{task}": step.key for task, step in enumerate(run.steps)}
        found |= {f"replay/{task}": replay.key for task, replay in enumerate(run.replays, start=1)}
        found[f"evaluation/{run.variant}"] = run.evaluation.key
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
    fitting = {pattern: {place for place in places(plan) if fnmatchcase(place, pattern)} for pattern in patterns}
    assert all(fitting.values()), fitting
    return set().union(*fitting.values())


def leaves(kind: type, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every parameter's path, type and default."""
    hints = typing.get_type_hints(kind)
    for name in hints:
        if name.startswith("__"):
            continue
        default = getattr(kind(), name)
        if dataclasses.is_dataclass(default):
            yield from leaves(hints[name], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", hints[name], default


def other_value(hint: Any, value: Any) -> Any:
    """Some other value that the parameter may have."""
    if typing.get_origin(hint) is typing.Literal:
        return next(choice for choice in typing.get_args(hint) if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 or 0.5
    if isinstance(value, list):
        return [other_value(None, value[0]), *value[1:]]
    raise AssertionError(f"say in CHANGES how to change a parameter of type {hint}")


def base_for(path: str) -> dict[str, Any]:
    """An experiment in which a parameter of a method or distiller has an effect."""
    *_, owner, _ = ["", "", *path.split(".")]
    for method, entry in SSL_METHODS.items():
        if path.startswith("ssl.") and owner == method:
            return BASE | {"grid.methods": [method]}
        if path.startswith("distill.feature.") and owner == entry.distiller:
            return BASE | {"grid.methods": [method]}
    return BASE


LEAVES = {path: CHANGES.get(path) or (hint, default) for path, hint, default in leaves(Params)}


@pytest.mark.parametrize("path", sorted(LEAVES.keys() - ELSEWHERE))
def test_a_parameter_changes_the_nodes_that_depend_on_it_and_no_others(path: str) -> None:
    change = LEAVES[path]
    if isinstance(change, tuple):
        change = {path: other_value(*change)}
    named = [name for name in REACH if path == name or path.startswith(f"{name}.")]
    assert named, f"{path} is missing in REACH"
    base = base_for(path)
    before = make_plan(base)
    assert changed(before, make_plan(base | change)) == matching(before, REACH[max(named, key=len)])
    if base != BASE and not path.startswith(("ssl.simclr", "distill.feature.contrastive")):
        assert not changed(make_plan(BASE), make_plan(BASE | change)), "of another method or distiller"


def test_what_one_method_has_otherwise_leaves_the_others_alone() -> None:
    both = {"grid.methods": ["simclr", "byol"], "grid.variants": ["kaizen"]}
    before = make_plan(both)
    after = make_plan(both | {"per_method.byol": {"train": {"lr": 0.7}, "augment": {"flip": 0.5}}})
    keys = [[step.key for run in plan.runs if run.method == "simclr" for step in run.steps] for plan in (before, after)]
    assert keys[0] == keys[1]
    trained = [run.steps[1].params for run in after.runs]
    assert [(step["train"]["lr"], step["augment"]["flip"]) for step in trained] == [(2.0, 0.0), (0.7, 0.5)]


def test_a_method_is_distilled_by_its_own_distiller_with_the_papers_weight() -> None:
    plan = make_plan({"grid.methods": list(SSL_METHODS), "grid.variants": ["kaizen"]})
    found = {run.method: run.steps[1].params["feature_distill"] for run in plan.runs}
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
    assert len(joint.steps) == 1 and joint.steps[0].params["tasks"] == [0, 1, 2, 3, 4]
    assert set(joint.steps[0].identities) == {f"task-{task:02d}" for task in range(5)}
    assert not joint.replays and joint.name == "simclr-joint-seed0"


def test_a_growing_classifier_has_logits_for_the_classes_seen_in_their_order() -> None:
    plan = make_plan({"model.classifier_head": "growing", "grid.variants": ["kaizen", "joint"]})
    tasks = plan.runs[0].evaluation.params["tasks"]
    for task, step in enumerate(plan.runs[0].steps):
        assert step.params["logits"] == [label for classes in tasks[: task + 1] for label in classes]
        assert step.params["num_classes"] == len(step.params["logits"])
        assert step.params.get("new_logits", 2) == 2
    assert [step.params["logits"] for step in plan.references[0].steps] == tasks
    assert sorted(plan.runs[1].steps[0].params["logits"]) == list(range(10))


def test_the_seed_of_random_replay_reaches_what_uses_it() -> None:
    random = BASE | {"replay.policy": "balanced_random"}
    before = make_plan(random)
    assert changed(before, make_plan(random | {"replay.seed": 1})) == matching(before, REACH["replay"])


def test_the_seed_of_the_labels_matters_where_some_are_dropped() -> None:
    some = BASE | {"labels.fraction": 0.5}
    before = make_plan(some)
    assert changed(before, make_plan(some | {"labels.seed": 1})) == matching(before, ["*"])


def test_where_the_raw_data_lie_is_no_part_of_any_key() -> None:
    one, two = (make_plan({"dataset.source": "image_folder", "dataset.path": path}) for path in ("/a", "/b/c"))
    assert one.nodes.keys() == two.nodes.keys()
    assert (one.shards.local["path"], two.shards.local["path"]) == ("/a", "/b/c")


def test_a_seed_a_size_or_a_variant_added_leaves_everything_but_the_summary() -> None:
    before = make_plan(BASE)
    for addition in (
        {"grid.seeds": [0, 1]},
        {"replay.proportion": [0.1, 0.5]},
        {"grid.variants": [*VARIANTS, "mine"], "variants.mine": {"feature_distill": False, "replay": False}},
    ):
        after = make_plan(BASE | addition)
        assert before.nodes.keys() - after.nodes.keys() == {before.summary.key}
        assert len(after.nodes) > len(before.nodes)


def test_other_code_reaches_the_nodes_that_run_it() -> None:
    def edited(module: str) -> Plan:
        def fingerprint(modules: tuple[str, ...], packages: tuple[str, ...]) -> str:
            return f"{'edited' if module in (*modules, *packages) else 'same'} {modules} {packages}"

        return build_plan(make_params(BASE), FACTS, fingerprint)

    before = edited("none")
    assert changed(before, edited("kaizen.report.node")) == {"summary"}
    assert changed(before, edited("kaizen.evaluation.run")) == matching(before, REACH["evaluation"])
    assert changed(before, edited("kaizen.data.replay")) == matching(before, REACH["replay"])
    assert changed(before, edited("kaizen.distill.contrastive")) == matching(before, REACH["distill.feature"])
    assert changed(before, edited("kaizen.ssl.simclr")) == matching(before, TRAINED)
    assert changed(before, edited("torch")) == matching(before, TRAINED)
    assert changed(before, edited("kaizen.data.ingest")) == matching(before, ["*"])
    assert changed(before, edited("matplotlib")) == {"summary"}


@pytest.mark.parametrize("task", range(5))
def test_other_training_images_of_one_class_reach_its_task_and_what_comes_after(task: int) -> None:
    before = make_plan(BASE)
    label = before.runs[0].evaluation.params["tasks"][task][1]
    train = tuple("new images" if other == label else checksum for other, checksum in enumerate(FACTS.train))
    later = [f"step/*/{step}" for step in range(task, 5)] + [f"replay/{step}" for step in range(task + 1, 5)]
    expected = [*later, f"specialist/{task}", "shards", "evaluation/*", "reference", "summary"]
    assert changed(before, make_plan(BASE, dataclasses.replace(FACTS, train=train))) == matching(before, expected)


def test_other_test_images_reach_no_training() -> None:
    before = make_plan(BASE)
    after = make_plan(BASE, dataclasses.replace(FACTS, test=("new images", *FACTS.test[1:])))
    assert changed(before, after) == matching(before, ["shards", "evaluation/*", "reference", "summary"])


def test_a_renamed_class_reaches_what_other_training_images_reach() -> None:
    before = make_plan(BASE)
    first = before.runs[0].evaluation.params["tasks"][0][0]
    classes = tuple("new name" if label == first else name for label, name in enumerate(FACTS.classes))
    train = tuple("new images" if label == first else checksum for label, checksum in enumerate(FACTS.train))
    renamed, retaken = (
        dataclasses.replace(FACTS, **{name: value}) for name, value in (("classes", classes), ("train", train))
    )
    assert changed(before, make_plan(BASE, renamed)) == changed(before, make_plan(BASE, retaken))


def test_runs_share_what_they_have_in_common() -> None:
    plan = make_plan(BASE | {"replay.proportion": [0.0, 0.1, 0.2], "grid.seeds": [0, 1]})
    assert len({run.steps[0].key for run in plan.runs if run.seed == 0}) == 1
    assert len({run.steps[0].key for run in plan.runs}) == 2
    for reference in plan.references:
        assert reference.steps[0].key in {run.steps[0].key for run in plan.runs if run.seed == reference.seed}
    by_name = {run.name: run for run in plan.runs}
    empty, none = by_name["simclr-kaizen-replay0pct-seed1"], by_name["simclr-kaizen_no_replay-seed1"]
    assert empty.steps == none.steps
    assert empty.evaluation == none.evaluation
    assert empty.replays == ()
    # 1 shards, 2 x 4 replays; per seed: step 0, and 4 steps for each of kaizen x 3 sizes, cassle and no_distill
    # (size 0 is kaizen_no_replay), 4 specialists, 5 evaluations, 1 reference; 1 summary.
    assert len(plan.nodes) == 1 + 8 + 2 * (1 + 5 * 4 + 4 + 5 + 1) + 1
    assert plan.users(empty.evaluation.key) == [empty.name, none.name]
    assert sorted(plan.users(empty.steps[0].key)) == sorted(
        [run.name for run in plan.runs if run.seed == 1] + ["simclr-specialist-seed1"]
    )


def test_every_replay_shard_serves_all_seeds_of_all_variants() -> None:
    plan = make_plan(
        {"grid.variants": ["kaizen", "no_distill_replay"], "variants.no_distill_replay": {"feature_distill": False}}
    )
    assert [run.replays for run in plan.runs] == [plan.runs[0].replays] * 2
    assert [step.inputs["replay"] for step in plan.runs[1].steps[1:]] == list(plan.runs[0].replays)


def test_step_zero_and_specialists_know_nothing_of_distillation_and_replay() -> None:
    plan = make_plan(BASE)
    optional = {"feature_distill", "classifier_distill", "teacher_train_mode", "replay_batch_size", "longest_loader"}
    for step in (*(run.steps[0] for run in plan.runs), *plan.references[0].steps):
        assert not optional & step.params.keys()
        assert "replay_batch_size" not in step.params["train"]
        assert step.inputs.keys() == {"shards"}
    assert optional <= plan.runs[0].steps[1].params.keys()
    for run in plan.runs:
        for task, step in enumerate(run.steps[1:], start=1):
            assert step.inputs["prior"] is run.steps[task - 1]
            assert ("replay" in step.inputs) == (run.variant == "kaizen")
            assert ("feature_distill" in step.params) == (run.variant != "no_distill")
            assert ("classifier_distill" in step.params) == run.variant.startswith("kaizen")


def test_without_specialists_the_reference_needs_step_zero_only() -> None:
    plan = make_plan(BASE | {"grid.specialists": False})
    assert [step.key for step in plan.references[0].steps] == [plan.runs[0].steps[0].key]


def test_a_key_is_the_hash_of_all_that_a_node_depends_on() -> None:
    node = make_plan(BASE).runs[0].steps[2]
    depends = {
        "kind": "step",
        "params": node.params,
        "code": node.code,
        "inputs": {
            "prior": node.inputs["prior"].key,
            "replay": node.inputs["replay"].key,
            "task-02": node.identities["task-02"],
        },
        "command": JOB_COMMAND,
    }
    text = json.dumps(depends, sort_keys=True, separators=(",", ":"))
    assert node.key == hashlib.sha256(text.encode()).hexdigest()[:32]
    spec = json.loads(json.dumps(node.spec()))
    assert spec["inputs"]["replay"] == {"kind": "replay", "key": node.inputs["replay"].key}
    assert spec["local"] == {"save_every_epochs": 10}


def test_nodes_come_after_their_inputs() -> None:
    plan = make_plan(BASE | {"grid.seeds": [3, 1]})
    order = {key: position for position, key in enumerate(plan.nodes)}
    assert all(order[parent.key] < order[node.key] for node in plan.nodes.values() for parent in node.inputs.values())
    assert all(plan.nodes[key].key == key for key in plan.nodes)


def test_names_are_unique_and_safe_as_paths() -> None:
    own = {"variants": {"My.own_2": {}}, "grid.variants": [*VARIANTS, "My.own_2"], "grid.seeds": [0, 1, 2**31 - 1]}
    shares = {"replay.proportion": [0.0, 0.01, 0.015, 0.1, 1.0]}
    counts = {"replay.proportion": None, "replay.memory": [0, 1, 200]}
    for sizes in (shares, counts):
        plan = make_plan(own | sizes)
        names = [run.name for run in plan.runs] + [reference.name for reference in plan.references]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) for name in names)
    assert "simclr-kaizen-replay200-seed0" in names


def test_the_plan_refuses_tasks_that_do_not_divide_the_classes() -> None:
    with pytest.raises(KaizenError, match=r"split\.tasks: 3 .*10 classes.*choose 1, 2, 5 or 10"):
        make_plan({"split.tasks": 3})


def test_the_plan_is_pure() -> None:
    one, two = make_plan(BASE), make_plan(BASE)
    assert list(one.nodes) == list(two.nodes)
    assert one.key == two.key
    assert [node.spec() for node in one.nodes.values()] == [node.spec() for node in two.nodes.values()]


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
        "import json, sys, kaizen.cli, kaizen.plan, kaizen.publish, kaizen.workflow\n"
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
    codes = {node.kind: node.code for node in plan.nodes.values()}
    assert codes.keys() == {"shards", "replay", "step", "evaluation", "reference", "summary"}
    assert codes["evaluation"] == codes["reference"]
    assert len(set(codes.values())) == 5
    assert places(plan) == places(build_plan(make_params(BASE), facts, code_fingerprint))
