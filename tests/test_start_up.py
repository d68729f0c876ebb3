"""What a job must not import: each is seconds of every job's start."""

from __future__ import annotations

import json
import sys

import pytest
from project import Project, node_command

from kaizen.store.node_id import Kind

# torch's compiler, the checks of what a person wrote, and packages of others.
HEAVY = ("torch._dynamo", "pydantic", "torchvision", "timm", "snakemake", "dvc")

SMALL = {
    "model.backbone": "resnet18",
    "grid.variants": ["kaizen"],
    "grid.specialists": True,
    "grid.heads": ["trained", "lda"],
    "replay.policy": "herding",
    "split.tasks": 2,
    "train.epochs": 1,
}


@pytest.fixture(scope="module")
def loaded(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The modules that a job of each kind had imported at its end."""
    project = fresh.copy(tmp_path_factory.mktemp("start") / "project")
    project.set(SMALL)
    found: dict[str, set[str]] = {}
    for spec in project.plan():
        command = node_command(project.store.root, spec)
        assert command[:3] == [sys.executable, "-m", "kaizen"]
        code = (
            "import json, sys; from kaizen.cli import main; "
            f"code = main({command[3:]!r}); print(json.dumps(list(sys.modules))); sys.exit(code)"
        )
        outcome = project.process(sys.executable, "-c", code)
        assert outcome.code == 0, outcome.output
        modules = json.loads(outcome.output.splitlines()[-1])
        found.setdefault(spec["kind"], set()).update(modules)
    return found


@pytest.mark.parametrize("kind", list(Kind))
def test_no_job_imports_what_it_does_not_need(kind: Kind, loaded: dict[str, set[str]]) -> None:
    modules = loaded[kind]
    assert "kaizen.jobs.makers" in modules
    assert not modules.intersection(HEAVY)
    # Only a step computes with compiled functions. numba reads its settings with yaml.
    assert ("numba" in modules) == (kind is Kind.STEP)
    assert "yaml" not in modules or "numba" in modules
    needs_torch = kind not in (Kind.SHARDS, Kind.SUMMARY)
    assert ("torch" in modules) == needs_torch
    assert ("vl_convert" in modules) == (kind is Kind.SUMMARY)


def test_the_server_of_a_parallel_run_imports_no_more(fresh: Project) -> None:
    code = (
        "import importlib, json, sys\n"
        "from kaizen.jobs.parallel import PRELOADED\n"
        "for name in PRELOADED: importlib.import_module(name)\n"
        "import torch\n"
        "print(json.dumps([list(sys.modules), torch.cuda.is_initialized()]))"
    )
    outcome = fresh.process(sys.executable, "-c", code)
    modules, on_gpu = json.loads(outcome.good())
    assert not set(modules).intersection(HEAVY) and not on_gpu
    assert {"torch", "kaizen.training.step", "kaizen.evaluation.run"} <= set(modules)
