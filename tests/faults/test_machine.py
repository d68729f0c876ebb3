"""A machine that is other than expected: without a GPU, without memory, with a wrong clock, or
shared with a twin.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image
from project import Outcome, Project, make_project

from faults.table import fault
from faults.warm import Warm
from kaizen.files import read_json
from kaizen.store.node_id import NodeId
from kaizen.store.records import RUN_RECORD

YEAR = 365 * 24 * 3600


# -- no GPU ------------------------------------------------------------------------------------


@pytest.fixture
def without_gpu(fresh: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that wants a GPU, on a machine that has none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    project = fresh.copy(tmp_path / "project")
    project.set({"train.device": "cuda"})
    return project


@pytest.mark.rows("no GPU, in one process")
def test_no_gpu_in_one_process(without_gpu: Project, warm: Warm) -> None:
    fault("no GPU, in one process").check(warm.kaizen(without_gpu, "run"))
    assert not list(without_gpu.store.entries()), "found out before the shards are made"


@pytest.mark.rows("no GPU, with a plan made elsewhere")
def test_no_gpu_with_a_plan_made_elsewhere(without_gpu: Project, warm: Warm) -> None:
    plan = without_gpu.kaizen("plan", "--json").output
    (without_gpu.root / "plan.json").write_text(plan)
    outcome = warm.kaizen(without_gpu, "run", "--plan", "plan.json")
    fault("no GPU, with a plan made elsewhere").check(outcome)
    assert not list(without_gpu.store.entries())


@pytest.mark.rows("no GPU, with snakemake")
def test_no_gpu_with_snakemake(without_gpu: Project) -> None:
    """Without a cluster's profile the jobs run here: refused before any."""
    fault("no GPU, with snakemake").check(without_gpu.snakemake())
    assert without_gpu.nodes() == {} and without_gpu.leftovers() == []


# -- memory ------------------------------------------------------------------------------------


def plan_of(project: Project, *kinds: str) -> tuple[str, ...]:
    """The command that makes the first node of each kind and nothing else."""
    plan = json.loads(project.kaizen("plan", "--json").output)
    nodes = [next(node for node in plan["nodes"] if node["kind"] == kind) for kind in kinds]
    (project.root / "plan.json").write_text(json.dumps({"nodes": nodes}))
    return ("run", "--plan", "plan.json")


@pytest.mark.parametrize("encoding", ["file", "raw"])
@pytest.mark.rows("no memory for ingestion")
def test_ingestion_streams(encoding: str, warm: Warm, tmp_path: Path) -> None:
    """40 images of 12 MB of pixels each, 480 MB: no more than a chunk and a row group are in
    memory.
    """
    project = make_project(
        tmp_path / "project", {"image.load_size": 8, "dataset.encoding": encoding}
    )
    shutil.rmtree(project.images)
    # Each its own, as images that are in several classes are refused.
    number = 0
    for part, count in (("train", 9), ("test", 1)):
        for name in ("ant", "bee", "cat", "dog"):
            (project.images / part / name).mkdir(parents=True)
            for _ in range(count):
                number += 1
                image = Image.new("RGB", (2000, 2000), (200, 10, number))
                image.save(project.images / part / name / f"{number}.png")
    command = plan_of(project, "shards")
    least = warm.kaizen(project, "check").peak_mb
    outcome = warm.kaizen(project, *command)
    assert outcome.code == 0, outcome.output
    print(f"ingestion of 480 MB as {encoding}: {outcome.peak_mb - least:.0f} MB")
    assert outcome.peak_mb - least < 250
    nodes = project.nodes()
    shutil.rmtree(project.store.root)
    fault("no memory for ingestion").check(
        warm.kaizen(project, *command, inject={"limit_memory": {"megabytes": 8}})
    )
    assert project.nodes() == {} and project.leftovers() == []
    assert warm.kaizen(project, *command).code == 0
    assert project.nodes() == nodes


@pytest.mark.rows("no memory for a step")
def test_training_streams(warm: Warm, tmp_path: Path) -> None:
    """A shard of 66 MB of pixels, with and without the room for it."""
    synthetic = {"classes": 4, "train": 1200, "test": 2, "size": 96, "channels": 3}
    changes = {
        "dataset.source": "synthetic",
        "dataset.path": None,
        "dataset.synthetic": synthetic,
        "dataset.row_group_mb": 1.0,
        "grid.variants": ["kaizen"],
        "train.epochs": 1,
    }
    project = make_project(tmp_path / "project", changes)
    assert warm.kaizen(project, *plan_of(project, "shards")).code == 0
    least = warm.kaizen(project, "check").peak_mb
    peaks = {}
    for limit in (4096.0, 8.0):
        project.set({"train.stream_above_mb": limit})
        outcome = warm.kaizen(project, *plan_of(project, "step"))
        assert outcome.code == 0, outcome.output
        peaks[limit] = outcome.peak_mb - least
    print(f"training on 66 MB: {peaks}")
    # Two pools of 8 MB, and what a thread reads ahead, in place of 66 MB.
    assert peaks[8.0] < peaks[4096.0] - 20
    project.set({"train.lr": 0.5})
    nodes = project.nodes()
    command = plan_of(project, "step")
    fault("no memory for a step").check(
        warm.kaizen(project, *command, inject={"limit_memory": {"megabytes": 8}})
    )
    assert project.nodes() == nodes and project.leftovers() == []


