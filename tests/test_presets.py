"""Every preset and documented combination plans; the paper's are the paper's numbers; adopting one
keeps comments.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from conftest import REPOSITORY, fake_fingerprint
from project import Project

from kaizen.errors import KaizenError
from kaizen.params import Params, for_method
from kaizen.params.validation import load_params
from kaizen.plan.build import build_plan
from kaizen.plan.nodes import DatasetFacts, Plan

PRESETS = REPOSITORY / "presets"
CLASSES = {"digits": 10, "image_folder": 10, "cifar100": 100, "imagenet": 100}
# The experiments of the table in presets/README.md, and what goes with each of them.
EXPERIMENTS = [
    line.split("|")[2].strip(" `").split()
    for line in (PRESETS / "README.md").read_text().splitlines()
    if line.endswith("PU |")
]
LABELS = ["labels-0.8", "labels-1", "labels-5", "labels-10", "labels-25"]
CHANGES = ["replay-ablation", "tasks-10", "prototypes", *LABELS, "quick"]
# What a preset is to be laid over.
BASES = {
    "cifar10-methods": ["cifar10-small"],
    "cifar10-heads": ["cifar10-small"],
    "cifar10-fast": ["cifar10-small"],
    "tiny-imagenet-100-seeds": ["tiny-imagenet-100"],
    "tiny-imagenet-100-transfer": ["tiny-imagenet-100"],
    "tiny-imagenet-100-prototypes": ["tiny-imagenet-100"],
    "tiny-imagenet-100-old-logits": ["tiny-imagenet-100"],
    "tiny-imagenet-100-gpu": ["cifar100"],
    "search": ["tiny-imagenet-100"],
}


class Number(NamedTuple):
    """A row of preset_numbers.txt."""

    preset: str
    method: str
    parameter: str
    value: str
    source: str


NUMBERS = [
    Number(*(field.strip() for field in line.split("|")))
    for line in (Path(__file__).parent / "preset_numbers.txt").read_text().splitlines()
    if not line.startswith("#")
]


def load(*names: str) -> Params:
    return load_params(REPOSITORY / "params.yaml", [PRESETS / f"{name}.yaml" for name in names])


def plan(params: Params) -> Plan:
    tiny = "tiny-imagenet" in (params.dataset.path or "")
    labels = range(100 if tiny else CLASSES[params.dataset.source])
    names = tuple(f"class {label:03d}" for label in labels)
    return build_plan(params, DatasetFacts(names, names, names), fake_fingerprint)


def test_the_table_and_the_folder_name_the_same_presets() -> None:
    files = {path.stem for path in PRESETS.glob("*.yaml")}
    assert {name for names in EXPERIMENTS for name in names} | set(CHANGES) == files
    for combination in re.findall(
        r"--configfile ((?:presets/\S+ ?)+)", (PRESETS / "README.md").read_text()
    ):
        assert all((REPOSITORY / name).is_file() for name in combination.split())


@pytest.mark.parametrize("names", EXPERIMENTS, ids=" ".join)
@pytest.mark.parametrize("change", [None, *CHANGES])
def test_every_preset_plans(names: list[str], change: str | None) -> None:
    sized = yaml.safe_load((PRESETS / f"{change}.yaml").read_text()) if change else {}
    replay = sized.get("replay", {})
    if "tiny-imagenet-100-prototypes" in names and any(replay.values()) and "policy" not in replay:
        with pytest.raises(KaizenError, match="prototypes"):
            load(*names, change or "")
        return
    params = load(*names, *([change] if change else []))
    planned = plan(params)
    assert {run.point.variant for run in planned.runs} == set(params.grid.variants)
    if change == "tasks-10":
        assert len(planned.runs[0].evaluations[0].job().to_json()["params"]["tasks"]) == 10
    if change == "quick":
        assert sum(node.kind == "step" for node in planned.nodes.values()) <= 5 * params.split.tasks


def test_the_papers_experiment_has_the_papers_numbers() -> None:
    """fidelity.md §4, §8 and §11."""
    planned = plan(load("cifar100"))
    steps = {(run.point.method, run.point.variant): run.steps for run in planned.runs}
    assert planned.runs[0].evaluations[0].job().to_json()["params"]["tasks"][0][:4] == [
        11,
        22,
        39,
        23,
    ]
    for method, lr, decay, classifier_lr in (
        ("simclr", 1.0, 1e-5, 0.1),
        ("mocov2plus", 1.0, 1e-5, 0.1),
        ("byol", 1.0, 1e-5, 0.1),
        ("vicreg", 0.3, 1e-4, 0.05),
    ):
        step = steps[method, "kaizen"][1].job().to_json()["params"]
        train = step["train"]
        assert (train["lr"], train["weight_decay"], train["classifier_lr"]) == (
            lr,
            decay,
            classifier_lr,
        )
        assert (train["epochs"], train["batch_size"], step["replay_batch_size"]) == (500, 256, 32)
        assert (train["optimizer"], train["lars_eta"], train["warmup_epochs"]) == ("lars", 0.02, 10)
        assert step["model"] | {"width": 0} == {
            "backbone": "resnet18", "width": 0, "stem": "cifar", "classifier_hidden": [1000]
        }  # fmt: skip
        assert step["stem_padding_2"] and step["teacher_train_mode"] and step["longest_loader"]
        assert step["feature_distill"]["predictor_hidden"] == 2048
        assert step["feature_distill"]["weight"] == (25.0 if method == "vicreg" else 1.0)
        assert step["classifier_distill"] == {"weight": 2.0, "temperature": 1.0}
    augment = {
        method: steps[method, "kaizen"][0].job().to_json()["params"]["augment"]
        for method in ("simclr", "vicreg")
    }
    assert (augment["simclr"]["crop_scale"], augment["simclr"]["solarize"]) == (
        [0.08, 1.0],
        [0.0, 0.2],
    )
    assert (augment["vicreg"]["crop_scale"], augment["vicreg"]["solarize"]) == (
        [0.2, 1.0],
        [0.1, 0.1],
    )
    sizes = {run.point.replay_size for run in planned.runs if run.point.variant == "kaizen"}
    assert sizes == {0.01} and len(planned.runs) == 16


def test_adopting_a_preset_writes_its_values_and_keeps_the_comments(tmp_path: Path) -> None:
    for name in ("params.yaml", "presets"):
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, tmp_path / name)
    outcome = Project(tmp_path).kaizen("preset", "cifar100", "quick")
    assert outcome.code == 0, outcome.output
    assert load_params(tmp_path / "params.yaml") == load("cifar100", "quick")
    before, after = (
        path.read_text().count("#")
        for path in (REPOSITORY / "params.yaml", tmp_path / "params.yaml")
    )
    assert after > before * 0.8
    unchanged = (tmp_path / "params.yaml").read_bytes()
    outcome = Project(tmp_path).kaizen("preset", "cifar1000")
    assert outcome.code == 2 and "presets/cifar1000.yaml does not exist" in outcome.output
    (tmp_path / "presets" / "bad.yaml").write_text(yaml.safe_dump({"train": {"epochs": 0}}))
    outcome = Project(tmp_path).kaizen("preset", "bad")
    assert outcome.code == 2 and "train.epochs" in outcome.output
    assert (tmp_path / "params.yaml").read_bytes() == unchanged


def leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every parameter that a preset sets, by its path."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path, values


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_every_presets_numbers_are_those_of_its_source(name: str) -> None:
    """Over params.yaml, so that nothing of it, as what it says per method, remains in their
    place.
    """
    params = load(*BASES.get(name, []), name)
    wrong = []
    for row in NUMBERS:
        if row.preset != name:
            continue
        assert row.source
        for method in params.grid.methods if row.method == "*" else [row.method]:
            found: Any = for_method(params, method)
            for part in row.parameter.split("."):
                found = getattr(found, part)
            if found != json.loads(row.value):
                wrong.append((method, row.parameter, found, row.value, row.source))
    assert wrong == []


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_no_number_of_a_preset_lacks_a_source(name: str) -> None:
    values = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    methods = values.get("grid", {}).get("methods", [])
    sourced = {(row.method, row.parameter) for row in NUMBERS if row.preset == name}
    for path, _ in leaves(values):
        section = path.split(".")[0]
        if section in ("report", "runtime") or path == "dataset.path":
            continue
        if section == "per_method":
            _, method, path = path.split(".", 2)
            assert {("*", path), (method, path)} & sourced, (method, path)
        else:
            everywhere = methods and all((method, path) in sourced for method in methods)
            assert everywhere or ("*", path) in sourced, path


def test_the_imagenet_preset_is_cassles_recipe_of_each_method() -> None:
    """Written out once more, as the steps get it: CaSSLe's *_distill.sh of ImageNet-100."""
    steps = {
        run.point.method: run.steps[1].job().to_json()["params"]
        for run in plan(load("imagenet100")).runs
    }
    jitter, schedule, projection = {}, {}, {}
    for method, step in steps.items():
        strengths = step["augment"]["jitter"]
        jitter[method] = [strengths[n] for n in ("brightness", "contrast", "saturation", "hue")]
        train = step["train"]
        schedule[method] = (train["lr"], train["optimizer"], train["warmup_epochs"])
        projection[method] = (step["ssl"]["projector_hidden"], step["ssl"]["projector_out"])
    assert jitter == {
        "simclr": [0.8, 0.8, 0.8, 0.2],
        "mocov2plus": [0.4, 0.4, 0.4, 0.1],
        "byol": [0.4, 0.4, 0.2, 0.1],
        "vicreg": [0.4, 0.4, 0.2, 0.1],
    }
    assert schedule == {
        "simclr": (0.4, "lars", 10),
        "mocov2plus": (0.4, "sgd", 0),
        "byol": (0.6, "lars", 10),
        "vicreg": (0.4, "lars", 10),
    }
    assert projection == {
        "simclr": (2048, 128),
        "mocov2plus": (2048, 128),
        "byol": (4096, 256),
        "vicreg": (2048, 2048),
    }
    assert {method: step["augment"]["solarize"] for method, step in steps.items()} == {
        "simclr": [0.0, 0.0],
        "mocov2plus": [0.0, 0.0],
        "byol": [0.0, 0.2],
        "vicreg": [0.1, 0.1],
    }
