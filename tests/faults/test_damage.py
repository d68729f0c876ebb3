"""Files that are damaged or another's: found by their hash, set aside, made again, and the results
are the same.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from project import Project

from faults.table import Fault, of_kind
from faults.warm import Warm
from kaizen.jobs.workflow import Workflow
from kaizen.plan.layout import layout_of
from kaizen.store.layout import MANIFEST
from kaizen.store.node_id import NodeId
from kaizen.store.publish import is_published

# What makes a damaged file be read again: steps that start from it, or another summary.
STEP_0, STEP_1, SUMMARY = (
    {"train.lr": 0.5},
    {"distill.classifier.weight": 1.0},
    {"report.title": "again"},
)
FILES: dict[str, tuple[str, str, Mapping[str, object]]] = {
    "shard": ("shards", "task-00.train.parquet", STEP_0),
    "replay shard": ("replay", "replay.parquet", STEP_1),
    "checkpoint": ("step", "model.safetensors", STEP_1),
    "history": ("step", "history.parquet", SUMMARY),
    "facts of a step": ("step", "step.json", SUMMARY),
    "description of a model": ("step", "config.json", SUMMARY),
    "evaluation": ("evaluation", "accuracy.json", SUMMARY),
    "record": ("step", "node.json", STEP_1),
}


def flip_bit(path: Path, other: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def truncate(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def swap(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def damage_of(fault: Fault) -> tuple[str, Callable[[Path, Path], None]]:
    """What a fault of the table damages, and how."""
    for how, function in {
        "with a bit flipped": flip_bit,
        "truncated": truncate,
        "in the place": swap,
    }.items():
        if f" {how}" in fault.name:
            return fault.name.partition(f" {how}")[0], function
    raise KeyError(fault.name)


def faults_of(*names: str) -> list[Fault]:
    return [fault for fault in of_kind("Damage") if damage_of(fault)[0] in names]


@pytest.fixture(scope="module")
def two_plans(finished: Project, warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A store with the nodes of two plans; those of the finished project are the current one."""
    project = finished.copy(tmp_path_factory.mktemp("two-plans") / "project")
    project.set({"replay.proportion": [0.5]})
    assert warm.kaizen(project, "run").code == 0
    shutil.copyfile(project.root / MANIFEST, project.root / "another-manifest.json")
    project.set({"replay.proportion": [0.25]})
    assert warm.kaizen(project, "run").code == 0
    return project


@pytest.fixture(scope="module")
def undisturbed(
    two_plans: Project, warm: Warm, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Mapping[str, object]], dict[NodeId, str]]:
    """The nodes after an undisturbed run with some parameters changed."""
    known: dict[str, dict[NodeId, str]] = {}

    def run(changes: Mapping[str, object]) -> dict[NodeId, str]:
        if str(changes) not in known:
            project = two_plans.copy(tmp_path_factory.mktemp("undisturbed") / "project")
            project.set(changes)
            assert warm.kaizen(project, "run").code == 0
            known[str(changes)] = project.nodes()
        return known[str(changes)]

    return run


@pytest.mark.parametrize("fault", faults_of(*FILES), ids=lambda fault: fault.name)
def test_a_damaged_file_of_a_node(
    fault: Fault,
    two_plans: Project,
    undisturbed: Callable[[Mapping[str, object]], dict[NodeId, str]],
    warm: Warm,
    tmp_path: Path,
) -> None:
    what, damage = damage_of(fault)
    kind, name, changes = FILES[what]
    project = two_plans.copy(tmp_path / "project")
    current = {node["key"] for node in json.loads(project.kaizen("plan", "--json").output)["nodes"]}
    keys = [key for key in project.keys(kind) if key in current]
    place = project.store.folder(NodeId.of(kind, keys[0]))
    others = [path for path in project.store.root.glob(f"{kind}/*/{name}") if path.parent != place]
    damage(place / name, others[0] if others else place / "task-01.train.parquet")
    # Nothing is taken back from what was published: it has to be made again.
    shutil.rmtree(project.root / "results")
    shutil.rmtree(project.root / "data")
    project.set(changes)

    outcome = warm.kaizen(project, "run")
    fault.check(outcome)
    (aside,) = (project.store.root / ".damaged").iterdir()
    assert (
        str(aside) in outcome.output
        and aside.name.startswith(f"{kind}-{keys[0]}-")
        and not place.exists()
    )
    assert project.nodes().items() <= undisturbed(changes).items() and project.leftovers() == []
    outcome = warm.kaizen(project, "run")
    assert outcome.code == 0, outcome.output
    assert project.nodes() == undisturbed(changes)


@pytest.mark.parametrize("fault", faults_of("resume state"), ids=lambda fault: fault.name)
def test_a_damaged_resume_state(fault: Fault, fresh: Project, warm: Warm, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    # Without distillation both steps have the same architecture.
    project.set({"grid.variants": ["no_distill"]})
    stop = {"not_finite": {"where": "L_FE_CT", "value": "nan", "batch": 4}}
    states = []
    for _ in range(2):
        assert warm.kaizen(project, "run", inject=stop).code == 1
        (work,) = (project.store.root / ".work").iterdir()
        states.append(work / "resume.safetensors")
        shutil.copyfile(states[-1], tmp_path / work.name)
        # Three batches of the first step are left, and then comes the second.
        stop["not_finite"]["batch"] = 3 + 4
    damage_of(fault)[1](states[1], tmp_path / states[0].parent.name)
    outcome = warm.kaizen(project, "run")
    fault.check(outcome)
    assert "resumes at" not in outcome.output
    whole = fresh.copy(tmp_path / "whole")
    whole.set({"grid.variants": ["no_distill"]})
    assert warm.kaizen(whole, "run").code == 0
    assert project.nodes() == whole.nodes()


@pytest.mark.parametrize("fault", faults_of("manifest"), ids=lambda fault: fault.name)
def test_a_damaged_manifest(
    fault: Fault, two_plans: Project, warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = two_plans.copy(tmp_path / "project")
    monkeypatch.chdir(project.root)
    manifest = project.root / MANIFEST
    whole, nodes = manifest.read_bytes(), project.nodes()
    workflow = Workflow.from_files(project.params, [], project.root)
    assert is_published(layout_of(workflow.plan), project.store, project.root)
    damage_of(fault)[1](manifest, project.root / "another-manifest.json")
    assert not is_published(layout_of(workflow.plan), project.store, project.root), (
        "snakemake publishes again"
    )
    shutil.rmtree(project.store.folder(NodeId.of("summary", workflow.plan.summary.key)))
    outcome = warm.kaizen(project, "run")
    fault.check(outcome)
    assert manifest.read_bytes() == whole and project.nodes() == nodes