# -- the clock ---------------------------------------------------------------------------------


def snakemake(project: Project, *arguments: str, years_back: int = 0) -> Outcome:
    """Run snakemake, with the system's clock set back by so many years."""
    clock = shutil.which("faketime")
    if clock is None:
        pytest.skip("no faketime here (Debian's package faketime)")
    command = [clock, "-f", f"-{years_back}y"] if years_back else []
    project.variables = {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return project.process(*command, *project.snakemake_command(*arguments))


@pytest.mark.rows("clock set back by a year")
def test_a_clock_that_was_set_back(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    nodes = project.nodes()
    assert "Nothing to be done" in snakemake(project, "--dry-run", years_back=1).output
    # The last step is missing: it, its evaluation and the summary are made from parents that lie in
    # the future.
    step = max(
        project.keys("step"),
        key=lambda key: len(project.store.read_record(NodeId.of("step", key)).inputs),
    )
    evaluation, summary = project.keys("evaluation")[0], project.keys("summary")[0]
    for kind, key in (("step", step), ("evaluation", evaluation), ("summary", summary)):
        shutil.rmtree(project.store.folder(NodeId.of(kind, key)))
    shutil.rmtree(project.root / "results")
    outcome = snakemake(project, years_back=1)
    fault("clock set back by a year").check(outcome)
    assert project.nodes() == nodes
    began = {
        node.key: read_json(project.store.folder(node) / RUN_RECORD)["began"] for node in nodes
    }
    assert {key for key, moment in began.items() if moment < time.time() - YEAR / 2} == {
        step,
        evaluation,
        summary,
    }
    # And forward again, with all files of the last year: nothing is made twice, whatever is newer
    # than what.
    assert "Nothing to be done" in snakemake(project, "--dry-run").output
    for path in project.root.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() + YEAR, time.time() + YEAR))
    assert "Nothing to be done" in snakemake(project, "--dry-run").output


# -- two at once -------------------------------------------------------------------------------


def start_snakemake(project: Project) -> subprocess.Popen[str]:
    return subprocess.Popen(
        project.snakemake_command(),
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> Outcome:
    output, _ = process.communicate()
    return Outcome(process.returncode, output)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.rows("two snakemakes in two checkouts with one store")
def test_two_snakemakes_with_one_store(fresh: Project, finished: Project, tmp_path: Path) -> None:
    one, two = (fresh.copy(tmp_path / name) for name in ("one", "two"))
    two = Project(two.root, one.store.root)
    # Each job says that it made its node.
    one.variables["KAIZEN_TERMINAL"] = two.variables["KAIZEN_TERMINAL"] = "all"
    outcomes = [ended(process) for process in [start_snakemake(one), start_snakemake(two)]]
    for outcome in outcomes:
        fault("two snakemakes in two checkouts with one store").check(outcome)
    assert one.nodes() == finished.nodes() and one.leftovers() == []
    # Each node was made once: one of the two says so of each, the other waited or found it there.
    made = [
        sum(line.endswith(": done") for line in outcome.output.splitlines()) for outcome in outcomes
    ]
    assert sum(made) == len(finished.nodes()), outcomes
    for name in ("results/manifest.json", "results/summary/report.md"):
        assert (
            (one.root / name).read_bytes()
            == (two.root / name).read_bytes()
            == (finished.root / name).read_bytes()
        )


@pytest.mark.slow
@pytest.mark.rows("two snakemakes in one checkout", "a snakemake that was killed has left its lock")
def test_two_snakemakes_in_one_checkout_and_a_lock_that_is_left(
    fresh: Project, finished: Project, tmp_path: Path
) -> None:
    project = fresh.copy(tmp_path / "project")
    first = start_snakemake(project)
    wait_for(project.root / ".kaizen/receipts/shards", first)
    fault("two snakemakes in one checkout").check(ended(start_snakemake(project)))
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    before = project.nodes()
    fault("a snakemake that was killed has left its lock").check(ended(start_snakemake(project)))
    assert project.snakemake("--unlock").code == 0
    outcome = ended(start_snakemake(project))
    assert outcome.code == 0, outcome.output
    assert project.nodes() == finished.nodes() and before.items() <= project.nodes().items()
