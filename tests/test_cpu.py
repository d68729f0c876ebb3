"""What the CPU decides is recorded, and reported where a node was made by another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from project import make_project

from kaizen.compute.cpu import INSTRUCTIONS, cpu_facts, other_cpu
from kaizen.compute.device import choose_compute
from kaizen.files import read_json
from kaizen.training.resume import Progress, load_resume, save_resume


@pytest.fixture(autouse=True)
def no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in INSTRUCTIONS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cpuinfo(tmp_path: Path) -> Path:
    path = tmp_path / "cpuinfo"
    path.write_text("flags : avx2\nmodel name\t: One CPU @ 2 GHz\nmodel name : Two\n")
    return path


def test_the_environment_tells_model_capability_and_variables(
    cpuinfo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cpu_facts(cpuinfo) == {"cpu_model": "One CPU @ 2 GHz"}
    assert cpu_facts(cpuinfo.with_name("none")) == {}
    for name in INSTRUCTIONS:
        monkeypatch.setenv(name, "avx2")
    assert cpu_facts(cpuinfo) == dict.fromkeys(INSTRUCTIONS, "avx2") | {
        "cpu_model": "One CPU @ 2 GHz"
    }
    found = choose_compute("cpu", "float32", 1).describe()
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert found.items() >= dict.fromkeys(INSTRUCTIONS, "avx2").items()


def test_what_differs_is_named(cpuinfo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = {"cpu_capability": "AVX2", "cpu_model": "One CPU @ 2 GHz"}
    assert other_cpu(recorded, cpuinfo) == other_cpu({}, cpuinfo) == ""
    assert other_cpu(recorded | {"cpu_model": "A"}, cpuinfo) == "cpu_model A, here One CPU @ 2 GHz"
    for name in INSTRUCTIONS:
        assert other_cpu(recorded | {name: "x"}, cpuinfo) == f"{name} x, here not set"
        with monkeypatch.context() as patch:
            patch.setenv(name, "y")
            assert other_cpu(recorded, cpuinfo) == f"{name} not set, here y"


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_a_resume_state_of_other_instructions_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = choose_compute("cpu", "float32", 1)
    save_resume(tmp_path, {"a": torch.ones(2)}, Progress(epoch=3), compute.describe())
    assert load_resume(tmp_path, compute.describe())[1].epoch == 3
    monkeypatch.setenv(name, "default")
    _, progress, refusal = load_resume(tmp_path, compute.describe())
    assert progress.epoch == 0 and "another CPU" in refusal


def test_explain_and_verify_tell_of_another_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, {"grid.variants": ["no_distill"], "train.epochs": 1})
    assert project.kaizen("run").code == 0
    (step, *_) = project.keys("step")
    folder = project.store.root / "step" / step
    environment = read_json(folder / "node.json")["environment"]
    assert environment["cpu_capability"] == torch.backends.cpu.get_cpu_capability()

    def explained() -> str | None:
        text = project.kaizen("explain", f"step/{step}", "--json").output
        found: str | None = json.loads(text)["other_cpu"]
        return found

    assert explained() is None
    assert "another CPU" not in project.kaizen("verify").output
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    difference = "ATEN_CPU_CAPABILITY not set, here default"
    assert explained() == difference
    assert f"bits may differ here: {difference}" in project.kaizen("explain", f"step/{step}").output
    outcome = project.kaizen("verify")
    assert outcome.code == 0 and f"step/{step}: made by another CPU" in outcome.output
